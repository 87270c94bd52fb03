"""A warehouse that is built on the last one holds the same as one that is built anew."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest

from opencs_assets.evaluation.dbt_project import dbt_build
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from tests.integration.warehouse.conftest import (
    INTERIM,
    MARTS,
    imported,
    pair_rows,
    questions,
    replies,
    table,
    write_models,
)

DATASETS = ("d1", "d2")
SIDES = [("one", "two"), ("two", "three"), ("three", "one")]
NAMES = [f"q{place:02}" for place in range(12)]
BENCHMARKS = ("x", "y")
# What follows from the others, and carries places in files or an order of groups of equal hash.
NOT_COMPARED = {"ratings"}


class Changes:
    """Random changes of a lake, each a partition that is written, replaced or removed."""

    def __init__(self, lake: Lake, seed: int) -> None:
        self.lake, self.random = lake, random.Random(seed)
        self.asked = pl.concat([questions(name, NAMES, turns=2) for name in BENCHMARKS])
        lake.write("benchmark_questions", self.asked, {})
        for dataset in DATASETS:
            write_models(lake, dataset, self.asked, {"one": {}, "two": {}, "three": {}})
        self.imports()
        for _ in range(4):
            self.pairs()
            self.singles()

    @property
    def all(self) -> list[Callable[[], None]]:
        return [
            self.pairs, self.pairs, self.pairs, self.singles, self.singles, self.imports,
            self.answers, self.trained, self.removed, self.declared, self.replies, self.moved,
        ]  # fmt: skip

    def apply(self, changes: int) -> list[str]:
        chosen = [self.random.choice(self.all) for _ in range(changes)]
        for change in chosen:
            change()
        return [change.__name__ for change in chosen]

    def pairs(self) -> None:
        number = self.random.randrange(len(SIDES))
        model_a, model_b = SIDES[number]
        whole = self.random.random() < 0.7
        winners = {
            name: tuple(self.random.choices(["a", "b", "tie", None], [5, 4, 2, 0.3], k=2))
            for name in NAMES[: None if whole else self.random.randrange(1, len(NAMES))]
        }
        frame = pair_rows(
            winners,
            benchmark=self.random.choice(BENCHMARKS),
            model_a=model_a,
            model_b=model_b,
            prompt_version=self.random.choice(["v1", "v2"]),
            reply_id=f"r{self.random.randrange(3)}",
        )
        if self.random.random() < 0.2:
            frame = frame.with_columns(question_id=pl.lit("stray") + pl.col("question_id"))
        self.lake.write("pairwise_verdicts", frame, self.matchup(number))

    def matchup(self, number: int) -> dict[str, str]:
        return {"dataset": self.random.choice(DATASETS), "matchup": f"m{number}"}

    def singles(self) -> None:
        rows = [
            {
                "benchmark": self.random.choice(BENCHMARKS),
                "question_id": name,
                "turn": turn,
                "score": float(self.random.randrange(1, 11)),
                "status": "ok",
            }
            for name in NAMES
            for turn in (1, 2)
        ]
        frame = table("single_verdicts", rows, judge="gpt", protocol="single")
        of_both = {
            "dataset": self.random.choice(DATASETS),
            "experiment": self.random.choice(["one", "two"]),
        }
        self.lake.write("single_verdicts", frame, of_both)

    def imports(self) -> None:
        rows = [
            {
                "benchmark": "x",
                "question_id": name,
                "turn": turn,
                "model_a": model_a,
                "model_b": model_b,
                "judge": judge,
                "winner": self.random.choice(["a", "b", "tie"]),
                "is_human": judge == "expert",
                "shown_first": "unknown" if judge == "expert" else "merged",
                "orders_disagree": self.random.random() < 0.3,
                "state": self.random.choices(["used", "conflict"], [30, 1])[0],
            }
            for model_a, model_b in SIDES[: self.random.randrange(1, 4)]
            for judge in ("gpt", "claude", "expert")
            for name in NAMES
            for turn in (1, 2)
        ]
        self.lake.write("imported_verdicts", imported(rows, kind="pair", protocol="choice"), {})

    def answers(self) -> None:
        of_both = {
            "dataset": self.random.choice(DATASETS),
            "experiment": self.random.choice(["one", "two", "three"]),
        }
        frame = self.lake.read("model_answers", of_both).drop(of_both)
        longer = pl.col("answer") + "!" * self.random.randrange(30)
        self.lake.write("model_answers", frame.with_columns(answer=longer), of_both)

    def trained(self) -> None:
        dataset = self.random.choice(DATASETS)
        row = {
            "provenance": self.random.choice([f"{dataset}-one", "other"]),
            "epochs": self.random.choice([1.0, 3.0]),
            "packages": [],
            "log": [],
        }
        self.lake.write(
            "checkpoint", table("checkpoint", [row]), {"dataset": dataset, "experiment": "one"}
        )

    def removed(self) -> None:
        name = self.random.choice(["pairwise_verdicts", "single_verdicts"])
        there = self.lake.partitions(name)
        if there:
            Path(self.lake.path(TABLES[name], self.random.choice(there))).unlink()

    def declared(self) -> None:
        rows = [
            {"matchup": f"m{number}", "model_a": a, "model_b": b,
             "parity": self.random.choice(["epochs", "steps", "declared"])}
            for number, (a, b) in enumerate(SIDES[: self.random.randrange(1, 4)])
        ]  # fmt: skip
        self.lake.write("declared_matchups", table("declared_matchups", rows), {})

    def replies(self) -> None:
        rows = [
            {"reply_id": f"r{place}", "model": "gpt", "cost_usd": self.random.random()}
            for place in range(self.random.randrange(1, 4))
        ]
        plain = {"status": "ok", "readable": True, "via": "call", "cached_tokens": 0}
        self.lake.write("llm_replies", replies([{**plain, **row} for row in rows]), {})

    def moved(self) -> None:
        """A file of the same size and time as the last one at its place."""
        there = self.lake.partitions("pairwise_verdicts")
        if not there:
            return
        partition = self.random.choice(there)
        path = Path(self.lake.path(TABLES["pairwise_verdicts"], partition))
        before = path.stat()
        frame = self.lake.read("pairwise_verdicts", partition).drop(partition)
        swapped = pl.col("winner").replace({"a": "b", "b": "a"})
        self.lake.write("pairwise_verdicts", frame.with_columns(winner=swapped), partition)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def build(home: Path, lake: str) -> Path:
    database = home / "warehouse.build.duckdb"
    home.mkdir(exist_ok=True)
    assert [result for result in dbt_build(home, lake, database) if result.broken] == []
    return database


def differences(one: Path, other: Path) -> dict[str, tuple[int, int]]:
    found = {}
    with duckdb.connect() as connection:
        connection.execute(f"attach '{one}' as one (read_only)")
        connection.execute(f"attach '{other}' as other (read_only)")
        names = [*MARTS, *(f"interim.{name}" for name in INTERIM - NOT_COMPARED)]
        for name in names:
            both = [
                connection.execute(
                    f"select count(*) from (from {a}.{name} except all from {b}.{name})"
                ).fetchone()[0]
                for a, b in (("one", "other"), ("other", "one"))
            ]
            if any(both):
                found[name] = tuple(both)
    return found


def follow(tmp_path: Path, seed: int, steps: int) -> None:
    lake = str(tmp_path / "lake")
    changes = Changes(Lake(lake), seed)
    kept = build(tmp_path / "kept", lake)
    for step in range(steps):
        applied = changes.apply(changes.random.randrange(1, 6))
        assert build(tmp_path / "kept", lake) == kept
        fresh = build(tmp_path / f"fresh{step}", lake)
        assert differences(kept, fresh) == {}, (seed, step, applied)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_build_on_the_last_one_holds_the_same_as_a_new_one(tmp_path: Path):
    follow(tmp_path, seed=2, steps=3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5, 6])
def test_after_other_changes_too(tmp_path: Path, seed: int):
    follow(tmp_path, seed=seed, steps=3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_after_many_changes_too(tmp_path: Path):
    follow(tmp_path, seed=9, steps=8)


def test_nothing_is_read_again_that_has_not_changed_and_all_where_questions_have(tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"))
    changes = Changes(lake, seed=3)
    database = build(tmp_path / "home", str(tmp_path / "lake"))
    changes.lake.write("benchmark_questions", changes.asked, {})
    changes.pairs()
    build(tmp_path / "home", str(tmp_path / "lake"))
    with duckdb.connect(database, read_only=True) as connection:
        read = connection.execute(
            "select lake_table, change from interim.changed_files where change <> 'schema'"
        ).fetchall()
    # The questions were written again, but say the same.
    assert len(read) == 1
    assert read[0][0] == "pairwise_verdicts"
    changes.lake.write("benchmark_questions", changes.asked.head(20), {})
    build(tmp_path / "home", str(tmp_path / "lake"))
    with duckdb.connect(database, read_only=True) as connection:
        (new,) = connection.execute(
            "select count(*) from interim.changed_files where change = 'new'"
        ).fetchone()
        (files,) = connection.execute(
            "select count(*) from interim.lake_files where not is_schema"
        ).fetchone()
    assert new == files
