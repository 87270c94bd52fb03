"""Large files of a batch, as long as this process works with them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from resources.llm.errors import LLMError


class Spool:
    """Bytes on disk, in a file without a name that ends with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.size = 0
        with self._guard():
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (see close)

    def close(self) -> None:
        """Give the disk space back."""
        # Bytes that are not on the disk yet are not needed any more.
        with suppress(OSError):
            self._file.close()

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            LLMError: The disk does not take them.
        """
        with self._guard():
            self._file.write(data)
        self.size += len(data)

    def whole(self) -> IO[bytes]:
        """The file, at its start."""
        with self._guard():
            self._file.flush()
            self._file.seek(0)
        return self._file

    def lines(self) -> Iterator[bytes]:
        r"""The lines, which end in ``\n`` alone: replies may hold line breaks of other kinds."""
        # A generator that is left early would close the file, so this is no "yield from".
        return iter(self.whole().readline, b"")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LLMError(
                f"the file of a batch can't be kept in {self._folder}: {error.strerror}; make "
                "room there, or the folder writable, and run again"
            ) from None
