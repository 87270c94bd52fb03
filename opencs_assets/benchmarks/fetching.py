"""Fetching benchmarks from their public sources, or from a folder or mirror that has the files.

A file is kept only if its bytes have the declared hash, and appears whole or not at all.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from opencs_assets.benchmarks.questions import (
    FOLDER,
    PACKAGED,
    BenchmarkError,
    BenchmarkFiles,
    as_published,
    find_benchmarks,
    read_benchmark,
)
from opencs_assets.config.benchmarks import DECLARED, DeclaredBenchmark, File
from resources.errors import InternalError
from resources.files import SHARED, write_whole
from resources.http import BusyError, ask
from resources.provenance import file_hash

TRIES = 4
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 20.0
TIMEOUT_S = 30.0
# The largest published file has 170 kB, so that a longer body is something else.
MOST_BYTES = 32_000_000

State = Literal["fetched", "already there"]


@dataclass(frozen=True)
class FetchedFile:
    """A benchmark's file that is there now; its ``source`` is empty where it was there before."""

    benchmark: str
    path: Path
    source: str
    bytes: int

    @property
    def state(self) -> State:
        """Whether the file was fetched now."""
        return "fetched" if self.source else "already there"


def fetchable() -> list[str]:
    """Names of the benchmarks that can be fetched."""
    return [benchmark.name for benchmark in DECLARED.values() if benchmark.files]


def fetch(
    home: Path,
    names: Sequence[str] = (),
    *,
    source: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[FetchedFile]:
    """Bring benchmarks' files into the home, and yield each as soon as it is there.

    Files that are there already are left alone. Without names, all benchmarks are fetched;
    ``source`` is a folder that holds the files, or the URL of one, in place of their public
    sources; ``say`` takes one line for a person before each wait.

    Raises:
        BenchmarkError: A name is unknown, a file can't be fetched or has another hash, or the
            home holds one that is not the published one. Files fetched before it stay.
    """
    for name in names:
        if name not in fetchable():
            reason = "is in the package" if name in DECLARED else "is not known"
            raise BenchmarkError(
                f"benchmark {name!r} {reason}; to be fetched are {', '.join(fetchable())}. Put a "
                f"benchmark of your own into {home / FOLDER} as NAME.jsonl"
            )
    for name in dict.fromkeys(names or fetchable()):
        for file in DECLARED[name].files:
            yield _fetch_file(home, DECLARED[name], file, source, say)


def _fetch_file(
    home: Path,
    benchmark: DeclaredBenchmark,
    file: File,
    source: str | None,
    say: Callable[[str], None],
) -> FetchedFile:
    target = home / FOLDER / file.name
    if target.exists():
        if file_hash(target) != file.sha256:
            raise BenchmarkError(
                f"{target} is there, but is not the published file (its SHA-256 is another); "
                "remove it, or give it another name, and fetch again"
            )
        return FetchedFile(benchmark.name, target, "", target.stat().st_size)
    failures = []
    for place in _places(file, source):
        try:
            is_url = place.startswith(("http://", "https://"))
            content = _download(place, say) if is_url else _read(Path(place))
            _verify(content, file)
        except _SourceError as error:
            failures.append(f"{place}: {error}")
            continue
        _write(target, content)
        return FetchedFile(benchmark.name, target, place, len(content))
    raise BenchmarkError(
        f"{file.name} of {benchmark.name} can't be had; nothing was kept. "
        + "; ".join(failures)
        + f". Put the file into {target.parent}, or name a folder that has it with --from"
    )


def _places(file: File, source: str | None) -> tuple[str, ...]:
    """Where a file may be; a folder may hold it under its path or under its name alone."""
    if source is None:
        return file.urls
    root = source.rstrip("/")
    return tuple(dict.fromkeys((f"{root}/{file.name}", f"{root}/{Path(file.name).name}")))


class _SourceError(InternalError):
    """A source does not give the file; the message says why."""


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _SourceError(f"is larger than {MOST_BYTES:,} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise _SourceError("is not there") from None
    except OSError as error:
        raise _SourceError(f"can't be read: {error.strerror}") from None


def _download(url: str, say: Callable[[str], None]) -> bytes:
    """The body at a URL; a failure that may pass is tried again after a wait."""
    bodies: list[bytes] = []

    def send() -> httpx.Response:
        with httpx.stream("GET", url, timeout=TIMEOUT_S, follow_redirects=True) as answer:
            if answer.status_code == 200:
                bodies.append(_body(answer))
            return answer

    def wait(pause: float, reason: str) -> None:
        say(f"{url}: {reason}; trying again in {pause:.1f} s")
        time.sleep(pause)

    try:
        answer = ask(send, wait, tries=TRIES, first_s=FIRST_WAIT_S, longest_s=MOST_WAIT_S)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise _SourceError(f"{type(error).__name__}: {error}") from None
    except BusyError as error:
        raise _SourceError(str(error)) from None
    if not bodies:
        raise _SourceError(f"HTTP {answer.status_code}")
    return bodies[0]


def _body(answer: httpx.Response) -> bytes:
    body = bytearray()
    for part in answer.iter_bytes():
        body += part
        if len(body) > MOST_BYTES:
            raise _SourceError(f"is larger than {MOST_BYTES:,} bytes")
    return bytes(body)


def _verify(content: bytes, file: File) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        raise _SourceError(
            f"its SHA-256 is {sha256[:16]}…, not the published file's {file.sha256[:16]}… "
            f"({len(content):,} bytes)"
        )


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content, SHARED)
    except OSError as error:
        free = shutil.disk_usage(target.parent).free if target.parent.exists() else 0
        raise BenchmarkError(
            f"{target} can't be written: {error.strerror or error} ({free:,} bytes free)"
        ) from None


def list_benchmarks(home: Path) -> list[dict[str, object]]:
    """One row for each benchmark that is declared or in the home, with its state.

    Raises:
        BenchmarkError: A file's name is no name of a benchmark, or two files are one benchmark.
    """
    there = find_benchmarks(home)
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys([*DECLARED, *there]):
        known, files = DECLARED.get(name), there.get(name)
        if files is None:
            state = "not fetched"
        elif files.path.parent == PACKAGED:
            state = "in the package"
        elif known is None or known.file is None:
            state = "your own"
        elif not as_published(files):
            state = "not the published file"
        elif known.references and not files.references:
            state = "without references"
        else:
            state = "fetched"
        rows.append(
            {
                "name": name,
                "questions": known.questions if known and known.file else _count(files),
                "turns": known.turns if known else None,
                "what": known.title if known else "a benchmark of your own",
                "state": state,
                "file": str(files.path) if files else None,
                "source": known.files[0].urls[0] if known and known.files else None,
            }
        )
    return rows


def _count(files: BenchmarkFiles | None) -> int | None:
    """How many questions the files hold; ``None`` where they can't be read."""
    try:
        return read_benchmark(files).height if files else None
    except BenchmarkError:
        return None
