"""Published numbers once more: mean scores, win rates, their intervals, and ratings.

Only what is drawn with a seed or fitted is taken from where the marts take it,
``evaluation.estimates``.
"""

import polars as pl

from opencs_assets.protocols.merging import RULES
from opencs_assets.statistics import estimates
from tests.oracle.recount import (
    IS_OK,
    RESULT,
    Tables,
    by_embedded,
    declared,
    default_outcome,
    default_rule_of,
    percent,
    trained,
)


def mean_scores(
    singles: pl.DataFrame, results: pl.DataFrame, found: pl.DataFrame, intervals: pl.DataFrame
) -> pl.DataFrame:
    """The rows of ``answer_scores_all``."""
    return (
        singles.group_by("result_id")
        .agg(
            **_means(),
            **_judged(),
            complete=pl.col("status").is_in(["ok", "unparsable", "stopped"]).all(),
        )
        .join(results.filter(pl.col("kind") == "single"), on="result_id")
        .join(found, on="result_id", how="left")
        .join(_intervals(intervals, "score"), on="result_id", how="left")
        .select(
            *_identity("model"), "turn_1", "turn_2", "score", "ci_low", "ci_high", "judged",
            "expected", "unparsable", "complete", "badge", "reason", "unchecked", by_embedded(),
        )
    )  # fmt: skip


def scores_by_category(singles: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``answer_scores_by_category``."""
    names = ["result_id", *("model" if name == "subject" else name for name in RESULT)]
    return (
        singles.group_by("result_id", "category")
        .agg(**_means(), **_judged())
        .join(published.select(*names, "filled_by_embedded"), on="result_id")
        .select(
            *names, "category", "turn_1", "turn_2", "score", "judged", "expected", "unparsable",
            "filled_by_embedded",
        )
    )  # fmt: skip


def win_rates(
    pairs: pl.DataFrame,
    results: pl.DataFrame,
    found: pl.DataFrame,
    intervals: pl.DataFrame,
    tables: Tables,
) -> pl.DataFrame:
    """The rows of ``win_rates_all``."""
    judged = pl.col("status").is_in(["ok", "unparsable"])
    frames = []
    for rule in RULES:
        counted = pairs.group_by("result_id").agg(
            **{
                name: (pl.col(rule) == name).sum().cast(pl.Int64) for name in ("win", "tie", "lose")
            },
            judged=judged.sum().cast(pl.Int64),
            expected=pl.len().cast(pl.Int64),
            stopped=(pl.col("status") == "stopped").sum().cast(pl.Int64),
            known=pl.col("orders_agree").is_not_null().sum(),
            disagree=pl.col("orders_agree").eq(False).sum(),
        )
        if rule == "sum_of_scores":
            # Verdicts without scores have no sum.
            counted = counted.filter(
                (pl.col("win") + pl.col("tie") + pl.col("lose") > 0) | (pl.col("judged") == 0)
            )
        frames.append(
            counted.with_columns(rule=pl.lit(rule)).join(
                _intervals(intervals, rule), on="result_id", how="left"
            )
        )
    decided = pl.col("win") + pl.col("tie") + pl.col("lose")
    sides = (
        results.filter(pl.col("kind") == "pair")
        .join(trained(tables, "a"), on=["dataset", "model_a"], how="left")
        .join(trained(tables, "b"), on=["dataset", "model_b"], how="left")
        .join(declared(tables), on=["source", "subject"], how="left")
    )
    return (
        pl.concat(frames)
        .join(sides.drop("stopped"), on="result_id")
        .join(found, on="result_id", how="left")
        .select(
            *_identity("matchup"), "model_a", "model_b", "rule",
            "win", "tie", "lose", "judged", "expected", "stopped", "ci_low", "ci_high", "parity",
            "epochs_a", "epochs_b", "steps_a", "steps_b", "tokens_a", "tokens_b", "template_a",
            "template_b", "badge", "reason", "unchecked", by_embedded(),
            is_default_rule=pl.col("rule") == default_rule_of(),
            unparsable=pl.col("judged") - decided,
            win_pct=percent(pl.col("win"), decided),
            tie_pct=percent(pl.col("tie"), decided),
            lose_pct=percent(pl.col("lose"), decided),
            adjusted_win_pct=percent(pl.col("win") + 0.5 * pl.col("tie"), decided),
            orders_disagree_pct=percent(pl.col("disagree"), pl.col("known")),
            complete=pl.col("judged") + pl.col("stopped") == pl.col("expected"),
        )
    )  # fmt: skip


def intervals_of(singles: pl.DataFrame, pairs: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """The intervals of mean scores and adjusted win rates, by the marts' seeded bootstrap.

    Of win rates those of the protocol's default rule have one.

    Returns:
        ``result_id``, ``rule`` (``score`` of single judgments), ``ci_low`` and ``ci_high``.
    """
    keys = ["result_id", "benchmark", "question_id"]
    worth = {"win": 100.0, "tie": 50.0, "lose": 0.0}
    values = [
        singles.filter(IS_OK).select(
            *keys, value=pl.col("score"), rule=pl.lit("score"), low=pl.lit(1.0), high=pl.lit(10.0)
        )
    ] + [
        pairs.filter(default_rule_of() == rule).select(
            *keys,
            value=pl.col(rule).replace_strict(worth, default=None, return_dtype=pl.Float64),
            rule=pl.lit(rule),
            low=pl.lit(0.0),
            high=pl.lit(100.0),
        )
        for rule in RULES
    ]
    summed = (
        pl.concat(values)
        .drop_nulls("value")
        .group_by(*keys, "rule", "low", "high")
        .agg(total=pl.col("value").sum(), count=pl.len().cast(pl.Float64))
        .join(results.select("result_id", "stopped"), on="result_id")
        .sort("result_id", "rule", "question_id")
    )
    questions = pl.concat(
        [frame.select("benchmark", "question_id") for frame in (singles, pairs)]
    ).unique()
    found = estimates.result_intervals(summed.to_arrow(), questions.to_arrow())
    return pl.DataFrame(pl.from_arrow(found))


def leaderboards(pairs: pl.DataFrame, results: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``leaderboard``, by the marts' fit and its seeded intervals."""
    board = [name for name in RESULT if name != "subject"]
    published = results.filter(pl.col("kind") == "pair").join(
        found.filter(pl.col("badge") == "ok"), on="result_id", how="semi"
    )
    boards = published.select(board).unique().sort(board).with_row_index("board")
    share = default_outcome().replace_strict(
        {"win": 1.0, "tie": 0.5, "lose": 0.0}, default=None, return_dtype=pl.Float64
    )
    played = (
        pairs.filter(IS_OK)
        .join(published.select("result_id"), on="result_id", how="semi")
        .join(boards, on=board)
        .with_columns(share=share)
    )
    rated = estimates.ratings(
        played.drop_nulls("share")
        .sort("board", "question_id", "model_a", "model_b", "turn")
        .select("board", "question_id", "model_a", "model_b", "share")
        .to_arrow()
    )
    met = pl.concat(
        [played.select("board", "result_id", model=pl.col(side)) for side in ("model_a", "model_b")]
    )
    counted = met.group_by("board", "model").agg(
        matchups=pl.col("result_id").n_unique().cast(pl.Int64), questions=pl.len().cast(pl.Int64)
    )
    return (
        pl.DataFrame(pl.from_arrow(rated))
        .join(boards, on="board")
        .join(counted, on=["board", "model"])
        .select(
            *board, "model", "rating", "ci_low", "ci_high", "matchups", "questions", by_embedded(),
            rank=pl.col("rating")
            .rank("min", descending=True)
            .over("board", "component")
            .cast(pl.Int64),
        )
    )  # fmt: skip


def _means() -> dict[str, pl.Expr]:
    score = pl.col("score").filter(IS_OK)
    return {
        **{
            f"turn_{turn}": pl.col("score").filter(IS_OK & (pl.col("turn") == turn)).mean()
            for turn in (1, 2)
        },
        "score": score.mean(),
    }


def _judged() -> dict[str, pl.Expr]:
    return {
        "judged": pl.col("status").is_in(["ok", "unparsable"]).sum().cast(pl.Int64),
        "expected": pl.len().cast(pl.Int64),
        "unparsable": (pl.col("status") == "unparsable").sum().cast(pl.Int64),
    }


def _intervals(intervals: pl.DataFrame, rule: str) -> pl.DataFrame:
    return intervals.filter(pl.col("rule") == rule).select("result_id", "ci_low", "ci_high")


def _identity(subject: str) -> list[pl.Expr]:
    return [
        pl.col("result_id"),
        *(pl.col(name).alias(subject if name == "subject" else name) for name in RESULT),
    ]
