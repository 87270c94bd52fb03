"""Follows a pod's log and passes it on, as far as it comes.

The log is for people only: what a run needs to know comes through the mailbox, so a log that breaks
or falls silent costs nothing but lines.
"""

import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from kubernetes.client.exceptions import ApiException

from resources.launcher.kubernetes.api import UNREACHABLE, Api

AGAIN_AFTER_S = 2.0
END_WITHIN_S = 3.0


class LogFollower:
    """A thread that passes on the log of the pod of a name."""

    def __init__(self, api: Api, pod: str) -> None:
        self._api, self._pod = api, pod
        self._last = ""
        self._over = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._run, name=f"log-{pod}", daemon=True)
        self._thread.start()

    def end(self, within_s: float = END_WITHIN_S) -> None:
        """Let the thread come to the log's end, for twice so many seconds at most."""
        self._over.set()
        self._thread.join(within_s)
        if not self._thread.is_alive():
            return
        # The stream is silent; closing it would wait for the thread that reads it.
        with suppress(AttributeError, ValueError, *UNREACHABLE):
            self._stream.shutdown()
        self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except ApiException as error:
                if error.status == 404:
                    return
            except (ValueError, *UNREACHABLE):
                # The stream broke off, or was silent for too long.
                pass
            else:
                if self._over.is_set():
                    return
            if self._over.wait(AGAIN_AFTER_S):
                with suppress(ApiException, ValueError, *UNREACHABLE):
                    self._follow(follow=False)
                return

    def _follow(self, *, follow: bool = True) -> None:
        self._stream = self._api.log(self._pod, self._since(), follow=follow)
        rest = b""
        for chunk in self._stream.stream(4096):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._pass_on(line.decode("utf-8", "replace"))
        self._pass_on(rest.decode("utf-8", "replace"))

    def _pass_on(self, line: str) -> None:
        stamp, _, text = line.partition(" ")
        # After a break the log begins a little before where it broke. Stamps sort as text.
        if not stamp or stamp <= self._last:
            return
        self._last = stamp
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _since(self) -> int | None:
        if not self._last:
            return None
        try:
            last = datetime.fromisoformat(self._last[:19]).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None
        # The minute more is for the node's clock, which is another one; known lines are left out.
        return max(1, int(time.time() - last) + 60)
