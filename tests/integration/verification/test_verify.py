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
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from opencs_assets.cli.app import app
from opencs_assets.evaluation.report import render
from opencs_assets.protocols import single
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.findings import Findings, VerificationFault
from opencs_assets.verification.home import verify_home
from opencs_assets.verification.marts import check_protocols, compare
from resources.settings import load_settings
from tests.integration.verification.conftest import MATCHUP, ONE, QUESTIONS, TWO

SINGLE = {"dataset": "d", "experiment": ONE}
PAIR = {"dataset": "d", "matchup": MATCHUP}
Harm = Callable[[Path], None]


@dataclass(frozen=True)
class Corruption:
    """One thing that somebody did to a home.

    Attributes:
        harm: Does it.
        named: Parts of the line that must name it.
    """

    harm: Harm
    named: tuple[str, ...]


def of(question: str, turn: int | None = None, shown_first: str | None = None) -> pl.Expr:
    """The rows of a question."""
    chosen = (pl.col("benchmark") == "own") & (pl.col("question_id") == question)
    if turn is not None:
        chosen &= pl.col("turn") == turn
    return chosen if shown_first is None else chosen & (pl.col("shown_first") == shown_first)


def lake_file(home: Path, table: str, partition: dict[str, str]) -> Path:
    folders = [f"{name}={value}" for name, value in partition.items()]
    return Path(home, "lake", table, *folders, "part.parquet")


def rewrite(home: Path, table: str, partition: dict[str, str], change: Callable) -> None:
    """Write a partition anew without asking the schema."""
    file = lake_file(home, table, partition)
    frame = change(pl.read_parquet(file, hive_partitioning=False))
    file.unlink()
    frame.write_parquet(file)


def set_where(table: str, partition: dict[str, str], where: pl.Expr, **values) -> Harm:
    def harm(home: Path) -> None:
        def change(frame: pl.DataFrame) -> pl.DataFrame:
            assert frame.filter(where).height
            made = {
                name: value if isinstance(value, pl.Expr) else pl.lit(value, frame.schema[name])
                for name, value in values.items()
            }
            return frame.with_columns(
                pl.when(where).then(value).otherwise(pl.col(name)).alias(name)
                for name, value in made.items()
            )

        rewrite(home, table, partition, change)

    return harm


def drop_where(table: str, partition: dict[str, str], where: pl.Expr) -> Harm:
    return lambda home: rewrite(home, table, partition, lambda frame: frame.filter(~where))


def double_where(table: str, partition: dict[str, str], where: pl.Expr) -> Harm:
    return lambda home: rewrite(
        home, table, partition, lambda frame: pl.concat([frame, frame.filter(where)])
    )


def double_file(home: Path) -> None:
    file = lake_file(home, "single_verdicts", SINGLE)
    shutil.copy(file, file.with_name("part (copy).parquet"))


def move_partition(home: Path) -> None:
    """What was said of one model's answers stands under the other's name."""
    file = lake_file(home, "single_verdicts", SINGLE)
    file.replace(lake_file(home, "single_verdicts", {"dataset": "d", "experiment": TWO}))


def in_store(statement: str, *values: str) -> Harm:
    """Change the reply of a question's second turn, alone."""

    def harm(home: Path) -> None:
        rows = pl.read_parquet(lake_file(home, "single_verdicts", SINGLE))
        reply = rows.filter(of("1", 2))["reply_id"].item()
        with sqlite3.connect(home / "llm" / "replies.sqlite") as store:
            changed = store.execute(statement, (*values, reply))
            assert changed.rowcount == 1

    return harm


OWN = {
    "a changed digit": Corruption(
        set_where("single_verdicts", SINGLE, of("1", 2), score=9.0),
        ("edited", "single_verdicts", ONE, "own question 1 turn 2", "score 9.0", "score 8.0"),
    ),
    "a dropped second turn": Corruption(
        drop_where("single_verdicts", SINGLE, of("3", 2)),
        ("missing", "single_verdicts", "own question 3 turn 2"),
    ),
    "a swapped pair": Corruption(
        set_where(
            "pairwise_verdicts", PAIR, of("0", shown_first="b"),
            score_a=pl.col("score_b"), score_b=pl.col("score_a"), winner="b",
        ),
        ("edited", "pairwise_verdicts", MATCHUP, "question 0 turn 0, b shown first", "score_a 4.0",
         "score_a 9.0"),
    ),
    "a flipped winner": Corruption(
        set_where("pairwise_verdicts", PAIR, of("3", shown_first="a"), winner="a"),
        ("edited", "question 3", "winner 'a'", "winner 'b'"),
    ),
    "a duplicated row": Corruption(
        double_where("pairwise_verdicts", PAIR, of("2", shown_first="a")),
        ("duplicated", "question 2 turn 0, a shown first", "2 rows"),
    ),
    "a duplicated file": Corruption(
        double_file, ("duplicated", "single_verdicts", "part (copy).parquet")
    ),
    "another prompt version": Corruption(
        set_where("single_verdicts", SINGLE, of("2"), prompt_version="own-single-generated-0"),
        ("edited", "question 2 turn 1", "prompt version 'own-single-generated-0'"),
    ),
    "an edited prompt": Corruption(
        in_store(
            "update replies set request = replace(request, 'Length alone is no merit', 'Be kind')"
            " where reply_id = ?"
        ),
        ("edited", "question 1 turn 2", "a kept request", "other words"),
    ),
    "an edited answer": Corruption(
        set_where("model_answers", SINGLE, of("1", 1), answer="Better: quality=10"),
        ("edited", "single_verdicts", "question 1 turn 2", f"answer of {ONE} to turn 1"),
    ),
    "an edited question": Corruption(
        set_where(
            "benchmark_questions", {}, of("4"),
            turns=pl.lit(pl.Series([["What is easy?", "And then, of 4?"]])),
        ),
        ("edited", "pairwise_verdicts", "question 4", "question, turn 1"),
    ),
    "an edited reply": Corruption(
        in_store("update replies set text = replace(text, '8', '9') where reply_id = ?"),
        ("edited", "replies", "text that the judge's answer did not have"),
    ),
    "an edited reply, its body dropped": Corruption(
        in_store(
            "update replies set raw = null, text = replace(text, '8', '9') where reply_id = ?"
        ),
        ("edited", "question 1 turn 2", "score 8.0", "score 9.0"),
    ),
    "a deleted reply": Corruption(
        in_store("delete from replies where reply_id = ?"),
        ("missing", "question 1 turn 2", "is not in the reply store"),
    ),
    "verdicts moved to another model": Corruption(
        move_partition, ("edited", f"experiment={TWO}", "question 0 turn 1", f"answer of {TWO}")
    ),
    "an unparsable that became a tie": Corruption(
        set_where(
            "pairwise_verdicts", PAIR, of("7", shown_first="a"),
            winner="tie", status="ok", score_a=5.0, score_b=5.0,
        ),
        ("edited", "question 7", "status 'ok'", "status 'unparsable'"),
    ),
    "a tie that became a win": Corruption(
        set_where("pairwise_verdicts", PAIR, of("1", shown_first="a"), winner="a"),
        ("edited", "question 1", "winner 'a'", "winner 'tie'"),
    ),
    "another judge": Corruption(
        set_where("single_verdicts", SINGLE, of("1"), judge="gpt-5"),
        ("edited", "question 1 turn 1", "judge 'gpt-5'", "'gpt-4', whose reply it is"),
    ),
    "both orders' labels exchanged": Corruption(
        set_where(
            "pairwise_verdicts", PAIR, of("5"),
            shown_first=pl.col("shown_first").replace({"a": "b", "b": "a"}),
        ),
        ("edited", "question 5 turn 0, a shown first", "the reply of the other order"),
    ),
    "a verdict that says it failed": Corruption(
        set_where(
            "pairwise_verdicts", PAIR, of("3", shown_first="a"),
            status="failed", winner=None, score_a=None, score_b=None,
        ),
        ("edited", "question 3", "status 'failed'", "status 'ok'"),
    ),
    "a loss marked as not asked": Corruption(
        set_where(
            "pairwise_verdicts", PAIR, of("3"),
            status="stopped", winner=None, score_a=None, score_b=None, reply_id=None,
        ),
        ("edited", MATCHUP, "1 questions marked stopped"),
    ),
    "another category": Corruption(
        set_where("single_verdicts", SINGLE, of("1"), category="math"),
        ("edited", "question 1 turn 1", "category 'math'", "category 'stem'"),
    ),
    "another sampling": Corruption(
        set_where("single_verdicts", SINGLE, of("1"), sampling='{"temperature": 1.0}'),
        ("edited", "question 1 turn 1", "sampling"),
    ),
    "a table that can't be read": Corruption(
        lambda home: lake_file(home, "pairwise_verdicts", PAIR).write_bytes(b"PAR1"),
        ("unreadable", "pairwise_verdicts", MATCHUP),
    ),
    "rows in the schema's file": Corruption(
        lambda home: shutil.copy(
            lake_file(home, "single_verdicts", SINGLE),
            home / "lake/single_verdicts/dataset=__schema__/experiment=__schema__/schema.parquet",
        ),
        ("unknown", "single_verdicts", "schema.parquet", "48 rows"),
    ),
}  # fmt: skip


def imported_file(home: Path) -> Path:
    return next(each for each in (home / "verdicts").iterdir() if each.suffix == ".jsonl")


def edit_byte(home: Path) -> None:
    file = imported_file(home)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"[[5]]", b"[[6]]", 1))


IMPORTED = {
    "an imported file edited by a byte": Corruption(
        edit_byte, ("edited", "files", "judgments.jsonl", "SHA-256")
    ),
    "an imported file deleted": Corruption(
        lambda home: imported_file(home).unlink(),
        ("missing", "files", "judgments.jsonl", "no file"),
    ),
    "an imported file forgotten": Corruption(
        lambda home: shutil.rmtree(home / "verdicts"),
        ("missing", "files", "judgments.jsonl", "48 rows of a file that is not kept"),
    ),
    "an imported score changed": Corruption(
        set_where("imported_verdicts", {}, of("2", 1), score_a=10.0),
        ("edited", "imported_verdicts", "row 4", "score_a 10.0", "score_a 3.0"),
    ),
    "an imported row dropped": Corruption(
        drop_where("imported_verdicts", {}, of("2", 2)),
        ("missing", "imported_verdicts", "row 5", "no row"),
    ),
    "an imported row doubled": Corruption(
        double_where("imported_verdicts", {}, of("3", 1)),
        ("duplicated", "imported_verdicts", "row 6", "2 rows"),
    ),
}


def in_warehouse(*statements: str) -> Harm:
    def harm(home: Path) -> None:
        with duckdb.connect(home / "warehouse.duckdb") as warehouse:
            for statement in statements:
                changed = warehouse.execute(statement).fetchone()
                assert changed, statement
                assert changed[0] > 0, statement

    return harm


def replaced_old_name(home: Path) -> None:
    with duckdb.connect(home / "warehouse.duckdb") as warehouse:
        warehouse.execute("drop view mt_bench_scores")
        warehouse.execute(
            "create table mt_bench_scores as "
            "select * replace (score + 1 as score) from answer_scores"
        )


MARTS = {
    "an old name with rows of its own": Corruption(
        replaced_old_name, ("edited", "mt_bench_scores", f"model {ONE}", "score")
    ),
    "a mart's digit changed": Corruption(
        in_warehouse(f"update answer_scores set score = score + 0.01 where model = '{ONE}'"),
        ("edited", "answer_scores", f"model {ONE}", "score"),
    ),
    "a mart's row deleted": Corruption(
        in_warehouse("delete from win_rates where rule = 'both_agree'"),
        ("missing", "win_rates", "rule both_agree", "no row"),
    ),
    "a mart's row duplicated": Corruption(
        in_warehouse("insert into answer_scores from answer_scores limit 1"),
        ("duplicated", "answer_scores", "2 rows"),
    ),
    "an unfit result smuggled in": Corruption(
        in_warehouse(
            "insert into win_rates select * exclude (badge, reason) from win_rates_all "
            "where badge = 'incomplete'"
        ),
        ("unknown", "win_rates", "benchmark smoke", "no row"),
    ),
    "an unfit result that passes the gate": Corruption(
        in_warehouse(
            "update publication_gate set passed = true, reason = null "
            "where rule = 'every_judgment' and not passed"
        ),
        ("edited", "publication_gate", "rule every_judgment", "passed True", "passed False"),
    ),
    "a badge painted over": Corruption(
        in_warehouse("update win_rates_all set badge = 'ok' where badge = 'incomplete'"),
        ("edited", "win_rates_all", "badge 'ok'", "badge 'incomplete'"),
    ),
    "a rule of the gate taken away": Corruption(
        in_warehouse("delete from publication_gate where rule = 'answers_complete' and not passed"),
        ("missing", "publication_gate", "rule answers_complete"),
    ),
    "a narrower interval": Corruption(
        in_warehouse("update win_rates set ci_low = ci_low + 1 where is_default_rule"),
        ("edited", "win_rates", "ci_low"),
    ),
    "a rating changed": Corruption(
        in_warehouse("update leaderboard set rating = rating + 1 where rank = 1"),
        ("edited", "leaderboard", "rating"),
    ),
    "position bias hidden": Corruption(
        in_warehouse("update position_bias set toward_first = 0 where category = 'all'"),
        ("edited", "position_bias", "category all", "toward_first 0"),
    ),
    "a table taken away": Corruption(
        lambda home: duckdb.connect(home / "warehouse.duckdb").execute("drop table position_bias"),
        ("missing", "position_bias", "no such table"),
    ),
    "a judge accused": Corruption(
        in_warehouse("update publication_gate set passed = false where rule = 'same_judge'"),
        ("edited", "publication_gate", "rule same_judge", "passed False", "passed True"),
    ),
    "missing answers called complete": Corruption(
        in_warehouse(
            "update publication_gate set passed = true, reason = null "
            "where rule = 'answers_complete' and not passed"
        ),
        ("edited", "publication_gate", "rule answers_complete", "passed True", "passed False"),
    ),
    "templates told apart": Corruption(
        in_warehouse(
            "update publication_gate set passed = false where rule = 'chat_template' and passed"
        ),
        ("edited", "publication_gate", "rule chat_template", "passed False", "passed True"),
    ),
    "contamination no longer known of": Corruption(
        in_warehouse(
            "update publication_gate set passed = null where rule = 'no_contamination' and passed"
        ),
        ("edited", "publication_gate", "rule no_contamination", "passed nothing", "passed True"),
    ),
    "a cheaper judge": Corruption(
        in_warehouse("update llm_usage set cost_usd = 0.01 where stage = 'pairwise_verdicts'"),
        ("edited", "llm_usage", "stage pairwise_verdicts", "model gpt-4", "cost_usd 0.01"),
    ),
    "fewer useless replies": Corruption(
        in_warehouse("update llm_usage set unusable = 0 where stage = 'single_verdicts'"),
        ("edited", "llm_usage", "stage single_verdicts", "unusable 0"),
    ),
    "usage of a stage left out": Corruption(
        in_warehouse("delete from llm_usage where stage = 'single_verdicts'"),
        ("missing", "llm_usage", "stage single_verdicts", "no row"),
    ),
    "an invented conflict": Corruption(
        in_warehouse(
            "insert into conflicting_verdicts by name select 'pair-0' as result_id, "
            "'one.jsonl' as file_name, 'f' as file, 1 as row, 'a' as shown_first, 1 as turn"
        ),
        ("unknown", "conflicting_verdicts", "file_name one.jsonl", "row 1"),
    ),
    "an answer behind verdicts rewritten": Corruption(
        in_warehouse(
            "update interim.answers set texts = [texts[1], texts[2] || ' Indeed.'] "
            f"where model = '{ONE}' and question_id = '1'"
        ),
        ("edited", "verdict_trace", "question_id 1", "turn 2", "answer_a", "Indeed."),
    ),
    "an answer behind verdicts lost": Corruption(
        in_warehouse(f"delete from interim.answers where model = '{TWO}' and question_id = '2'"),
        ("edited", "verdict_trace", "question_id 2", "answer_b nothing", "Answer 1 to 2"),
    ),
    "answers of another checkpoint": Corruption(
        in_warehouse(f"update interim.answers set checkpoint = 'd' where model = '{ONE}'"),
        ("edited", "verdict_trace", "checkpoint_a 'd'", "checkpoint_a 'c'"),
    ),
    "a reply that cost nothing": Corruption(
        in_warehouse(
            "update interim.judge_replies set cost_usd = 0 where reply_key in ("
            "select hash(reply_id) from verdict_trace where kind = 'pair' and question_id = '3')"
        ),
        ("edited", "verdict_trace", "question_id 3", "cost_usd 0.0"),
    ),
    "a reply doubled": Corruption(
        in_warehouse("insert into interim.judge_replies from interim.judge_replies limit 1"),
        ("duplicated", "verdict_trace", "2 rows"),
    ),
    "another subset behind verdicts": Corruption(
        in_warehouse(
            f"update interim.trained_models set subset_hash = 'other' where model = '{TWO}'"
        ),
        ("edited", "verdict_trace", "subset_hash_b 'other'", "subset_hash_b 'x'"),
    ),
    "replies of two orders exchanged": Corruption(
        in_warehouse(
            "update pair_outcomes set reply_a_first = reply_b_first, reply_b_first = reply_a_first "
            "where question_id = '5' and benchmark = 'own'"
        ),
        ("edited", "verdict_trace", "question_id 5", "shown_first a", "reply_id"),
    ),
    "what the trace is made of taken away": Corruption(
        lambda home: duckdb.connect(home / "warehouse.duckdb").execute(
            "drop table interim.trained_models"
        ),
        ("unreadable", "verdict_trace", "trained_models"),
    ),
    "a verdict of no result": Corruption(
        in_warehouse(
            "insert into single_outcomes select * replace (null as result_id) "
            "from single_outcomes limit 1"
        ),
        ("unknown", "verdict_trace", "result_id None"),
    ),
    "a stranger's verdicts among the rejected": Corruption(
        in_warehouse(
            "insert into rejected_imports by name select 'f' as file, 1 as row, "
            "'one.jsonl' as file_name"
        ),
        ("unknown", "rejected_imports", "file f", "row 1", "file_name one.jsonl"),
    ),
    "a table that no release has": Corruption(
        lambda home: duckdb.connect(home / "warehouse.duckdb").execute("create table best (x int)"),
        ("unknown", "best", "a table; should be: no such table; build the warehouse anew"),
    ),
    "a column that no release has": Corruption(
        lambda home: duckdb.connect(home / "warehouse.duckdb").execute(
            "alter table win_rates add column luck double"
        ),
        ("unknown", "win_rates", "columns ['luck']", "build the warehouse anew"),
    ),
    "a column that an earlier release did not have": Corruption(
        lambda home: duckdb.connect(home / "warehouse.duckdb").execute(
            "alter table win_rates drop column unchecked"
        ),
        ("missing", "win_rates", "no columns ['unchecked']", "build the warehouse anew"),
    ),
    "a column of another type": Corruption(
        lambda home: duckdb.connect(home / "warehouse.duckdb").execute(
            "alter table win_rates alter column win type varchar"
        ),
        ("edited", "win_rates", "win of type VARCHAR", "win of type BIGINT"),
    ),
    "a note added": Corruption(
        in_warehouse("update win_rates set note = 'by far the best' where is_default_rule"),
        ("edited", "win_rates", "note 'by far the best'; should be: note nothing"),
    ),
    "the trace taken away": Corruption(
        lambda home: duckdb.connect(home / "warehouse.duckdb").execute("drop view verdict_trace"),
        ("missing", "verdict_trace", "no such table"),
    ),
}
BY_LAYER = {"judged": OWN, "imported": IMPORTED}
CORRUPTIONS = OWN | IMPORTED


def test_a_clean_home_passes(judged_home):
    found = verify_home(load_settings(judged_home))
    assert not found.faults, "\n".join(fault.line() for fault in found.faults)
    assert not found.notes
    counts = {(row["layer"], row["what"]): row["checked"] for row in found.rows()}
    assert counts["judged", "single_verdicts: rows"] == 4 * QUESTIONS
    assert counts["judged", "pairwise_verdicts: rows"] == 2 * QUESTIONS + 24
    assert counts["imported", "imported_verdicts: rows"] == 2 * QUESTIONS
    assert counts["marts", "win_rates"] == 3
    assert counts["marts", "win_rates_all"] == 6
    assert counts["marts", "answer_scores"] == 3
    assert counts["marts", "verdict_trace"] == 9 * QUESTIONS
    assert counts["marts", "llm_usage"] == 2


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_found_and_named(name, copy):
    home = copy()
    CORRUPTIONS[name].harm(home)
    layer = next(layer for layer, those in BY_LAYER.items() if name in those)
    faults = verify_home(load_settings(home), [layer]).faults
    assert_named(faults, CORRUPTIONS[name])


@pytest.mark.parametrize("name", MARTS)
def test_every_corruption_of_a_mart_is_found_and_named(name, copy, rebuilt_marts):
    home = copy()
    MARTS[name].harm(home)
    findings = Findings()
    compare(home / "warehouse.duckdb", rebuilt_marts, findings)
    assert_named(findings.faults, MARTS[name])


def assert_named(faults: list[VerificationFault], corruption: Corruption) -> None:
    """One of the faults names what was done."""
    lines = [fault.line() for fault in faults]
    assert any(all(part in line for part in corruption.named) for line in lines), "\n".join(lines)


def test_an_unharmed_copy_passes(copy, rebuilt_marts):
    """What the tests above find is what they did, not what copying does."""
    home = copy()
    findings = verify_home(load_settings(home), ["judged", "imported"])
    compare(home / "warehouse.duckdb", rebuilt_marts, findings)
    assert not findings.faults


def test_edited_facts_of_a_protocol_by_which_marts_count_are_named(copy):
    home = copy()
    findings = Findings()
    check_protocols(Lake(load_settings(home).lake), findings)
    assert not findings.faults
    scores = pl.col("protocol") == "scores"
    set_where("judge_protocols", {}, scores, default_rule="both_agree")(home)
    check_protocols(Lake(load_settings(home).lake), findings)
    (line,) = [fault.line() for fault in findings.faults]
    assert all(part in line for part in ("edited", "judge_protocols", "scores", "both_agree"))


def test_an_edit_in_the_lake_is_seen_in_the_marts_too_and_nothing_is_written(copy, monkeypatch):
    home = copy()
    CORRUPTIONS["a changed digit"].harm(home)
    temporary = home.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    lake = Lake(load_settings(home).lake)
    lake.write("declared_matchups", lake.read("declared_matchups", {}), {})
    lake_file(home, "single_verdicts", {**SINGLE, "experiment": TWO}).unlink()
    files = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    findings = verify_home(load_settings(home))
    tables = {fault.table for fault in findings.faults}
    assert tables >= {"single_verdicts", "single_outcomes", "answer_scores"}
    changed = "changed since the warehouse was built: declared_matchups, single_verdicts; build it"
    assert any(changed in each for each in findings.notes), findings.notes
    assert files == {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    assert list(temporary.iterdir()) == []


def test_a_warehouse_of_an_earlier_release_is_to_be_built_anew(copy):
    home = copy()
    with duckdb.connect(home / "warehouse.duckdb") as warehouse:
        warehouse.execute("drop table interim.lake_contents")
    (fault,) = verify_home(load_settings(home), ["marts"]).faults
    assert "an earlier release built the warehouse" in fault.line()
    assert "build the warehouse anew: opencs materialize" in fault.line()


def test_a_lake_that_gives_no_marts_is_named(copy):
    home = copy()
    lake_file(home, "pairwise_verdicts", PAIR).write_bytes(b"PAR1")
    lines = [fault.line() for fault in verify_home(load_settings(home), ["marts"]).faults]
    named = [line for line in lines if line.startswith("unreadable: pair_outcomes: ")]
    assert len(named) == 1, "\n".join(lines)
    assert "pairwise_verdicts" in named[0]


def test_a_verification_that_is_stopped_leaves_nothing(judged_home, tmp_path):
    verifying = subprocess.Popen(
        [sys.executable, "-m", "opencs_assets.cli", "verify"],
        env={**os.environ, "OPENCS_HOME": str(judged_home), "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob("opencs-verify-*/dbt/target")):
        assert verifying.poll() is None
        time.sleep(0.1)
    verifying.send_signal(signal.SIGINT)
    assert verifying.wait() != 0
    assert not list(tmp_path.glob("opencs-verify-*"))


def test_older_prompts_are_named_and_compared_with_what_was_read(copy, monkeypatch):
    home = copy()
    later = replace(single.SINGLE["generated"], parser="a later parser")
    monkeypatch.setitem(single.SINGLE, "generated", later)
    found = verify_home(load_settings(home), ["judged"])
    assert not found.faults, "\n".join(fault.line() for fault in found.faults)
    assert any("judged with an older prompt version" in note for note in found.notes)
    set_where("single_verdicts", SINGLE, of("1", 2), score=9.0)(home)
    lines = [fault.line() for fault in verify_home(load_settings(home), ["judged"]).faults]
    assert any("question 1 turn 2: score 9.0; should be: score 8.0" in line for line in lines)


def test_the_command_says_what_was_looked_at_and_fails_on_a_fault(copy, monkeypatch):
    home = copy()
    monkeypatch.setenv("OPENCS_HOME", str(home))
    CORRUPTIONS["a dropped second turn"].harm(home)
    ran = CliRunner().invoke(app, ["verify", "--json"])
    assert ran.exit_code == 1
    told = json.loads(ran.stdout)
    assert not told["ok"]
    assert {fault["table"] for fault in told["faults"]} >= {"single_verdicts", "answer_scores"}
    ran = CliRunner().invoke(app, ["verify"])
    assert ran.exit_code == 1
    assert "pairwise_verdicts: rows" in ran.stdout
    assert "missing: single_verdicts, dataset=d" in ran.stdout


def test_a_home_without_anything_passes(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENCS_HOME", str(tmp_path))
    ran = CliRunner().invoke(app, ["verify"])
    assert ran.exit_code == 0, ran.output
    assert "no warehouse yet" in ran.output


def test_the_report_of_a_real_warehouse_has_every_table(judged_home):
    """The columns that the report asks for are those that dbt builds."""
    html = render(judged_home / "warehouse.duckdb")
    assert "This warehouse has no" not in html
    assert html.count("data:image/png;base64,") == 5
    assert "judgments are missing" in html
