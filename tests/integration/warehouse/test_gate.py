"""The publication gate: one lake with one defect a dataset, and one without any."""

import shutil
from pathlib import Path

import duckdb
import pytest

from opencs_assets.evaluation.checks import gate_finding
from opencs_assets.verification import marts
from opencs_assets.verification.findings import Findings
from opencs_assets.verification.marts import Rebuilt, compare
from resources.dbt_project import mart_keys
from resources.warehouse import Warehouse
from tests.integration.warehouse.gate_lake import MATCHUP
from tests.oracle import marts as oracle

MISSING = "of 80 judgments are missing"
UNEVEN = "unequal shares of the categories are judged"
IN_ORDERS = f"{UNEVEN} in the two orders"
NO_TURN_2 = "unequal shares of the turns are judged (turn 1: 40 of 40, turn 2: 0 of 40)"
NO_TURN_1 = "unequal shares of the turns are judged (turn 1: 0 of 40, turn 2: 40 of 40)"
ONE_ORDER = "questions were judged in one order only"
PROMPT = "missing judgments were made with another prompt"
JUDGE = "missing judgments were made by another judge"
SAMPLING = "missing judgments were made with another sampling"
UNREAD = "5 of 80 judgments could not be read, more than 5 %"
STALE = "3 of 40 answers of one are not from its current checkpoint"
UNLOOKED = "contaminated_samples of unknown was never materialized"
LACK_M2 = "2 of 80 answers of m2 are missing: 1 of turn 1, 1 of turn 2"
CHOOSE = "none of them counts until a person chooses: opencs prefer-verdicts FILE"
# Of each dataset, or matchup of files: every rule that a result does not keep, and those that it
# keeps with a reason.
BROKEN: dict[str, list[tuple[str, str, bool | None, str]]] = {
    "good": [],
    "half": [
        ("one", "equal_mix", False, NO_TURN_2),
        ("one", "every_judgment", False, f"40 {MISSING}: 40 of turn 2"),
        (MATCHUP, "every_judgment", False, f"40 {MISSING}"),
    ],
    # Exactly 5 % may be unparsable.
    "limit": [],
    "unread": [
        ("one", "few_unparsable", False, UNREAD),
        (MATCHUP, "few_unparsable", False, UNREAD),
    ],
    "nothing": [
        ("one", "every_judgment", False, f"80 {MISSING}: 40 of turn 1, 40 of turn 2"),
        ("one", "few_unparsable", None, "nothing is judged"),
        (MATCHUP, "every_judgment", False, f"80 {MISSING}"),
        (MATCHUP, "few_unparsable", None, "nothing is judged"),
    ],
    "one_order": [
        (MATCHUP, "both_orders", False, f"5 {ONE_ORDER}: 0 with one first, 5 with two first"),
        (MATCHUP, "equal_mix", False, f"{UNEVEN} (coding: 38 of 40, math: 37 of 40)"),
        (MATCHUP, "every_judgment", False, f"5 {MISSING}"),
    ],
    "other_order": [
        (MATCHUP, "both_orders", False, f"1 {ONE_ORDER}: 1 with one first, 0 with two first"),
        (MATCHUP, "equal_mix", False, f"{UNEVEN} (coding: 40 of 40, math: 39 of 40)"),
        (MATCHUP, "every_judgment", False, f"1 {MISSING}"),
    ],
    "sides": [
        (MATCHUP, "both_orders", False, f"10 {ONE_ORDER}: 5 with one first, 5 with two first"),
        (MATCHUP, "equal_mix", False, IN_ORDERS),
        (MATCHUP, "every_judgment", False, f"10 {MISSING}"),
    ],
    "mix": [
        ("one", "equal_mix", False, f"{UNEVEN} (coding: 40 of 40, math: 20 of 40)"),
        ("one", "every_judgment", False, f"20 {MISSING}: 10 of turn 1, 10 of turn 2"),
    ],
    "judge": [
        ("one", "equal_mix", False, NO_TURN_1),
        ("one", "equal_mix", False, NO_TURN_2),
        ("one", "every_judgment", False, f"40 {MISSING}: 40 of turn 1"),
        ("one", "every_judgment", False, f"40 {MISSING}: 40 of turn 2"),
        ("one", "same_judge", False, f"40 {PROMPT}, single v2"),
        ("one", "same_judge", False, f"40 {PROMPT}, single x"),
        (MATCHUP, "every_judgment", False, f"20 {MISSING}"),
        (MATCHUP, "every_judgment", False, f"60 {MISSING}"),
        (MATCHUP, "same_judge", False, f"20 {JUDGE}, gpt-4o"),
        (MATCHUP, "same_judge", False, f"60 {JUDGE}, gpt"),
    ],
    "ways": [
        (MATCHUP, "every_judgment", False, f"40 {MISSING}"),
        (MATCHUP, "every_judgment", False, f"60 {MISSING}"),
        (MATCHUP, "every_judgment", False, f"60 {MISSING}"),
        (MATCHUP, "same_judge", False, f"20 {PROMPT}, scores x, 20 {PROMPT}, scores x"),
        (MATCHUP, "same_judge", False, f"20 {SAMPLING}, s2, 40 {PROMPT}, scores x"),
        (MATCHUP, "same_judge", False, f"20 {SAMPLING}, x, 40 {PROMPT}, scores x"),
    ],
    "fewer": [
        ("one", "answers_complete", False, "1 of 80 answers of one are missing: 1 of turn 2"),
        (MATCHUP, "answers_complete", False, "1 of 80 answers of one are missing: 1 of turn 2, "
         "10 of 80 answers of two are missing: 5 of turn 1, 5 of turn 2"),
    ],
    "silent": [(MATCHUP, "answers_complete", False, "no answer of two is in the lake")],
    "stale": [("one", "chat_template", False, STALE), (MATCHUP, "chat_template", False, STALE)],
    "templates": [
        (MATCHUP, "chat_template", False, "chat templates differ: one has x, two has other"),
    ],
    "bases": [],
    "epochs_apart": [
        ("gone@base", "parity", None, "the matchup is not declared any more"),
        (MATCHUP, "parity", False,
         "one was trained for 15 epochs, two for 3, which is more than 1 % apart"),
        ("own_budgets@base", "parity", True, "declared: each side has its own budget"),
    ],
    # Exactly 1 % of tokens may be between them, and no step.
    "tokens_limit": [
        ("by_steps@base", "parity", False, "one was trained for 60 steps, two for 61"),
        ("gone@base", "parity", None, "the matchup is not declared any more"),
        ("own_budgets@base", "parity", True, "declared: each side has its own budget"),
    ],
    "tokens_apart": [
        ("by_tokens@base", "parity", False,
         "one was trained for 989 tokens, two for 1000, which is more than 1 % apart"),
        ("gone@base", "parity", None, "the matchup is not declared any more"),
        ("own_budgets@base", "parity", True, "declared: each side has its own budget"),
    ],
    "outsiders": [("outside_first@base", "parity", None, "gpt-y is not trained here")],
    "leak": [
        (MATCHUP, "no_contamination", False,
         "2 samples of the subset of two match 2 questions of bench"),
    ],
    "unknown": [
        ("one", "no_contamination", None, UNLOOKED), (MATCHUP, "no_contamination", None, UNLOOKED),
    ],
    "untrained": [
        (MATCHUP, "chat_template", False, "no checkpoint of two is in the lake"),
        (MATCHUP, "no_contamination", False,
         "1 samples of the subset of two match 2 questions of bench"),
        (MATCHUP, "parity", None, "no checkpoint of two is in the lake"),
    ],
    "m1 vs m2": [
        ("m1 vs m2", "answers_complete", False, LACK_M2),
        ("m1 vs m2", "answers_complete", False, LACK_M2),
        ("m1 vs m2", "equal_mix", False, f"{UNEVEN} (coding: 24 of 40, math: 26 of 40)"),
        ("m1 vs m2", "every_judgment", False, f"30 {MISSING}: 15 of turn 1, 15 of turn 2"),
        ("m1 vs m2", "same_judge", False, f"30 {JUDGE}, gpt"),
    ],
    "m1 vs m3": [
        ("m1 vs m3", "answers_complete", None, "no answer of m3 is in the lake"),
        ("m1 vs m3", "both_orders", None,
         "the file does not say of 78 outcomes whether two orders agreed"),
    ],
    "m1 vs m4": [],
    "m1 vs m5": [
        ("m1 vs m5", "answers_complete", None, "no answer of m5 is in the lake"),
        ("m1 vs m5", "both_orders", None, "the file does not say whose answer was shown first"),
    ],
    "m2 vs m3": [
        ("m2 vs m3", "answers_complete", False, f"{LACK_M2}, no answer of m3 is in the lake"),
        ("m2 vs m3", "equal_mix", False, f"{UNEVEN} (coding: 40 of 40, math: 38 of 40)"),
        ("m2 vs m3", "every_judgment", False, f"2 {MISSING}: 1 of turn 1, 1 of turn 2"),
        ("m2 vs m3", "no_conflicts", False,
         f"2 verdicts contradict each other, of 0.jsonl, 1.jsonl; {CHOOSE}"),
    ],
    "m1": [
        ("m1", "equal_mix", False,
         "unequal shares of the turns are judged (turn 1: 39 of 40, turn 2: 40 of 40)"),
        ("m1", "every_judgment", False, f"1 {MISSING}: 1 of turn 1"),
        ("m1", "no_conflicts", False,
         f"1 verdicts contradict each other, of single.jsonl; {CHOOSE}"),
    ],
}  # fmt: skip
# What no file says of a model.
OF_IMPORTED = {
    "parity": "imported: how the models were trained is not known",
    "chat_template": "imported: how the models were asked is not known",
    "no_contamination": "imported: what the models were trained on is not known",
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_that_is_not_kept_has_its_reason(warehouse: Warehouse, name: str):
    rules = warehouse.query(
        "select subject, rule, passed, reason from publication_gate where benchmark = 'bench' "
        f"and '{name}' in (dataset, if(source = 'imported', subject, null)) "
        "and (passed is distinct from true or reason is not null) "
        "and reason not like 'imported:%'"
    )
    assert sorted(rules.rows()) == sorted(BROKEN[name])


def test_of_imported_ones_some_rules_cant_be_told(warehouse: Warehouse):
    rules = warehouse.query(
        "select distinct rule, passed, reason from publication_gate where source = 'imported' "
        f"and rule in {tuple(OF_IMPORTED)}"
    )
    assert set(rules.rows()) == {(rule, None, reason) for rule, reason in OF_IMPORTED.items()}


def test_what_is_sound_is_published_and_every_rule_of_it_told(warehouse: Warehouse):
    rules = warehouse.query(
        "select kind, list(rule) as rules from publication_gate where dataset = 'good' "
        "group by kind order by kind"
    )
    of_pairs = {"both_orders", "parity"}
    pair, single = (set(told) for told in rules["rules"])
    assert (len(pair), pair - single) == (10, of_pairs)
    (row,) = warehouse.query("from win_rates where dataset = 'good' and is_default_rule").to_dicts()
    assert (row["rule"], row["parity"], row["win"], row["tie"], row["lose"]) == (
        "win_or_tie", "epochs", 20, 10, 10,
    )  # fmt: skip
    assert row["ci_low"] < row["adjusted_win_pct"] == 62.5 < row["ci_high"]


@pytest.mark.parametrize(
    ("mart", "where", "badge", "unchecked"),
    [
        ("win_rates_all", "dataset = 'good'", "ok", []),
        ("answer_scores_all", "dataset = 'good'", "ok", []),
        ("answer_scores_all", "dataset = 'half'", "incomplete", []),
        ("win_rates_all", "dataset = 'nothing'", "incomplete", ["few_unparsable"]),
        ("win_rates_all", "dataset = 'silent'", "incomplete", []),
        ("win_rates_all", "dataset = 'one_order'", "incomplete", []),
        ("win_rates_all", "dataset = 'unread'", "incomplete", []),
        ("answer_scores_all", "dataset = 'stale'", "unfair", []),
        ("win_rates_all", "dataset = 'leak'", "unfair", []),
        ("win_rates_all", "dataset = 'unknown'", "ok", ["no_contamination"]),
        ("win_rates_all", "dataset = 'untrained'", "unfair", ["parity"]),
        ("win_rates_all", "matchup = 'm1 vs m3'", "ok",
         ["both_orders", "answers_complete", "parity", "chat_template", "no_contamination"]),
    ],
)  # fmt: skip
def test_a_badge_says_what_the_rules_say(warehouse: Warehouse, mart, where, badge, unchecked):
    rows = warehouse.query(f"select distinct badge, unchecked from {mart} where {where}").rows()
    assert rows == [(badge, unchecked)]


def test_the_first_reason_of_a_badge_is_the_first_rules(warehouse: Warehouse):
    (row,) = warehouse.query("from answer_scores_all where dataset = 'half'").to_dicts()
    assert row["reason"] == f"40 {MISSING}: 40 of turn 2; {NO_TURN_2}"
    assert (row["score"], row["judged"], row["expected"], row["complete"]) == (7.0, 40, 80, False)


def test_where_nothing_is_judged_every_rule_has_a_row_without_shares(warehouse: Warehouse):
    rows = warehouse.query(
        "select rule, win, tie, lose, unparsable, judged, expected, win_pct, adjusted_win_pct, "
        "complete from win_rates_all where dataset = 'nothing' order by rule"
    ).rows()
    assert rows == [
        (rule, 0, 0, 0, 0, 0, 40, None, None, False)
        for rule in ("both_agree", "sum_of_scores", "win_or_tie")
    ]


@pytest.mark.parametrize(
    "mart", ["answer_scores", "win_rates", "answer_scores_by_category", "length_bias"]
)
def test_what_is_not_ok_is_in_no_final_mart(warehouse: Warehouse, mart: str):
    badges = warehouse.query(
        f"select distinct badge from {mart} join interim.result_badges as badges using (result_id)"
    )
    assert badges["badge"].to_list() == ["ok"]


def test_a_verdict_is_traced_to_answers_subset_tags_prompts_replies_and_cost(warehouse: Warehouse):
    first, second = warehouse.query(
        "from verdict_trace where dataset = 'traced' and kind = 'pair' and question_id = 'q01' "
        "order by shown_first"
    ).to_dicts()
    assert (first["winner"], second["winner"]) == ("a", "b")
    assert (first["reply_id"], first["reply_model"], first["cost_usd"]) == ("judged", "gpt", 0.02)
    assert (first["model_a"], first["checkpoint_a"]) == ("one", "traced-one")
    assert [each.split()[0] for each in first["answer_a"]] == ["one", "one"]
    assert [each.split()[0] for each in first["answer_b"]] == ["two", "two"]
    assert (first["selector_a"], first["subset_hash_a"], first["samples_a"]) == ("one", "of one", 2)
    assert first["frequent_tags_a"] == [
        {"tag": "math", "samples": 2},
        {"tag": "sums", "samples": 1},
    ]
    assert first["frequent_tags_b"] is None
    (asked,) = first["chosen_with_a"]
    assert asked.pop("cost_usd") == pytest.approx(0.003)
    assert asked == {
        "stage": "open_tags", "model": "mini", "prompt_version": "tags-1", "replies": 2,
    }  # fmt: skip


def test_the_checks_name_results_and_reasons(warehouse: Warehouse):
    rows = warehouse.query(
        "from publication_gate where dataset in ('epochs_apart', 'tokens_apart')"
    )
    finding = gate_finding(rows, "pair", "parity")
    assert not finding.passed
    assert (finding.metadata["failed"], len(finding.metadata["reasons"])) == (2, 2)
    assert finding.description.startswith("2 of ")
    assert "two for 3, which is more than 1 % apart" in finding.description
    assert finding.description.endswith(f"of {finding.metadata['unknown']} it can't be told")
    assert gate_finding(rows, "single", "no_conflicts").passed


def verified(warehouse: Warehouse, path: Path) -> list[str]:
    """What verifying finds in a file where a build of the same lake gives ``warehouse``."""
    findings = Findings()
    compare(path, Rebuilt(warehouse.path, mart_keys(), []), findings)
    return [fault.line() for fault in findings.faults]


def harmed(warehouse: Warehouse, folder: Path, *statements: str) -> list[str]:
    """What it finds after statements have changed a copy."""
    copied = Path(shutil.copy(warehouse.path, folder))
    with duckdb.connect(copied) as changed:
        for statement in statements:
            (rows,) = changed.execute(statement).fetchone()
            assert rows > 0, statement
    return verified(warehouse, copied)


def test_every_mart_is_what_its_lake_counted_anew_gives(warehouse: Warehouse):
    """The lake holds results of every kind, and of each rule some that break it."""
    assert oracle.faults(warehouse) == []
    assert verified(warehouse, warehouse.path) == []


FOUR = ("same_judge", "answers_complete", "chat_template", "no_contamination")
# The results whose broken rules the warehouse calls kept, and those without a row of the rule.
CALLED_KEPT = "and benchmark = 'bench' and dataset <> 'leak'"


def test_what_was_changed_in_a_warehouse_is_found(warehouse: Warehouse, tmp_path, monkeypatch):
    # The trace is compared in pieces; one of them has a result that there is not.
    monkeypatch.setattr(marts, "_PIECE", 5_000)
    lines = harmed(
        warehouse,
        tmp_path,
        *(
            "update publication_gate set passed = true, reason = null "
            f"where rule = '{name}' and not passed {CALLED_KEPT}"
            for name in FOUR
        ),
        "delete from publication_gate where rule = 'no_contamination' and dataset = 'leak'",
        "update win_rates_all set badge = 'ok', reason = null where dataset = 'leak'",
        "delete from conflicting_verdicts where file_name = '0.jsonl'",
        "update conflicting_verdicts set winner = 'b' where file_name = '1.jsonl'",
        "insert into single_outcomes select * replace ('it''s invented' as result_id) "
        "from single_outcomes where status = 'ok' limit 1",
        "update interim.answers set texts = ['so'] where pool = 'good' and model = 'two'",
    )
    edited = ("edited: publication_gate", "passed True; should be: passed False")
    for parts in (
        *((*edited, f"rule {name}") for name in FOUR),
        # A result is not ok because the gate has no row of the rule.
        ("missing: publication_gate", "rule no_contamination", "no row"),
        ("edited: win_rates_all", "dataset leak", "badge 'ok'; should be: badge 'unfair'"),
        ("missing: conflicting_verdicts, file f3, row 0", "file_name 0.jsonl"),
        ("conflicting_verdicts", "winner 'b'; should be: winner 'a'"),
        ("unknown: verdict_trace, result_id it's",),
        ("verdict_trace", "answer_b ['so']"),
    ):
        assert any(all(part in line for part in parts) for line in lines), "\n".join(lines)
    assert sum("conflicting_verdicts" in line for line in lines) == 2
