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

from opencs_assets.benchmarks.errors import BenchmarkError
from opencs_assets.benchmarks.questions import (
    FOLDER,
    PACKAGED,
    Found,
    as_published,
    find_benchmarks,
    read_benchmark,
)
from opencs_assets.config.benchmarks import DECLARED, DeclaredBenchmark, File
from opencs_assets.files.versions import write_whole
from resources.errors import InternalError
from resources.http import BusyError, ask
from resources.provenance import file_hash

TRIES = 4
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 20.0
TIMEOUT_S = 30.0
# The largest file has 170 kB; what is longer is something else.
MOST_BYTES = 32_000_000

State = Literal["fetched", "already there"]


@dataclass(frozen=True)
class Fetched:
    """A file that is there now.

    Attributes:
        benchmark: Its benchmark.
        path: The file.
        source: Where it was had from; empty where it was there already.
        bytes: Its size.
    """

    benchmark: str
    path: Path
    source: str
    bytes: int

    @property
    def state(self) -> State:
        """What was done."""
        return "fetched" if self.source else "already there"


def fetchable() -> list[str]:
    """Names of the benchmarks that can be fetched."""
    return [each.name for each in DECLARED.values() if each.files]


def fetch(
    home: Path,
    names: Sequence[str] = (),
    *,
    source: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Fetched]:
    """Have benchmarks' files in the home; those that are there already are left alone.

    Args:
        home: The home.
        names: Benchmarks; none: all that can be fetched.
        source: A folder that holds the files, or the URL of one; unset: their public sources.
        say: Told one line before each wait.

    Yields:
        What became of each file, as soon as it is there.

    Raises:
        BenchmarkError: An unknown name, a file that can't be had, one with another hash, or one
            in the home that is not the published one. Files had before stay.
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
            yield _have(home, DECLARED[name], file, source, say)


def _have(
    home: Path,
    benchmark: DeclaredBenchmark,
    file: File,
    source: str | None,
    say: Callable[[str], None],
) -> Fetched:
    target = home / FOLDER / file.name
    if target.exists():
        if file_hash(target) != file.sha256:
            raise BenchmarkError(
                f"{target} is there, but is not the published file (its SHA-256 is another); "
                "remove it, or give it another name, and fetch again"
            )
        return Fetched(benchmark.name, target, "", target.stat().st_size)
    failures = []
    for place in _places(file, source):
        try:
            content = _download(place, say) if _is_url(place) else _copied(Path(place))
            _verify(content, file)
        except _SourceError as error:
            failures.append(f"{place}: {error}")
            continue
        _write(target, content)
        return Fetched(benchmark.name, target, place, len(content))
    raise BenchmarkError(
        f"{file.name} of {benchmark.name} can't be had; nothing was kept. "
        + "; ".join(failures)
        + f". Put the file into {target.parent}, or name a folder that has it with --from"
    )


def _places(file: File, source: str | None) -> tuple[str, ...]:
    """Where a file may be: in a folder under its path, or under its name alone."""
    if source is None:
        return file.urls
    root = source.rstrip("/")
    return tuple(dict.fromkeys((f"{root}/{file.name}", f"{root}/{Path(file.name).name}")))


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


class _SourceError(InternalError):
    """A source does not give the file; the message says why."""


def _copied(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _SourceError(f"is larger than {MOST_BYTES:,} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise _SourceError("is not there") from None
    except OSError as error:
        raise _SourceError(f"can't be read: {error.strerror}") from None


def _download(url: str, say: Callable[[str], None]) -> bytes:
    """The body at a URL; what another try may mend is tried again, after a wait."""
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
    parts, size = [], 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > MOST_BYTES:
            raise _SourceError(f"is larger than {MOST_BYTES:,} bytes")
        parts.append(part)
    return b"".join(parts)


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
        write_whole(target, content)
    except OSError as error:
        free = shutil.disk_usage(target.parent).free if target.parent.exists() else 0
        raise BenchmarkError(
            f"{target} can't be written: {error.strerror or error} ({free:,} bytes free)"
        ) from None


def list_benchmarks(home: Path) -> list[dict[str, object]]:
    """What is known and what is there, one row a benchmark.

    Raises:
        BenchmarkError: A file's name is no name of a benchmark, or two files are one benchmark.
    """
    there = find_benchmarks(home)
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys([*DECLARED, *there]):
        known, found = DECLARED.get(name), there.get(name)
        if found is None:
            state = "not fetched"
        elif found.path.parent == PACKAGED:
            state = "in the package"
        elif known is None or known.file is None:
            state = "your own"
        elif not as_published(found):
            state = "not the published file"
        elif known.references and not found.references:
            state = "without references"
        else:
            state = "fetched"
        rows.append(
            {
                "name": name,
                "questions": known.questions if known and known.file else _count(found),
                "turns": known.turns if known else None,
                "what": known.title if known else "a benchmark of your own",
                "state": state,
                "file": str(found.path) if found else None,
                "source": known.files[0].urls[0] if known and known.files else None,
            }
        )
    return rows


def _count(found: Found | None) -> int | None:
    """Questions of a file that is not a published one; nothing where it can't be read."""
    try:
        return read_benchmark(found).height if found else None
    except BenchmarkError:
        return None
