"""The marts' numbers, from known rows in a real lake through the real dbt."""

import re
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import duckdb
import polars as pl
import pytest

from opencs_assets.evaluation.declared import prepare_lake
from opencs_assets.evaluation.plots import win_tie_lose
from opencs_assets.protocols.merging import RULES, Verdict
from resources.dbt_project import mart_keys
from resources.warehouse import Warehouse
from tests.integration.warehouse.conftest import DEPRECATED, INTERIM, MARTS, replies

ORDERS = list(product(["a", "b", "tie", None], repeat=2))


def rows(warehouse: Warehouse, sql: str) -> list[dict]:
    return warehouse.query(sql).to_dicts()


def test_every_mart_has_a_key(warehouse: Warehouse):
    """By it verifying names a row."""
    keys = mart_keys()
    assert set(keys) == MARTS | DEPRECATED.keys()
    for name, key in keys.items():
        assert set(key) <= set(warehouse.query(f"from {name} limit 0").columns), name


def test_every_mart_is_a_table_with_a_description(warehouse: Warehouse):
    tables = warehouse.tables()
    assert set(tables["table"]) == MARTS | DEPRECATED.keys()
    assert tables["description"].null_count() == 0
    undescribed = warehouse.query(
        "select table_name, column_name from duckdb_columns() where comment is null "
        "and not internal and schema_name = 'main'"
    )
    assert undescribed.is_empty()
    interim = warehouse.query("select table_name from duckdb_tables() where comment is not null "
                              "and schema_name = 'interim'")  # fmt: skip
    assert set(interim["table_name"]) == INTERIM


def test_views_need_nothing_but_the_file_whatever_its_name(warehouse: Warehouse, tmp_path: Path):
    views = warehouse.query("select view_name from duckdb_views() where not internal")
    assert set(views["view_name"]) == {"verdict_trace", *DEPRECATED}
    copy = tmp_path / "other name.duckdb"
    shutil.copyfile(warehouse.path, copy)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{copy}' as results (read_only)")
        for view in views["view_name"]:
            (count,) = connection.execute(f"select count(*) from results.{view}").fetchone()
            assert count == rows(warehouse, f"select count(*) as n from {view}")[0]["n"]
            assert count or view in DEPRECATED


@pytest.mark.parametrize(("old", "new"), DEPRECATED.items())
def test_an_old_name_gives_the_same_rows_and_names_the_new_one(
    warehouse: Warehouse, old: str, new: str
):
    assert warehouse.query(f"from {old}").equals(warehouse.query(f"from {new}"))
    described = warehouse.tables().filter(pl.col("table") == old)
    assert f"`{new}`" in described["description"].item()


def test_a_dataset_named_2024_stays_text(warehouse: Warehouse):
    assert warehouse.query("select dataset from selected_samples").schema["dataset"] == pl.String
    assert rows(warehouse, "select count(*) as n from win_rates_all where dataset = '2024'")[0][
        "n"
    ] == len(RULES)


def verdict(winner: str | None) -> Verdict | None:
    scores = {"a": (8.0, 3.0), "b": (4.0, 6.0), "tie": (5.0, 5.0)}
    return Verdict(winner, *scores[winner]) if winner else None


@pytest.mark.parametrize("rule", list(RULES))
def test_sql_merges_orders_as_python_does(warehouse: Warehouse, rule: str):
    merged = [RULES[rule](*map(verdict, winners)) for winners in ORDERS]
    expected = Counter(merged)
    (found,) = rows(
        warehouse, f"select * from win_rates_all where dataset = '2024' and rule = '{rule}'"
    )
    assert {name: found[name] for name in ("win", "tie", "lose", "unparsable")} == expected
    assert found["judged"] == found["expected"] == len(ORDERS)
    assert found["complete"]
    read = expected["win"] + expected["tie"] + expected["lose"]
    assert found["win_pct"] == pytest.approx(100 * expected["win"] / read)
    assert found["adjusted_win_pct"] == pytest.approx(
        100 * (expected["win"] + expected["tie"] / 2) / read
    )
    by_question = rows(warehouse, "from pair_outcomes where dataset = '2024' order by question_id")
    assert [row[rule] or "unparsable" for row in by_question] == merged


def test_half_a_matchup_is_not_complete(warehouse: Warehouse):
    for row in rows(warehouse, "from win_rates_all where dataset = 'embedded'"):
        assert (row["judged"], row["expected"], row["complete"]) == (8, 16, False)


def test_an_order_that_was_not_judged_is_missing_not_a_tie(warehouse: Warehouse):
    statuses = rows(warehouse, "from pair_outcomes where dataset = 'gaps' order by question_id")
    assert [row["status"] for row in statuses] == ["ok", "missing", "missing"]
    (row,) = rows(warehouse, "from win_rates_all where dataset = 'gaps' and is_default_rule")
    assert (row["win"], row["tie"], row["judged"], row["complete"]) == (1, 0, 1, False)


def test_results_of_another_prompt_version_stand_alone(warehouse: Warehouse):
    versions = rows(
        warehouse,
        "select distinct dataset, prompt_version from win_rates_all where benchmark = 'smoke'",
    )
    assert {(row["dataset"], row["prompt_version"]) for row in versions} == {
        ("gaps", "x"),
        ("edited", "edited"),
    }


def test_single_scores_are_means_over_all_judged_turns(warehouse: Warehouse):
    (row,) = rows(warehouse, "from answer_scores_all where model = 'one@base'")
    assert row["turn_1"] == pytest.approx(7)
    assert row["turn_2"] == pytest.approx(3.5)
    assert row["score"] == pytest.approx(28 / 5)
    assert (row["judged"], row["expected"], row["unparsable"], row["complete"]) == (6, 6, 1, True)


def test_a_mean_over_part_of_the_turns_is_not_complete(warehouse: Warehouse):
    (row,) = rows(warehouse, "from answer_scores_all where model = 'two@base'")
    assert row["score"] == pytest.approx(7)
    assert (row["judged"], row["expected"], row["complete"]) == (3, 6, False)


def test_selected_samples_tell_why(warehouse: Warehouse):
    first, second = rows(
        warehouse, "from selected_samples where dataset = '2024' order by selector"
    )
    assert first["tags"] == ["math", "sums"]
    assert first["cluster_name"] == "math, sums"
    assert (first["comparisons"], first["scorer_model"]) == (4, "scorer")
    assert (first["response_chars"], first["reason"]) == (4, "1st of cluster 3")
    assert first["filled_by_embedded"]
    assert second["tags"] == []
    assert second["scorer_model"] is None
    assert not second["filled_by_embedded"]


def test_tag_merges_say_why_two_tags_are_one(warehouse: Warehouse):
    found = rows(warehouse, "from tag_merges where dataset = '2024' order by raw_tag")
    assert [(row["raw_tag"], row["samples"], row["normalized_tag"]) for row in found] == [
        ("Maths", 5, "math"),
        ("math", 9, "math"),
        ("odd", 1, None),
    ]
    assert [row["why"] for row in found] == [
        'rule: "Maths" became "maths"; semantic: "maths" became "math"',
        "unchanged",
        'frequency dropped "odd"',
    ]
    assert [row["dropped_by"] for row in found] == [None, None, "frequency"]


def test_benchmark_matches_name_the_subsets_that_hold_the_sample(warehouse: Warehouse):
    gone, known = rows(
        warehouse, "from benchmark_matches where dataset = '2024' order by benchmark"
    )
    assert (known["instruction"], known["match"]) == ("do s0", "equal")
    assert known["question"]
    assert known["chosen_by"] == ["opencs"]
    assert (gone["question"], gone["chosen_by"]) == (None, ["random"])


def test_what_the_embedded_model_filled_says_so(warehouse: Warehouse):
    for mart in ("win_rates_all", "pair_outcomes"):
        flags = rows(warehouse, f"select distinct dataset, filled_by_embedded, note from {mart}")
        for row in flags:
            assert row["filled_by_embedded"] == (row["dataset"] == "embedded")
            assert ("not to judge well" in (row["note"] or "")) == (row["dataset"] == "embedded")


def test_usage_with_an_unknown_price_has_no_total(warehouse: Warehouse):
    by_model = {
        row["model"]: row for row in rows(warehouse, "from llm_usage where dataset = '2024'")
    }
    assert (by_model["gpt"]["cost_usd"], by_model["gpt"]["cost_per_call"]) == (None, None)
    (embedded,) = (row for model, row in by_model.items() if model != "gpt")
    assert (embedded["calls"], embedded["prompt_tokens"], embedded["cost_usd"]) == (2, 20, 0.0)
    assert embedded["is_embedded"]


def test_usage_counts_what_was_cached_batched_and_of_no_use(warehouse: Warehouse):
    counted = rows(
        warehouse,
        "select dataset, calls, cached_tokens, batched, unusable from llm_usage "
        "where dataset in ('2024', 'killed', 'priced') order by all",
    )
    assert [tuple(row.values()) for row in counted] == [
        ("2024", 2, 0, 0, 0),
        ("2024", 3, 8, 1, 2),
        ("killed", 0, 0, 0, 0),
        ("priced", 2, 0, 1, 1),
    ]
    (priced,) = rows(warehouse, "from llm_usage where dataset = 'priced'")
    assert priced["cost_usd"] == pytest.approx(0.03)
    assert priced["cost_per_call"] == pytest.approx(0.015)


def test_lost_calls_are_counted_apart_at_the_most_that_they_can_have_cost(warehouse: Warehouse):
    counted = rows(
        warehouse,
        "select dataset, calls, cost_usd, cost_per_call, seconds, lost_calls, lost_usd "
        "from llm_usage where model = 'gpt' and dataset in ('2024', 'killed', 'priced') "
        "order by all",
    )
    assert [tuple(row.values()) for row in counted] == [
        ("2024", 3, None, None, 1.5, 0, 0.0),
        ("killed", 0, 0.0, None, 0.0, 2, None),
        ("priced", 2, pytest.approx(0.03), pytest.approx(0.015), 1.0, 1, 0.25),
    ]


def test_replies_that_an_older_release_wrote_say_less_and_break_nothing(
    warehouse: Warehouse, tmp_path: Path
):
    new = ["run", "status", "readable", "via", "request_id", "cached_tokens"]
    old = replies([{"model": "gpt", "cost_usd": 0.5}, {"model": "gpt", "cost_usd": 0.5}]).drop(new)
    file = tmp_path / "llm_replies" / "part.parquet"
    file.parent.mkdir(parents=True)
    old.write_parquet(file)
    old.clear().write_parquet(file.with_name("schema.parquet"))
    prepare_lake(str(tmp_path))
    # The mart's statement as dbt compiled it, over this lake.
    compiled = warehouse.path.parent / "dbt/target/compiled/opencs_eval/models/marts/calls"
    usage = (compiled / "llm_usage.sql").read_text(encoding="utf-8")
    usage = re.sub(r"(read_parquet\(')[^,]*(/llm_replies/)", rf"\1{tmp_path}\2", usage)
    (row,) = duckdb.sql(usage).to_arrow_table().to_pylist()
    assert (row["calls"], row["prompt_tokens"], row["cost_usd"]) == (2, 20, 1.0)
    assert [row[name] for name in ("cached_tokens", "unusable", "batched")] == [None] * 3


def test_the_plot_is_drawn(warehouse: Warehouse):
    assert win_tie_lose(warehouse.query("from win_rates_all")).axes
    assert win_tie_lose(warehouse.query("from win_rates limit 0")).axes
