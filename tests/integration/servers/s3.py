"""A bucket of a real S3 server (moto's) on loopback."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from tests.integration.servers.started import running_process

NAME = "opencs"


def environment(port: int) -> dict[str, str]:
    """How drivers find the server."""
    return {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def s3_bucket(folder: Path) -> Iterator[str]:
    """A server and its bucket, whose variables are set meanwhile.

    Args:
        folder: Where its log goes.
    """
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "s3.log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with running_process(command, stdout=log, stderr=log) as server:
            try:
                for name, value in environment(port).items():
                    patch.setenv(name, value)
                _until_it_listens(port, server)
                fsspec.filesystem("s3").mkdir(NAME)
                yield f"s3://{NAME}"
            finally:
                fsspec.filesystem("s3").clear_instance_cache()


def _until_it_listens(port: int, server: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 60
    while True:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "the S3 server ended"
        assert time.monotonic() < end, "the S3 server does not listen"
        time.sleep(0.1)
