"""A warehouse of marts written by hand, for what only reads marts."""

from pathlib import Path
from typing import Any

import duckdb
import polars as pl

EMBEDDED = "filled by the embedded model: it is there to run, not to judge well"
CATEGORIES = ("coding", "math", "writing", "stem")
SUITES = {"koala": 180, "vicuna": 80}


def warehouse_of(path: Path, models: list[str], *, embedded: bool = False) -> Path:
    """Write a warehouse in which the first model is compared with the others.

    Args:
        path: The file.
        models: Names of the models; at least one.
        embedded: The embedded model judged.
    """
    with duckdb.connect(path) as connection:
        for name, rows in _marts(models, embedded).items():
            frame = rows.to_arrow()  # noqa: F841
            connection.execute(f'create table "{name}" as select * from frame')
    return path


def _marts(models: list[str], embedded: bool) -> dict[str, pl.DataFrame]:
    judge = "embedded:smollm2-135m-instruct" if embedded else "gpt-4"
    known = {
        "source": "judged",
        "dataset": "alpaca",
        "judge": judge,
        "protocol": "scores",
        "reading": "generated",
        "prompt_version": "judge-1",
        "sampling": '{"temperature": 0.0}',
    }
    note = {"filled_by_embedded": embedded, "note": EMBEDDED if embedded else None}
    scores, by_category, wins, ratings = [], [], [], []
    for place, model in enumerate(models):
        short = place % 7 == 3
        mean = 6.5137 - place * 0.117
        result = f"single-{place:012x}"
        scores.append(
            {
                **known,
                **note,
                "result_id": result,
                "model": model,
                "benchmark": "mt_bench",
                "turn_1": mean + 0.5,
                "turn_2": None if short else mean - 0.5,
                "score": mean,
                "ci_low": mean - 0.3,
                "ci_high": mean + 0.3,
                "judged": 80 if short else 160,
                "expected": 160,
                "unparsable": place % 3,
                "complete": not short,
                "badge": "incomplete" if short else "ok",
                "reason": "80 of 160 judgments are there" if short else None,
                "unchecked": ["parity"] if place % 2 else [],
            }
        )
        by_category += [
            {
                **known,
                "result_id": result,
                "model": model,
                "benchmark": "mt_bench",
                "category": category,
                "turn_1": mean,
                "turn_2": mean,
                "score": max(1.0, mean - 1.7 * ((number + place) % 3)),
                "judged": 40,
                "expected": 40,
                "unparsable": 0,
            }
            for number, category in enumerate(CATEGORIES)
        ]
        ratings.append(
            {
                **known,
                "benchmark": "koala",
                "rank": place + 1,
                "model": model,
                "rating": 1100.0 - 9 * place,
                "ci_low": 1040.0 - 9 * place,
                "ci_high": 1160.0 - 9 * place,
                "matchups": len(models),
                "questions": 180,
            }
        )
        if place:
            wins += [
                _win(
                    f"pair-{place:06x}{suite[:6]:_>6}", known | note, models[0], model, suite, rule
                )
                for suite in SUITES
                for rule in ("win_or_tie", "both_agree")
            ]
    pairs = pl.DataFrame(wins, infer_schema_length=None) if wins else _no_wins(known | note)
    singles = pl.DataFrame(scores, infer_schema_length=None)
    fit = pl.col("badge") == "ok"
    bias = {name: known[name] for name in ("source", "dataset", "judge", "protocol")}
    return {
        "answer_scores_all": singles,
        "answer_scores": singles.filter(fit).drop("badge", "reason"),
        "answer_scores_by_category": pl.DataFrame(by_category),
        "win_rates_all": pairs,
        "win_rates": pairs.filter(fit).drop("badge", "reason"),
        "leaderboard": pl.DataFrame(ratings),
        "position_bias": pl.DataFrame(
            [
                {
                    **bias,
                    "prompt_version": "judge-1",
                    "benchmark": suite,
                    "category": category,
                    "pairs": 80,
                    "orders_disagree": 21,
                    "orders_disagree_pct": 26.25,
                    "full_flips": 4,
                    "full_flips_pct": 5.0,
                    "toward_first": 15,
                    "toward_second": 6,
                    "toward_first_pct": 71.4286,
                }
                for suite in SUITES
                for category in ("all", *CATEGORIES)
            ]
        ),
        "length_bias": pl.DataFrame(
            [
                {
                    "result_id": row["result_id"],
                    "model_a": row["model_a"],
                    "model_b": row["model_b"],
                    "benchmark": row["benchmark"],
                    "judge": judge,
                    "questions": 80,
                    "decided": 60,
                    "longer_wins": 41,
                    "longer_win_pct": 68.3333,
                    "win_pct": 55.5,
                    "lc_win_pct": 49.25,
                    "lc_method": "lc_no_difficulty",
                    "lc_questions": 80,
                }
                for row in pairs.filter("is_default_rule").iter_rows(named=True)
            ],
            schema_overrides={"result_id": pl.String},
        )
        if wins
        else _EMPTY["length_bias"],
        "judge_agreement": pl.DataFrame(
            [
                {
                    "benchmark": "mt_bench",
                    "judge_a": judge,
                    "judge_b": "expert",
                    "turn": 0,
                    "with_ties": with_ties,
                    "votes": 1000,
                    "agree": 846,
                    "agree_pct": 84.6,
                    "kappa": 0.6913,
                }
                for with_ties in (False, True)
            ]
        ),
        "publication_gate": pl.DataFrame(
            [
                {
                    "result_id": row["result_id"],
                    "kind": "single",
                    "source": "judged",
                    "dataset": "alpaca",
                    "subject": row["model"],
                    "benchmark": "mt_bench",
                    "judge": judge,
                    "rule": "every_judgment",
                    "passed": row["badge"] == "ok",
                    "reason": row["reason"],
                }
                for row in scores
            ],
            infer_schema_length=None,
        ),
        "rejected_imports": pl.DataFrame(
            [
                {
                    "file": "f" * 64,
                    "file_name": "gpt-4_single.jsonl",
                    "row": row,
                    "reason": "unknown_question",
                    "detail": "question 999 is of no benchmark",
                    "excerpt": '{"question_id": 999}',
                }
                for row in range(3)
            ]
        ),
        "conflicting_verdicts": pl.DataFrame({"benchmark": ["mt_bench"]}),
        "verdict_trace": pl.DataFrame({"reply_id": ["0", "1"]}),
        "llm_usage": pl.DataFrame(
            [
                {
                    "stage": "single_verdicts",
                    "role": "judge",
                    "model": judge,
                    "dataset": dataset,
                    "calls": 1600,
                    "prompt_tokens": 1_234_567,
                    "completion_tokens": 54_321,
                    "unusable": 3,
                    "cost_usd": 12.3456,
                    "seconds": 612.25,
                    "lost_calls": 7,
                    "lost_usd": 0.0625,
                    "note": EMBEDDED if embedded else None,
                }
                for dataset in ("alpaca", None)
            ]
        ),
    }


def _win(
    result: str, known: dict[str, Any], model_a: str, model_b: str, suite: str, rule: str
) -> dict[str, Any]:
    questions = SUITES[suite]
    win, lose = questions // 2, questions // 5
    unfair = suite == "vicuna" and len(model_b) % 2 == 0
    return {
        **known,
        "result_id": result,
        "matchup": f"{model_a} vs {model_b}",
        "benchmark": suite,
        "model_a": model_a,
        "model_b": model_b,
        "rule": rule,
        "is_default_rule": rule == "win_or_tie",
        "win": win,
        "tie": questions - win - lose - 1,
        "lose": lose,
        "unparsable": 1,
        "judged": questions,
        "expected": questions,
        "stopped": 0,
        "win_pct": 100 * win / (questions - 1),
        "tie_pct": 100 * (questions - win - lose - 1) / (questions - 1),
        "lose_pct": 100 * lose / (questions - 1),
        "adjusted_win_pct": 64.9123,
        "ci_low": 57.123,
        "ci_high": 71.987,
        "orders_disagree_pct": 26.25,
        "parity": "epochs",
        "epochs_a": 15.0,
        "epochs_b": 3.0 if unfair else 15.0,
        "steps_a": 60,
        "steps_b": 60,
        "tokens_a": 1_500_000,
        "tokens_b": 1_400_000,
        "template_a": "alpaca",
        "template_b": "alpaca",
        "complete": True,
        "badge": "unfair" if unfair else "ok",
        "reason": "15 epochs against 3" if unfair else None,
        "unchecked": [],
    }


def _no_wins(known: dict[str, Any]) -> pl.DataFrame:
    one = pl.DataFrame([_win("pair-0", known, "a", "b", "koala", "win_or_tie")])
    return one.clear()


_EMPTY = {
    "length_bias": pl.DataFrame(
        schema={
            "result_id": pl.String,
            "model_a": pl.String,
            "model_b": pl.String,
            "benchmark": pl.String,
            "judge": pl.String,
            "questions": pl.Int64,
            "decided": pl.Int64,
            "longer_wins": pl.Int64,
            "longer_win_pct": pl.Float64,
            "win_pct": pl.Float64,
            "lc_win_pct": pl.Float64,
            "lc_method": pl.String,
            "lc_questions": pl.Int64,
        }
    )
}
