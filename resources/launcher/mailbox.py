"""A job's reports as numbered files in a folder, on a shared volume or in object storage.

A log stream can break, and its reader may be killed; files stay, so that the run that takes a job
over reads all its reports. Each attempt of a job writes into a folder of its own, named by when it
began; a file appears there whole, with the next messages of Dagster Pipes as lines of JSON.
"""

import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import fsspec
from dagster_pipes import (
    PipesBlobStoreMessageWriter,
    PipesBlobStoreMessageWriterChannel,
    PipesDefaultMessageWriter,
    PipesParams,
)

from resources.http import pause_s
from resources.remote import put

URL = "url"
# Variable with the name of the pod, by which its attempt is known.
POD = "OPENCS_POD"
UPLOAD_EVERY_S = 2.0
# Seconds that the storage may take for the last messages, of which the result is one.
CLOSE_WITHIN_S = 900.0
SUFFIX = ".jsonl"

Message = Mapping[str, Any]


class MailboxWriter(PipesBlobStoreMessageWriter["MailboxChannel"]):
    """The job's side of the mailbox: a Pipes message writer, whose parameter is the URL."""

    def __init__(self) -> None:
        super().__init__(interval=UPLOAD_EVERY_S)

    def make_channel(self, params: PipesParams) -> "MailboxChannel":
        """The channel of this attempt."""
        return MailboxChannel(str(params[URL]), interval=self.interval)


class MailboxChannel(PipesBlobStoreMessageWriterChannel):
    """Writes the messages of one attempt; the interval is the least seconds between two files."""

    def __init__(self, url: str, *, interval: float) -> None:
        super().__init__(interval=interval)
        process = os.environ.get(POD) or socket.gethostname()
        attempt = f"{time.time_ns() // 1_000_000:014d}.{process}"
        self._fs, root = fsspec.core.url_to_fs(url)
        self._folder = f"{root}/{attempt}"

    @contextmanager
    def buffered_upload_loop(self) -> Iterator[None]:
        """Write files during the block, and wait at its end until the last one is written."""
        over = threading.Event()
        thread = threading.Thread(target=self._upload_loop, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(CLOSE_WITHIN_S)
            if thread.is_alive():
                print("the last reports could not be written", file=sys.stderr, flush=True)

    def upload_messages_chunk(self, payload: StringIO, index: int) -> None:
        """Write one file, and try again until the storage takes it: no message may be lost."""
        content = payload.read().encode()
        for tries in itertools.count(1):
            try:
                put(self._fs, f"{self._folder}/{index:08d}{SUFFIX}", content)
            except Exception as error:
                # Each storage driver has errors of its own; none of them may end the thread.
                pause = pause_s(tries)
                print(f"reports can't be written, again in {pause:.1f} s: {error}", file=sys.stderr)
                time.sleep(pause)
            else:
                return


class Mailbox:
    """The reader's side of a mailbox.

    Attributes:
        parameter: Name of the parameter in which Pipes tells the job the mailbox's URL.
    """

    parameter = URL

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._read: set[str] = set()

    def new(self) -> Iterator[tuple[str, Message]]:
        """Messages that were not read yet, each with its attempt's name, in order.

        Raises:
            OSError: The storage can't be read now.
        """
        self._fs.invalidate_cache()
        for path in sorted(self._fs.find(self._root)):
            if path in self._read or not path.endswith(SUFFIX):
                continue
            content = self._fs.cat_file(path)
            self._read.add(path)
            attempt = path.rsplit("/", 2)[-2]
            for line in content.decode().splitlines():
                yield attempt, json.loads(line)


class MessageFile:
    """The reports of a job with one attempt on this machine, in a file that Pipes itself writes."""

    parameter = PipesDefaultMessageWriter.FILE_PATH_KEY

    def __init__(self, url: str) -> None:
        self._file, self._read = Path(url), 0

    def new(self) -> Iterator[tuple[str, Message]]:
        """Messages that were not read yet; a line that is not whole yet is left for later."""
        with suppress(FileNotFoundError), self._file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                # Whoever fails at a message has the ones after it at the next look.
                self._read += len(line)
                yield "", json.loads(line)
