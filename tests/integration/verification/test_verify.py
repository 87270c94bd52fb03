"""A clean home passes; whatever is edited, missing or doubled is found, and named."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from opencs_assets.cli.app import app
from opencs_assets.evaluation.report import render
from opencs_assets.protocols import single
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.findings import Findings
from opencs_assets.verification.home import verify_home
from opencs_assets.verification.marts import Rebuilt, check_protocols, compare
from resources.settings import load_settings
from tests.integration.verification.conftest import MATCHUP, ONE, QUESTIONS, TWO, copied

SINGLES = ("single_verdicts", {"dataset": "d", "experiment": ONE})
OTHER_SINGLES = ("single_verdicts", {"dataset": "d", "experiment": TWO})
PAIRS = ("pairwise_verdicts", {"dataset": "d", "matchup": MATCHUP})
ANSWERS = ("model_answers", {"dataset": "d", "experiment": ONE})
IMPORTED = ("imported_verdicts", {})
Partition = tuple[str, dict[str, str]]
# A corruption is a change to a home, then parts of the line that must name it.
Corruption = tuple[Callable[[Path], object], *tuple[str, ...]]
NO_VALUE = dict.fromkeys(("winner", "score_a", "score_b"))


def of(question: str, turn: int | None = None, shown_first: str | None = None) -> pl.Expr:
    """The rows of a question."""
    chosen = (pl.col("benchmark") == "own") & (pl.col("question_id") == question)
    if turn is not None:
        chosen &= pl.col("turn") == turn
    return chosen if shown_first is None else chosen & (pl.col("shown_first") == shown_first)


def file_of(home: Path, partition: Partition) -> Path:
    table, keys = partition
    folders = [f"{name}={value}" for name, value in keys.items()]
    return Path(home, "lake", table, *folders, "part.parquet")


def rewrite(home: Path, partition: Partition, change: Callable) -> None:
    """Write a partition anew without asking the schema."""
    file = file_of(home, partition)
    before = pl.read_parquet(file, hive_partitioning=False)
    after = change(before)
    assert not after.equals(before)
    file.unlink()
    after.write_parquet(file)


def changed(partition: Partition, where: pl.Expr, **values) -> Callable:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        made = {
            name: value if isinstance(value, pl.Expr) else pl.lit(value, frame.schema[name])
            for name, value in values.items()
        }
        return frame.with_columns(
            pl.when(where).then(value).otherwise(pl.col(name)).alias(name)
            for name, value in made.items()
        )

    return lambda home: rewrite(home, partition, change)


def dropped(partition: Partition, where: pl.Expr) -> Callable:
    return lambda home: rewrite(home, partition, lambda frame: frame.filter(~where))


def doubled(partition: Partition, where: pl.Expr) -> Callable:
    return lambda home: rewrite(
        home, partition, lambda frame: pl.concat([frame, frame.filter(where)])
    )


def in_store(statement: str, question: str) -> Callable:
    """Change the reply of a question's second turn, alone."""

    def harm(home: Path) -> None:
        reply = pl.read_parquet(file_of(home, SINGLES)).filter(of(question, 2))["reply_id"].item()
        with sqlite3.connect(home / "llm" / "replies.sqlite") as store:
            assert store.execute(f"{statement} where reply_id = ?", [reply]).rowcount == 1

    return harm


def in_warehouse(statement: str) -> Callable:
    def harm(home: Path) -> None:
        with duckdb.connect(home / "warehouse.duckdb") as warehouse:
            count = warehouse.execute(statement).fetchone()
        assert not count or count[0] > 0, statement

    return harm


def in_gate(passed: str, where: str) -> Callable:
    return in_warehouse(f"update publication_gate set passed = {passed} where {where}")


# Of verdicts that were judged here, in one home: each has a question of its own.
JUDGED: Mapping[str, Corruption] = {
    "a changed digit": (
        changed(SINGLES, of("1", 2), score=9.0),
        "edited", "single_verdicts", ONE, "own question 1 turn 2", "score 9.0", "score 8.0",
    ),
    "a dropped second turn": (
        dropped(SINGLES, of("3", 2)), "missing", "single_verdicts", "own question 3 turn 2",
    ),
    "another prompt version": (
        changed(SINGLES, of("2"), prompt_version="own-single-generated-0"),
        "edited", "question 2 turn 1", "prompt version 'own-single-generated-0'",
    ),
    "another judge": (
        changed(SINGLES, of("12"), judge="gpt-5"),
        "edited", "question 12 turn 1", "judge 'gpt-5'", "'gpt-4', whose reply it is",
    ),
    "another category": (
        changed(SINGLES, of("14"), category="math"),
        "edited", "question 14 turn 1", "category 'math'", "category 'writing'",
    ),
    "another sampling": (
        changed(SINGLES, of("15"), sampling='{"temperature": 1.0}'),
        "edited", "question 15 turn 1", "sampling",
    ),
    "an edited prompt": (
        in_store("update replies set request = replace(request, 'Length alone', 'Luck')", "10"),
        "edited", "question 10 turn 2", "a kept request", "other words",
    ),
    "an edited reply": (
        in_store("update replies set text = replace(text, '8', '9')", "13"),
        "edited", "replies", "text that the judge's answer did not have",
    ),
    "an edited reply, its body dropped": (
        in_store("update replies set raw = null, text = replace(text, '8', '9')", "16"),
        "edited", "question 16 turn 2", "score 8.0", "score 9.0",
    ),
    "a deleted reply": (
        in_store("delete from replies", "19"),
        "missing", "question 19 turn 2", "is not in the reply store",
    ),
    "an edited answer": (
        changed(ANSWERS, of("11", 1), answer="Better: quality=10"),
        "edited", "single_verdicts", "question 11 turn 2", f"answer of {ONE} to turn 1",
    ),
    "an edited question": (
        changed(
            ("benchmark_questions", {}), of("4"),
            turns=pl.lit(pl.Series([["What is easy?", "And then, of 4?"]])),
        ),
        "edited", "pairwise_verdicts", "question 4 turn 0", "question, turn 1",
    ),
    "a swapped pair": (
        changed(
            PAIRS, of("0", shown_first="b"),
            score_a=pl.col("score_b"), score_b=pl.col("score_a"), winner="b",
        ),
        "edited", "pairwise_verdicts", MATCHUP, "question 0 turn 0, b shown first", "score_a 4.0",
        "score_a 9.0",
    ),
    "a flipped winner": (
        changed(PAIRS, of("3", shown_first="a"), winner="a"),
        "edited", "question 3 turn 0", "winner 'a'", "winner 'b'",
    ),
    "a tie that became a win": (
        changed(PAIRS, of("1", shown_first="a"), winner="a"),
        "edited", "question 1 turn 0", "winner 'a'", "winner 'tie'",
    ),
    "an unparsable that became a tie": (
        changed(
            PAIRS, of("7", shown_first="a"), winner="tie", status="ok", score_a=5.0, score_b=5.0
        ),
        "edited", "question 7 turn 0", "status 'ok'", "status 'unparsable'",
    ),
    "both orders' labels exchanged": (
        changed(
            PAIRS, of("5"), shown_first=pl.col("shown_first").replace({"a": "b", "b": "a"})
        ),
        "edited", "question 5 turn 0, a shown first", "the reply of the other order",
    ),
    "a verdict that says it failed": (
        changed(PAIRS, of("9", shown_first="a"), status="failed", **NO_VALUE),
        "edited", "question 9 turn 0", "status 'failed'", "status 'ok'",
    ),
    "a loss marked as not asked": (
        changed(PAIRS, of("8"), status="stopped", reply_id=None, **NO_VALUE),
        "edited", MATCHUP, "1 questions marked stopped",
    ),
    "a duplicated row": (
        doubled(PAIRS, of("2", shown_first="a")),
        "duplicated", "question 2 turn 0, a shown first", "2 rows",
    ),
    "a duplicated file": (
        lambda home: shutil.copy(
            file_of(home, SINGLES), file_of(home, SINGLES).with_name("part (copy).parquet")
        ),
        "duplicated", "single_verdicts", "part (copy).parquet",
    ),
    "rows in the schema's file": (
        lambda home: shutil.copy(
            file_of(home, SINGLES),
            home / "lake/single_verdicts/dataset=__schema__/experiment=__schema__/schema.parquet",
        ),
        "unknown", "single_verdicts", "schema.parquet", "47 rows",
    ),
}  # fmt: skip
FILES: Mapping[str, Corruption] = {
    "verdicts moved to another model": (
        lambda home: file_of(home, SINGLES).replace(file_of(home, OTHER_SINGLES)),
        "edited", f"experiment={TWO}", "question 0 turn 1", f"answer of {TWO}",
    ),
    "a table that can't be read": (
        lambda home: file_of(home, PAIRS).write_bytes(b"PAR1"),
        "unreadable", "pairwise_verdicts", MATCHUP,
    ),
}  # fmt: skip


def imported_file(home: Path) -> Path:
    return next((home / "verdicts").glob("*.jsonl"))


def edit_byte(home: Path) -> None:
    file = imported_file(home)
    file.write_bytes(file.read_bytes().replace(b"[[5]]", b"[[6]]", 1))


IMPORTED_ROWS: Mapping[str, Corruption] = {
    "an imported score changed": (
        changed(IMPORTED, of("2", 1), score_a=10.0),
        "edited", "imported_verdicts", "row 4", "score_a 10.0", "score_a 3.0",
    ),
    "an imported row dropped": (
        dropped(IMPORTED, of("2", 2)), "missing", "imported_verdicts", "row 5", "no row",
    ),
    "an imported row doubled": (
        doubled(IMPORTED, of("3", 1)), "duplicated", "imported_verdicts", "row 6", "2 rows",
    ),
}  # fmt: skip
# Each says that a whole file is not what it was, so that its rows are not looked at.
IMPORTED_FILES: Mapping[str, Corruption] = {
    "an imported file edited by a byte": (
        edit_byte, "edited", "files", "judgments.jsonl", "SHA-256",
    ),
    "an imported file deleted": (
        lambda home: imported_file(home).unlink(),
        "missing", "files", "judgments.jsonl", "no file",
    ),
    "an imported file forgotten": (
        lambda home: shutil.rmtree(home / "verdicts"),
        "missing", "files", "judgments.jsonl", "48 rows of a file that is not kept",
    ),
}  # fmt: skip
# All in one warehouse.
MARTS: Mapping[str, Corruption] = {
    "an old name with rows of its own": (
        in_warehouse(
            "drop view mt_bench_scores; create table mt_bench_scores as "
            "select * replace (score + 1 as score) from answer_scores"
        ),
        "edited", "mt_bench_scores", f"model {ONE}", "score",
    ),
    "a digit changed": (
        in_warehouse(f"update answer_scores set score = score + 0.01 where model = '{ONE}'"),
        "edited", "answer_scores", f"model {ONE}", "score",
    ),
    "a row duplicated": (
        in_warehouse(f"insert into answer_scores from answer_scores where model = '{TWO}'"),
        "duplicated", "answer_scores", "2 rows",
    ),
    "a row deleted": (
        in_warehouse("delete from win_rates where rule = 'both_agree'"),
        "missing", "win_rates", "rule both_agree", "no row",
    ),
    "an unfit result smuggled in": (
        in_warehouse(
            "insert into win_rates select * exclude (badge, reason) from win_rates_all "
            "where badge = 'incomplete'"
        ),
        "unknown", "win_rates", "benchmark smoke", "no row",
    ),
    "a note added": (
        in_warehouse("update win_rates set note = 'by far the best' where is_default_rule"),
        "edited", "win_rates", "note 'by far the best'; should be: note nothing",
    ),
    "a column that no release has": (
        in_warehouse("alter table win_rates add column luck double"),
        "unknown", "win_rates", "columns ['luck']", "build the warehouse anew",
    ),
    "an unfit result that passes the gate": (
        in_gate("true, reason = null", "rule = 'every_judgment' and not passed"),
        "edited", "publication_gate", "rule every_judgment", "passed True", "passed False",
    ),
    "contamination no longer known of": (
        in_gate("null", "rule = 'no_contamination' and passed"),
        "edited", "publication_gate", "rule no_contamination", "passed nothing", "passed True",
    ),
    "a badge painted over": (
        in_warehouse("update win_rates_all set badge = 'ok' where badge = 'incomplete'"),
        "edited", "win_rates_all", "badge 'ok'", "badge 'incomplete'",
    ),
    "a stranger's verdicts among the rejected": (
        in_warehouse(
            "insert into rejected_imports by name select 'f' as file, 1 as row, "
            "'one.jsonl' as file_name"
        ),
        "unknown", "rejected_imports", "file f", "row 1", "file_name one.jsonl",
    ),
    "a table taken away": (
        in_warehouse("drop table position_bias"), "missing", "position_bias", "no such table",
    ),
    "a table that no release has": (
        in_warehouse("create table best (x int)"),
        "unknown", "best", "a table; should be: no such table; build the warehouse anew",
    ),
    "a column that an earlier release did not have": (
        in_warehouse("alter table length_bias drop column longer_wins"),
        "missing", "length_bias", "no columns ['longer_wins']", "build the warehouse anew",
    ),
    "a column of another type": (
        in_warehouse("alter table judge_agreement alter column votes type varchar"),
        "edited", "judge_agreement", "votes of type VARCHAR", "votes of type BIGINT",
    ),
    "an answer behind verdicts rewritten": (
        in_warehouse(
            "update interim.answers set texts = [texts[1], texts[2] || ' Indeed.'] "
            f"where model = '{ONE}' and question_id = '1'"
        ),
        "edited", "verdict_trace", "question_id 1", "turn 2", "answer_a", "Indeed.",
    ),
    "an answer behind verdicts lost": (
        in_warehouse(f"delete from interim.answers where model = '{TWO}' and question_id = '2'"),
        "edited", "verdict_trace", "question_id 2", "answer_b nothing", "Answer 1 to 2",
    ),
    "a reply doubled": (
        in_warehouse("insert into interim.judge_replies from interim.judge_replies limit 1"),
        "duplicated", "verdict_trace", "2 rows",
    ),
    "replies of two orders exchanged": (
        in_warehouse(
            "update pair_outcomes set reply_a_first = reply_b_first, reply_b_first = reply_a_first "
            "where question_id = '5' and benchmark = 'own'"
        ),
        "edited", "verdict_trace", "question_id 5", "shown_first a", "reply_id",
    ),
    "a verdict of no result": (
        in_warehouse(
            "insert into single_outcomes select * replace (null as result_id) "
            "from single_outcomes limit 1"
        ),
        "unknown", "verdict_trace", "result_id None",
    ),
}  # fmt: skip
BROKEN_TRACE: Mapping[str, Corruption] = {
    "what the trace is made of taken away": (
        in_warehouse("drop table interim.trained_models"),
        "unreadable", "verdict_trace", "trained_models",
    ),
}  # fmt: skip
# Corruptions that are done to one home, as none of them hides another, by layer and name.
HOMES: Mapping[tuple[str, str], Mapping[str, Corruption]] = {
    ("judged", "rows"): JUDGED,
    ("judged", "files"): FILES,
    ("imported", "rows"): IMPORTED_ROWS,
    **{("imported", name): {name: harm} for name, harm in IMPORTED_FILES.items()},
    ("marts", "rows"): MARTS,
    ("marts", "trace"): BROKEN_TRACE,
}


@pytest.fixture
def copy(judged_home: Path, tmp_path: Path) -> Path:
    """A copy of the judged home, to be harmed."""
    return copied(judged_home, tmp_path / "home")


@pytest.fixture(scope="module")
def lines_of(judged_home, rebuilt_marts, tmp_path_factory) -> Callable[[str, str], list[str]]:
    """What verifying says of a home with all corruptions of a group."""

    @cache
    def lines(layer: str, group: str) -> list[str]:
        home = tmp_path_factory.mktemp("harmed") / "home"
        if layer == "marts":
            home.mkdir()
            shutil.copy(judged_home / "warehouse.duckdb", home)
        else:
            copied(judged_home, home)
        for harm, *_ in HOMES[layer, group].values():
            harm(home)
        return lines_of_home(home, layer, rebuilt_marts)

    return lines


def lines_of_home(home: Path, layer: str, rebuilt_marts: Rebuilt) -> list[str]:
    findings = Findings()
    if layer == "marts":
        compare(home / "warehouse.duckdb", rebuilt_marts, findings)
    else:
        findings = verify_home(load_settings(home), [layer])
    return [fault.line() for fault in findings.faults]


@pytest.mark.parametrize(
    ("home", "name"),
    [
        pytest.param(home, name, id=f"{home[0]}: {name}")
        for home, those in HOMES.items()
        for name in those
    ],
)
def test_every_corruption_is_found_and_named(home, name, lines_of):
    _, *named = HOMES[home][name]
    lines = lines_of(*home)
    assert any(all(part in line for part in named) for line in lines), "\n".join(lines)


def test_every_mart_is_compared(judged_home, rebuilt_marts, tmp_path):
    shutil.copy(judged_home / "warehouse.duckdb", tmp_path)
    with duckdb.connect(tmp_path / "warehouse.duckdb") as warehouse:
        tables = warehouse.sql("select table_name from duckdb_tables() where schema_name = 'main'")
        filled = {
            name
            for (name,) in tables.fetchall()
            if warehouse.execute(f"insert into {name} from {name} limit 1").fetchone()[0]
        }
    assert filled >= {"answer_scores", "win_rates", "position_bias", "leaderboard", "llm_usage"}
    lines = lines_of_home(tmp_path, "marts", rebuilt_marts)
    doubled_in = {line.split(", ")[0] for line in lines if line.endswith("should be: one row")}
    assert doubled_in >= {f"duplicated: {name}" for name in filled}


def test_a_clean_home_passes(copy, rebuilt_marts):
    findings = verify_home(load_settings(copy), ["judged", "imported"])
    check_protocols(Lake(load_settings(copy).lake), findings)
    compare(copy / "warehouse.duckdb", rebuilt_marts, findings)
    assert not findings.faults, "\n".join(fault.line() for fault in findings.faults)
    assert not findings.notes
    counts = {(row["layer"], row["what"]): row["checked"] for row in findings.rows()}
    assert counts["judged", "single_verdicts: rows"] == 4 * QUESTIONS
    assert counts["judged", "pairwise_verdicts: rows"] == 2 * QUESTIONS + 24
    assert counts["imported", "imported_verdicts: rows"] == 2 * QUESTIONS
    marts = {"win_rates": 3, "win_rates_all": 6, "answer_scores": 3, "llm_usage": 2}
    for mart, rows in (marts | {"verdict_trace": 9 * QUESTIONS}).items():
        assert counts["marts", mart] == rows


def test_edited_facts_of_a_protocol_by_which_marts_count_are_named(copy):
    facts = ("judge_protocols", {})
    changed(facts, pl.col("protocol") == "scores", default_rule="both_agree")(copy)
    findings = Findings()
    check_protocols(Lake(load_settings(copy).lake), findings)
    (line,) = [fault.line() for fault in findings.faults]
    assert all(part in line for part in ("edited", "judge_protocols", "scores", "both_agree"))


def times(home: Path) -> dict[Path, int]:
    """When each kept file was written; the folder of the runs is not among them."""
    files = [path for path in home.rglob("*") if path.is_file() and "dagster" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_command_names_faults_in_lake_and_marts_and_writes_nothing(copy, monkeypatch):
    """A whole run; dbt can't build what it needs the unreadable table for."""
    temporary = copy.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("OPENCS_HOME", str(copy))
    for name in ("a changed digit", "a dropped second turn"):
        JUDGED[name][0](copy)
    lake = Lake(load_settings(copy).lake)
    lake.write("declared_matchups", lake.read("declared_matchups", {}), {})
    file_of(copy, PAIRS).write_bytes(b"PAR1")
    before = times(copy)
    ran = CliRunner().invoke(app, ["verify"])
    assert ran.exit_code == 1
    assert "single_verdicts: rows" in ran.stdout
    lines = ran.output.splitlines()
    for start, part in (
        ("missing: single_verdicts, dataset=d", "question 3 turn 2"),
        ("edited: single_outcomes", "score 8.0; should be: score 9.0"),
        ("unreadable: pair_outcomes: ", "pairwise_verdicts"),
    ):
        assert any(line.startswith(start) and part in line for line in lines), ran.output
    changes = "changed since the warehouse was built: declared_matchups, pairwise_verdicts, single"
    assert changes in " ".join(ran.output.split())
    assert times(copy) == before
    assert list(temporary.iterdir()) == []


def test_the_command_tells_the_same_as_json(copy, monkeypatch):
    monkeypatch.setenv("OPENCS_HOME", str(copy))
    (copy / "warehouse.duckdb").unlink()
    ran = CliRunner().invoke(app, ["verify"])
    assert ran.exit_code == 0, ran.output
    assert "no warehouse yet" in ran.output
    JUDGED["a dropped second turn"][0](copy)
    ran = CliRunner().invoke(app, ["verify", "--json"])
    assert ran.exit_code == 1
    told = json.loads(ran.stdout)
    assert not told["ok"]
    assert [fault["table"] for fault in told["faults"]] == ["single_verdicts"]
    assert "no warehouse yet" in told["notes"][0]


def test_a_home_without_anything_passes(tmp_path):
    assert not verify_home(load_settings(tmp_path)).faults


def test_a_warehouse_of_an_earlier_release_is_to_be_built_anew(copy):
    in_warehouse("drop table interim.lake_contents")(copy)
    (fault,) = verify_home(load_settings(copy), ["marts"]).faults
    assert "an earlier release built the warehouse" in fault.line()
    assert "build the warehouse anew: opencs materialize" in fault.line()


def test_a_verification_that_is_stopped_leaves_nothing(judged_home, tmp_path):
    verifying = subprocess.Popen(
        [sys.executable, "-m", "opencs_assets.cli", "verify"],
        env={**os.environ, "OPENCS_HOME": str(judged_home), "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
        # The signal may have been ignored where the tests were started.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while not list(tmp_path.glob("opencs-verify-*/dbt")):
            assert verifying.poll() is None
            time.sleep(0.1)
        verifying.send_signal(signal.SIGINT)
        assert verifying.wait(timeout=120) != 0
    finally:
        verifying.kill()
    assert not list(tmp_path.glob("opencs-verify-*"))


def test_older_prompts_are_named_and_compared_with_what_was_read(copy, monkeypatch):
    later = replace(single.SINGLE["generated"], parser="a later parser")
    monkeypatch.setitem(single.SINGLE, "generated", later)
    found = verify_home(load_settings(copy), ["judged"])
    assert not found.faults, "\n".join(fault.line() for fault in found.faults)
    assert any("judged with an older prompt version" in note for note in found.notes)
    JUDGED["a changed digit"][0](copy)
    lines = [fault.line() for fault in verify_home(load_settings(copy), ["judged"]).faults]
    assert any("question 1 turn 2: score 9.0; should be: score 8.0" in line for line in lines)


def test_the_report_of_a_real_warehouse_has_every_table(judged_home):
    """The columns that the report asks for are those that dbt builds."""
    html = render(judged_home / "warehouse.duckdb")
    assert "This warehouse has no" not in html
    assert html.count("data:image/png;base64,") == 5
    assert "judgments are missing" in html
