"""Starting one of these servers as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent


@contextmanager
def started(script: str) -> Iterator[str]:
    """Run a server's script while the block lasts.

    Args:
        script: Its file here, such as ``answer_server.py``.

    Yields:
        Its base URL.
    """
    command = [sys.executable, str(FOLDER / script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
