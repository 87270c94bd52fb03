"""The command's words, messages and exit codes."""

import json
import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import of_homes, opencs, several, small_home

pytestmark = pytest.mark.e2e


RANDOM = "random@smollm2-135m"
OPENCS = "opencs@smollm2-135m"
DRY = ("--dry-run", "--json")
SUBSET = ("materialize", "+selected_subset", "--selector")
SCORES = {
    "random": set(),
    "opencs": {"contrastive_scores"},
    "alpagasus": {"single_scores"},
    "no_clusters": {"whole_set_scores"},
}
PLANS = {
    "all": ("materialize", "*", "--all", *DRY),
    "experiment": ("materialize", "+checkpoint", "--experiment", RANDOM, *DRY),
    "chain": ("materialize", "*", "--experiment", RANDOM, "--experiment", OPENCS, *DRY),
    **{selector: (*SUBSET, selector, *DRY) for selector in SCORES},
}
WRONG = [
    (("materialize", "selected_subset"), 2, "say which with --selector, or --all"),
    (("materialize", "nonsense"), 2, "is not a selection of assets"),
    (("materialize", "pairwise_verdicts", "--experiment", RANDOM), 2, f"--experiment {OPENCS} of"),
    (("materialize", "raw_dataset", "--dataset", "other"), 2, "there is no dataset 'other'"),
    (("materialize", "*", "--all", "--experiment", "x"), 2, "there is no experiment 'x'"),
    (("materialize", "open_tags", "--limit", "3"), 2, "--limit is for raw_dataset"),
    (("estimate", "other"), 1, "other"),
    (("summary", "../x"), 1, "../x"),
    (("sql", "select 1"), 1, "no warehouse"),
    (("nonsense",), 2, "No such command"),
    (("what-if", "mine", "--k", "3"), 1, "opencs materialize"),
    (("what-if", "mine", "--k", "0"), 1, "method.k"),
    (("add", "nowhere.json"), 1, "nowhere.json"),
    (("reproduce", "nothing"), 2, "alpaca"),
    (("reproduce", "alpaca", "--device", "abacus"), 1, "nothing is known of the device 'abacus'"),
    # The home's own list of benchmarks has no other.
    (("reproduce", "alpaca"), 1, "'koala' is not among `benchmarks` (small)"),
    (("sample-size", "--effect", "0"), 1, "an effect of 0 can't be"),
    (("sample-size", "--matchup", "none"), 1, "there is no matchup 'none'"),
]
NAMES = ["a/b", "a|b", "..", "my data", "UPPER", ""]
BAD_FILES = [
    ("empty", b"", "empty"),
    ("cut", b'[\n{"instruction": ]', "line 2"),
    ("shape", b'{"colour": "red"}\n{"colour": "blue"}\n', "unknown_shape"),
    ("latin", b'[{"instruction": "caf\xe9", "output": "b"}]', "UTF-8"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def ran(home: Path, small_file: Path, tmp_path_factory: pytest.TempPathFactory):
    """Outcome of each command line that starts no model, by its words."""
    folder = tmp_path_factory.mktemp("files")
    for name, content, _ in BAD_FILES:
        (folder / f"{name}.json").write_bytes(content)
    lines = [
        ("--help",),
        ("add", str(small_file), "--name", "mine"),
        *PLANS.values(),
        *(words for words, _, _ in WRONG),
        *(("add", str(small_file), "--name", name) for name in NAMES),
        *(("add", str(folder / f"{name}.json"), "--name", name) for name, _, _ in BAD_FILES),
        *(("materialize", "raw_dataset", "--dataset", name) for name, _, _ in BAD_FILES),
    ]
    found = dict(zip(lines, several(home, lines), strict=True))
    for name, _, _ in BAD_FILES:
        found["add", name] = found["add", str(folder / f"{name}.json"), "--name", name]
    assert found["add", str(small_file), "--name", "mine"].returncode == 0
    return found


@pytest.fixture(scope="module")
def elsewhere(home: Path, models_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    """Outcome of command lines in homes, or beside programs, that something is wrong with."""
    folder = tmp_path_factory.mktemp("homes")
    (folder / "file").write_text("")
    (folder / "odd").mkdir()
    (folder / "odd" / "settings.toml").write_text("colour = 1")
    deaf = small_home(folder / "deaf", models_dir)
    with (deaf / "settings.toml").open("a") as file:
        file.write(
            '[roles.tagger]\nbase_url = "https://api.example.com/v1"\nmodel = "m"\n'
            'api_key_env = "NO_SUCH_KEY"\n'
            '[roles.judge]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
        )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        lines = {
            "unwritable": (folder / "file" / "home", ("datasets",)),
            "odd": (folder / "odd", ("datasets",)),
            "port": (home, ("ui", "--port", str(port))),
            "doctor": (home, ("doctor", "--json")),
            "doctor of deaf": (deaf, ("doctor", "--json")),
        }
        outcomes = dict(zip(lines, of_homes(list(lines.values())), strict=True))
    return port, outcomes


def told(ran, code: int = 1) -> str:
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return " ".join(ran.stderr.split())


def test_help_names_every_command(ran):
    said = ran["--help",].stdout
    words = "add materialize estimate doctor sql ui demo models replies what-if benchmarks"
    words += " import-verdicts prefer-verdicts reproduce sample-size"
    for command in words.split():
        assert command in said


def plan(ran, name: str) -> list[dict]:
    return json.loads(ran[PLANS[name]].stdout)


def test_dry_run_prints_the_plan_in_order(ran):
    families = [step["family"] for step in plan(ran, "all")]
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
            "imported",
            "warehouse",
        ].index,
    )
    assert [step["partition"] for step in plan(ran, "random")] == ["mine", "mine|random"]


@pytest.mark.parametrize(("selector", "scores"), SCORES.items())
def test_a_subset_brings_only_the_scores_that_its_selector_reads(ran, selector, scores):
    planned = {name for step in plan(ran, selector) for name in step["assets"].split(", ")}
    assert planned & {"contrastive_scores", "single_scores", "whole_set_scores"} == scores


def test_the_warehouse_brings_no_scores_that_no_selector_reads(ran):
    planned = {name for step in plan(ran, "chain") for name in step["assets"].split(", ")}
    assert {"win_rates", "selected_subset"} <= planned
    assert not planned & {"single_scores", "whole_set_scores", "whole_set_comparisons"}


def test_an_experiment_brings_its_selector(ran):
    partitions = [step["partition"] for step in plan(ran, "experiment")]
    assert partitions == ["mine", "mine|random", f"mine|{RANDOM}"]


@pytest.mark.parametrize(("words", "code", "message"), WRONG)
def test_wrong_calls_say_what_to_do(ran, words, code, message):
    assert message in told(ran[words], code)


@pytest.mark.parametrize("name", NAMES)
def test_bad_dataset_names(ran, small_file, name):
    assert "name" in told(ran["add", str(small_file), "--name", name])


@pytest.mark.parametrize(("name", "message"), [(name, said) for name, _, said in BAD_FILES])
def test_files_that_cannot_be_used(ran, home, name, message):
    added = ran["add", name]
    words = ("materialize", "raw_dataset", "--dataset", name)
    said = told(added) if added.returncode else told(ran[words])
    assert message in said
    assert not (home / "lake" / "raw_dataset" / f"dataset={name}").exists()


def test_a_grid_is_told_before_it_is_run_and_asked_for(tmp_path, small_file):
    home = tmp_path / "home"
    words = ("reproduce", "alpaca", "--limit", "12")
    small = ("--dataset", "mine", "--scale", "small")
    lines = [
        ("add", str(small_file), "--name", "mine"),
        (*words, "--dry-run", "--json"),
        (*words, "--yes"),
        (*words, *small, "--dry-run"),
        (*words, *small),
        ("sample-size", "--json"),
    ]
    _, told_all, refused, shown, asked, sized = several(home, lines)
    found = json.loads(told_all.stdout)
    assert {row["family"]: row["runs"] for row in found["runs"]} == {
        "benchmarks": 1,
        "dataset": 1,
        "selector": 9,
        "refined": 2,
        "export": 9,
        "experiment": 27,
        "matchup": 75,
        "imported": 1,
        "warehouse": 1,
    }
    assert found["totals"]["runs"] == 126
    assert {"what": "dataset alpaca", "state": "missing"}.items() <= found["needs"][0].items()
    assert "dataset alpaca: get alpaca_data.json" in told(refused)
    assert "In all: 35 runs" in " ".join(shown.stdout.split())
    # Nobody is there to say yes, so nothing is written and nothing runs.
    assert "Write" in told(asked)
    assert not (home / "experiments.d").exists()
    assert not list(home.glob("lake/*/dataset=mine"))
    assert json.loads(sized.stdout)["noise"]["source"].startswith("assumed")


def test_a_wrong_call_in_a_process_of_its_own_ends_alike(home):
    assert "No such command" in told(opencs(home, "nonsense"), 2)


def test_a_home_that_cannot_be_written(elsewhere):
    said = told(elsewhere[1]["unwritable"])
    assert "OPENCS_HOME" in said
    assert "Make the folder writable" in said


def test_settings_that_cannot_be_used(elsewhere):
    assert "colour" in told(elsewhere[1]["odd"])


def test_a_port_that_is_taken(elsewhere):
    port, outcomes = elsewhere
    said = told(outcomes["port"])
    assert f"port {port}" in said
    assert f"--port {port + 1}" in said


def test_doctor_lists_what_it_looked_at(elsewhere):
    by_name = {entry["what"]: entry for entry in json.loads(elsewhere[1]["doctor"].stdout)}
    assert by_name["dagster"]["state"] == "ok"
    assert by_name["role judge"]["state"] == "warning"
    assert "not to judge well" in by_name["role judge"]["detail"]
    assert "0 replies" in by_name["reply store"]["detail"]
    assert by_name["prices"]["state"] == "ok"


def test_doctor_finds_a_missing_key_and_a_dead_endpoint(elsewhere):
    ran = elsewhere[1]["doctor of deaf"]
    by_name = {entry["what"]: entry for entry in json.loads(ran.stdout)}
    assert ran.returncode == 1
    assert "NO_SUCH_KEY" in by_name["role tagger"]["detail"]
    assert "does not answer" in by_name["role judge"]["detail"]


@pytest.mark.soak
def test_faithful_fails_clearly_on_few_samples(tmp_path, models_dir, small_file):
    """Needs tags, so the lake is given some instead of asking a model."""
    import polars as pl

    from opencs_assets.tables.lake import Lake
    from opencs_assets.tables.open_tags import OPEN_TAGS

    home = small_home(tmp_path, models_dir)
    (home / "settings.toml").write_text('profile = "faithful"\n')
    begun = several(home, [("add", str(small_file)), ("materialize", "raw_dataset")])
    assert [each.returncode for each in begun] == [0, 0]
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
    (ran,) = several(home, [("materialize", "normalized_tags")])
    said = told(ran)
    assert "α = 20" in said
    assert "largest α that leaves something is 18" in said
