"""The UI as ``opencs ui`` starts it: a real server, a real browser, a real sensor."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import environment, small_home

pytestmark = pytest.mark.e2e
STARTED_S = 180
LANDED_S = 180
PAGE_MS = 40_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(found: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(1)
    raise AssertionError(f"{what}: not within {seconds} s")


class Ui:
    """A running UI."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, query: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)["data"]

    def up(self) -> bool:
        try:
            nodes = self.ask("{ assetNodes { id } }")["assetNodes"]
        except OSError:
            return False
        return len(nodes) > 10


@pytest.fixture(scope="module")
def ui(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    home = small_home(tmp_path_factory.mktemp("home"), models_dir)
    settings = home / "settings.toml"
    # Reading a file is enough to see the sensor work.
    settings.write_text(
        settings.read_text().replace("[landing]\n", '[landing]\non_new_data = "ingest"\n')
    )
    port = free_port()
    with (home / "ui.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "opencs_assets.cli", "ui", "--port", str(port)],
            env=environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            running = Ui(home, port)
            until(running.up, STARTED_S, f"the UI (log: {(home / 'ui.log').read_text()[-2000:]})")
            yield running
        finally:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def test_every_asset_says_what_it_is(ui):
    nodes = ui.ask(
        "{ assetNodes { assetKey { path } description groupName kinds owners "
        "{ ... on TeamAssetOwner { team } } } }"
    )["assetNodes"]
    for node in nodes:
        assert node["description"], node
        assert node["groupName"] != "default", node
        assert node["kinds"], node
        assert node["owners"], node


def test_a_dropped_file_becomes_a_dataset_and_is_read(ui):
    landing = ui.home / "landing"
    (landing / "dropped.jsonl").write_text('{"instruction": "Say yes", "output": "Yes"}\n')

    def read() -> list[Any]:
        return ui.ask(
            '{ assetNodeOrError(assetKey: {path: ["raw_dataset"]}) { ... on AssetNode '
            '{ assetMaterializations(partitions: ["dropped"]) { runId } } } }'
        )["assetNodeOrError"]["assetMaterializations"]

    until(read, LANDED_S, "the dropped file")
    # A second look at the same content starts nothing.
    time.sleep(20)
    assert len(read()) == 1


def test_the_graph_is_drawn(ui, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    shot = tmp_path / "graph.png"
    subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--virtual-time-budget={PAGE_MS}",
            "--window-size=1800,1200",
            f"--screenshot={shot}",
            f"{ui.url}/asset-groups",
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert shot.stat().st_size > 20_000
