"""The command's words, messages and exit codes."""

import json
import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import opencs, small_home

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def data(home: Path, small_file: Path) -> Path:
    assert opencs(home, "add", str(small_file), "--name", "mine").returncode == 0
    return home


def failed(home: Path, *words: str, code: int = 1) -> str:
    ran = opencs(home, *words)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return " ".join(ran.stderr.split())


def test_help_names_every_command(home):
    said = opencs(home, "--help").stdout
    words = "add materialize estimate doctor sql ui demo models replies what-if"
    for command in words.split():
        assert command in said


def test_dry_run_prints_the_plan_in_order(data):
    ran = opencs(data, "materialize", "*", "--all", "--dry-run", "--json")
    plan = json.loads(ran.stdout)
    families = [step["family"] for step in plan]
    assert families[0] == "benchmarks"
    assert families[-1] == "warehouse"
    assert families == sorted(
        families,
        key=[
            "benchmarks",
            "dataset",
            "whole_set",
            "selector",
            "refined",
            "export",
            "experiment",
            "matchup",
            "warehouse",
        ].index,
    )
    one = opencs(
        data, "materialize", "+selected_subset", "--selector", "random", "--dry-run", "--json"
    )
    assert [step["partition"] for step in json.loads(one.stdout)] == ["mine", "mine|random"]


@pytest.mark.parametrize(
    ("selector", "scores"),
    [
        ("random", set()),
        ("opencs", {"contrastive_scores"}),
        ("alpagasus", {"single_scores"}),
        ("no_clusters", {"whole_set_scores"}),
    ],
)
def test_a_subset_brings_only_the_scores_that_its_selector_reads(data, selector, scores):
    ran = opencs(
        data, "materialize", "+selected_subset", "--selector", selector, "--dry-run", "--json"
    )
    planned = {name for step in json.loads(ran.stdout) for name in step["assets"].split(", ")}
    assert planned & {"contrastive_scores", "single_scores", "whole_set_scores"} == scores


def test_what_if_before_tags_says_what_to_materialize(data):
    said = failed(data, "what-if", "mine", "--k", "3")
    assert "opencs materialize" in said
    assert "method.k" in failed(data, "what-if", "mine", "--k", "0")


def test_an_experiment_brings_its_selector(data):
    ran = opencs(
        data,
        "materialize",
        "+checkpoint",
        "--experiment",
        "random@smollm2-135m",
        "--dry-run",
        "--json",
    )
    partitions = [step["partition"] for step in json.loads(ran.stdout)]
    assert partitions == ["mine", "mine|random", "mine|random@smollm2-135m"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("materialize", "selected_subset"), 2, "say which with --selector, or --all"),
        (("materialize", "nonsense"), 2, "is not a selection of assets"),
        (("materialize", "raw_dataset", "--dataset", "other"), 2, "there is no dataset 'other'"),
        (("materialize", "*", "--all", "--experiment", "x"), 2, "there is no experiment 'x'"),
        (("materialize", "open_tags", "--limit", "3"), 2, "--limit is for raw_dataset"),
        (("estimate", "other"), 1, "other"),
        (("summary", "../x"), 1, "../x"),
        (("sql", "select 1"), 1, "no warehouse"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_wrong_calls_say_what_to_do(data, words, code, message):
    assert message in failed(data, *words, code=code)


@pytest.mark.parametrize("name", ["a/b", "a|b", "..", "my data", "UPPER", ""])
def test_bad_dataset_names(home, small_file, name):
    assert "name" in failed(home, "add", str(small_file), "--name", name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b'[{"instruction": "a", "output": "b"},\n{"instruction": ]', "line 2"),
        (b'{"colour": "red"}\n{"colour": "blue"}\n', "unknown_shape"),
        (b'[{"instruction": "caf\xe9", "output": "b"}]', "UTF-8"),
    ],
)
def test_files_that_cannot_be_used(home, tmp_path, content, message):
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    added = opencs(home, "add", str(file))
    if added.returncode:
        said = added.stderr
    else:
        said = failed(home, "materialize", "raw_dataset", "--dataset", "bad")
    assert message in " ".join(said.split())
    assert not (home / "lake" / "raw_dataset" / "dataset=bad").exists()


def test_a_file_that_is_not_there(home):
    assert "nowhere.json" in failed(home, "add", "nowhere.json")


def test_a_home_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    said = failed(tmp_path / "file" / "home", "datasets")
    assert "OPENCS_HOME" in said
    assert "Make the folder writable" in said


def test_settings_that_cannot_be_used(tmp_path):
    (tmp_path / "settings.toml").write_text("colour = 1")
    assert "colour" in failed(tmp_path, "datasets")


def test_a_port_that_is_taken(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = failed(home, "ui", "--port", str(port))
    assert f"port {port}" in said
    assert f"--port {port + 1}" in said


def test_doctor_lists_what_it_looked_at(home):
    found = json.loads(opencs(home, "doctor", "--json").stdout)
    by_name = {entry["what"]: entry for entry in found}
    assert by_name["dagster"]["state"] == "ok"
    assert by_name["role judge"]["state"] == "warning"
    assert "not to judge well" in by_name["role judge"]["detail"]
    assert "0 replies" in by_name["reply store"]["detail"]
    assert by_name["prices"]["state"] == "ok"


def test_doctor_finds_a_missing_key_and_a_dead_endpoint(tmp_path, models_dir):
    home = small_home(tmp_path, models_dir)
    with (home / "settings.toml").open("a") as file:
        file.write(
            '[roles.tagger]\nbase_url = "https://api.example.com/v1"\nmodel = "m"\n'
            'api_key_env = "NO_SUCH_KEY"\n'
            '[roles.judge]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
        )
    ran = opencs(home, "doctor", "--json")
    by_name = {entry["what"]: entry for entry in json.loads(ran.stdout)}
    assert ran.returncode == 1
    assert "NO_SUCH_KEY" in by_name["role tagger"]["detail"]
    assert "does not answer" in by_name["role judge"]["detail"]


def test_faithful_fails_clearly_on_few_samples(tmp_path, models_dir, small_file):
    """Needs tags, so the lake is given some instead of asking a model."""
    import polars as pl

    from opencs_assets.schemas import OPEN_TAGS
    from resources.lake import Lake

    home = small_home(tmp_path, models_dir)
    (home / "settings.toml").write_text('profile = "faithful"\n')
    assert opencs(home, "add", str(small_file)).returncode == 0
    assert opencs(home, "materialize", "raw_dataset").returncode == 0
    lake = Lake(str(home / "lake"))
    samples = lake.read("raw_dataset", {"dataset": "small"})
    tags = pl.DataFrame(
        [
            {
                "sample_id": sample,
                "tags": [{"tag": "cooking", "explanation": ""}],
                "status": "ok",
                "detail": None,
                "attempts": 1,
                "reply_id": "r",
                "model": "m",
                "prompt_version": "v",
            }
            for sample in samples["sample_id"]
        ],
        schema=OPEN_TAGS.schema,
    )
    lake.write("open_tags", tags, {"dataset": "small"})
    said = failed(home, "materialize", "normalized_tags")
    assert "α = 20" in said
    assert "largest α that leaves something is 18" in said
