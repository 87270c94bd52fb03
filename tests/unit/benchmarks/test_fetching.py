"""Benchmarks fetched over real HTTP: hashes decide, nothing half-made or wrong is kept."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from opencs_assets.benchmarks import fetching
from opencs_assets.benchmarks.fetching import fetch, list_benchmarks
from opencs_assets.benchmarks.questions import BenchmarkError
from opencs_assets.config.benchmarks import DECLARED, File
from tests.integration.servers.started import first_line, running_process

# A file server that can be told to fail, as a process of its own: ``POST /fail`` with the statuses
# to answer first (0: cut the connection in the middle of the body).
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

root, failing, asked = Path(sys.argv[1]), [], []

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_POST(self):
        failing[:] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked.clear()
        self.reply(200, b"")
    def do_GET(self):
        if self.path == "/asked":
            return self.reply(200, json.dumps(asked).encode())
        asked.append(self.path)
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/moved"))
            self.send_header("content-length", "0")
            return self.end_headers()
        file = root / self.path.lstrip("/")
        content = file.read_bytes() if file.is_file() else None
        status = failing.pop(0) if failing else 200 if content is not None else 404
        if status == 0:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:10])
            self.wfile.flush()
            self.connection.close()
            return
        self.reply(status, content if status == 200 else b"no")
    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 429:
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
QUESTION = b'{"id": "a", "prompt": "Why?"}\n'
REFERENCE = b'{"question_id": "a", "choices": [{"turns": ["So."]}]}\n'


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    command = [sys.executable, "-c", SERVER, str(root)]
    with running_process(command, stdout=subprocess.PIPE) as process:
        yield f"http://127.0.0.1:{first_line(process)}"


@pytest.fixture
def served(root, url, monkeypatch):
    """A known benchmark of one question that stands at two addresses of the server."""
    (root / "koala").mkdir(exist_ok=True)
    (root / "koala" / "koala_test_set.jsonl").write_bytes(QUESTION)
    (root / "ref.jsonl").write_bytes(REFERENCE)
    declared = replace(
        DECLARED["koala"],
        questions=1,
        file=File(
            "koala_test_set.jsonl",
            hashlib.sha256(QUESTION).hexdigest(),
            (f"{url}/elsewhere/koala_test_set.jsonl", f"{url}/koala/koala_test_set.jsonl"),
        ),
        references=File(
            "koala/reference_answer_x.jsonl",
            hashlib.sha256(REFERENCE).hexdigest(),
            (f"{url}/ref.jsonl",),
        ),
    )
    monkeypatch.setattr(fetching, "FIRST_WAIT_S", 0.01)
    monkeypatch.setitem(DECLARED, "koala", declared)  # type: ignore[arg-type]
    httpx.post(f"{url}/fail", json=[])
    return declared


def kept(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())


def test_files_come_from_where_they_are_and_are_not_fetched_twice(served, url, tmp_path):
    got = list(fetch(tmp_path, ["koala"]))
    assert [each.state for each in got] == ["fetched", "fetched"]
    assert got[0].source == f"{url}/koala/koala_test_set.jsonl"
    assert (tmp_path / "benchmarks" / "koala_test_set.jsonl").read_bytes() == QUESTION
    asked = httpx.get(f"{url}/asked").json()
    assert [each.state for each in fetch(tmp_path, ["koala"])] == ["already there"] * 2
    assert httpx.get(f"{url}/asked").json() == asked
    assert kept(tmp_path) == [
        "benchmarks/koala/reference_answer_x.jsonl",
        "benchmarks/koala_test_set.jsonl",
    ]
    (row,) = [row for row in list_benchmarks(tmp_path) if row["name"] == "koala"]
    assert (row["state"], row["questions"]) == ("fetched", 1)


@pytest.mark.parametrize("faults", [[503, 429, 500], [0, 0]])
def test_what_passes_is_tried_again(served, url, tmp_path, faults):
    httpx.post(f"{url}/fail", json=[404, *faults])
    said: list[str] = []
    assert len(list(fetch(tmp_path, ["koala"], say=said.append))) == 2
    assert len(said) == len(faults)
    assert (tmp_path / "benchmarks" / "koala_test_set.jsonl").read_bytes() == QUESTION


def test_a_server_that_stays_broken_is_told_and_nothing_is_kept(served, url, tmp_path):
    httpx.post(f"{url}/fail", json=[404, 500, 502, 503, 504])
    with pytest.raises(BenchmarkError, match=r"elsewhere.*HTTP 404; .*HTTP 504 \(4 tries\)"):
        list(fetch(tmp_path, ["koala"]))
    assert kept(tmp_path) == []


def test_a_file_with_another_hash_is_refused_and_not_kept(served, root, tmp_path):
    (root / "koala" / "koala_test_set.jsonl").write_bytes(QUESTION + b" ")
    with pytest.raises(BenchmarkError, match=r"nothing was kept.*its SHA-256 is .* not the publ"):
        list(fetch(tmp_path, ["koala"]))
    assert kept(tmp_path) == []


def test_nobody_listening_is_one_clear_error(served, tmp_path):
    with pytest.raises(
        BenchmarkError, match=r"ConnectError.*name a folder that has it with --from"
    ):
        list(fetch(tmp_path, ["koala"], source="http://127.0.0.1:9"))


def test_a_changed_file_of_the_users_is_not_written_over(served, tmp_path):
    (tmp_path / "benchmarks").mkdir()
    own = tmp_path / "benchmarks" / "koala_test_set.jsonl"
    own.write_bytes(b"mine")
    with pytest.raises(BenchmarkError, match="is there, but is not the published file"):
        list(fetch(tmp_path, ["koala"]))
    assert own.read_bytes() == b"mine"
    (row,) = [row for row in list_benchmarks(tmp_path) if row["name"] == "koala"]
    assert row["state"] == "not the published file"


@pytest.mark.parametrize(
    ("name", "reason"), [("smoke", "is in the package"), ("alpaca_eval", "is not known")]
)
def test_what_cannot_be_fetched_says_what_can(tmp_path, name, reason):
    known = "koala, lima, self_instruct, vicuna, wizardlm, mt_bench"
    with pytest.raises(BenchmarkError, match=f"'{name}' {reason}; to be fetched are {known}"):
        list(fetch(tmp_path, ["koala", name]))
    assert kept(tmp_path) == []


def test_a_file_of_the_allowed_size_comes_from_a_folder_or_where_it_was_moved_to(
    served, root, url, tmp_path, monkeypatch
):
    shutil.copy(root / "ref.jsonl", root / "koala" / "reference_answer_x.jsonl")
    for source in (f"{url}/moved/koala", str(root / "koala")):
        home = tmp_path / source.replace("/", "_")
        monkeypatch.setattr(fetching, "MOST_BYTES", len(REFERENCE) - 1)
        with pytest.raises(BenchmarkError, match=r"ref.*is larger than \d+ bytes"):
            list(fetch(home, ["koala"], source=source))
        monkeypatch.setattr(fetching, "MOST_BYTES", len(REFERENCE))
        assert [file.state for file in fetch(home, ["koala"], source=source)] == [
            "already there",
            "fetched",
        ]


def test_each_benchmark_is_listed_with_its_state(served, tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "koala_test_set.jsonl").write_bytes(QUESTION)
    (folder / "mine.jsonl").write_bytes(QUESTION + b'{"prompt": "How?"}')
    (folder / "broken.jsonl").write_bytes(b"{")
    (folder / "smoke.jsonl").write_bytes(b'{"turns": ["Why?"]}')
    listed = {row.pop("name"): row for row in list_benchmarks(tmp_path)}
    columns = ("state", "questions", "turns", "file")
    assert {name: tuple(row[column] for column in columns) for name, row in listed.items()} == {
        **{
            name: ("not fetched", each.questions, each.turns, None)
            for name, each in DECLARED.items()
        },
        "smoke": ("your own", 1, 2, str(folder / "smoke.jsonl")),
        "koala": ("without references", 1, 1, str(folder / "koala_test_set.jsonl")),
        "mine": ("your own", 2, None, str(folder / "mine.jsonl")),
        "broken": ("your own", None, None, str(folder / "broken.jsonl")),
    }
    assert listed["mine"]["source"] is None
    assert listed["koala"]["source"] == served.file.urls[0]
    assert listed["mine"]["what"] == "a benchmark of your own"


def test_all_come_from_a_folder_and_from_a_mirror(shared_data, root, url, tmp_path):
    folder = shared_data / "benchmarks"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = list(fetch(tmp_path / "one", source=str(folder)))
    assert len(first) == 7
    for each in first:
        target = root / "mirror" / each.path.relative_to(tmp_path / "one" / "benchmarks")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(each.path.read_bytes())
    list(fetch(tmp_path / "two", source=f"{url}/mirror/"))
    assert kept(tmp_path / "two") == kept(tmp_path / "one")
    states = {row["name"]: row["state"] for row in list_benchmarks(tmp_path / "two")}
    assert states.pop("smoke") == "in the package"
    assert set(states.values()) == {"fetched"}


@pytest.mark.soak
def test_the_command_lists_fetches_and_fails_in_one_line(shared_data, tmp_path):
    def opencs(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "opencs_assets.cli", "benchmarks", *words],
            env={"OPENCS_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
        )

    assert "not fetched" in opencs("list").stdout
    done = opencs("fetch", "vicuna", "--from", str(shared_data / "benchmarks"))
    assert done.returncode == 0, done.stderr
    assert "vicuna_test_set.jsonl" in done.stdout
    failed = opencs("fetch", "koala", "--from", str(tmp_path))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: koala_test_set.jsonl of koala can't be had")
    assert "Traceback" not in failed.stderr
