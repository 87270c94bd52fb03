"""What is told of judges once more: position bias, length bias, agreement."""

import polars as pl

from opencs_assets.statistics import estimates
from tests.oracle.recount import (
    IMPORTED_POOL,
    IS_OK,
    Tables,
    by_embedded,
    default_outcome,
    percent,
)

_JUDGES = ["benchmark", "judge_a", "judge_b", "turn"]


def position_bias(pairs: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``position_bias``."""
    value = {"a": 1, "tie": 0, "b": -1}
    first, second = (
        pl.col(f"winner_{side}").replace_strict(value, default=None, return_dtype=pl.Int64)
        for side in "ab"
    )
    keys = ("source", "dataset", "benchmark", "judge", "protocol", "prompt_version", "category")
    agree = pl.col("orders_agree")
    counted = (
        pl.concat([pairs, pairs.with_columns(category=pl.lit("all"))])
        .group_by(keys)
        .agg(
            pairs=agree.is_not_null().sum(),
            orders_disagree=agree.eq(False).sum(),
            compared=(first.is_not_null() & second.is_not_null()).sum(),
            full_flips=(first * second == -1).sum(),
            toward_first=(first > second).sum(),
            toward_second=(first < second).sum(),
        )
        .with_columns(pl.col(pl.UInt32).cast(pl.Int64))
        .filter(pl.col("pairs") > 0)
    )
    whole = pl.col("compared") == pl.col("pairs")
    known = counted.with_columns(
        pl.when(whole).then(pl.col(name)).alias(name)
        for name in ("full_flips", "toward_first", "toward_second")
    )
    toward = pl.col("toward_first") + pl.col("toward_second")
    return known.select(
        *keys, "pairs", "orders_disagree", "full_flips", "toward_first", "toward_second",
        by_embedded(),
        orders_disagree_pct=percent(pl.col("orders_disagree"), pl.col("pairs")),
        full_flips_pct=percent(pl.col("full_flips"), pl.col("pairs")),
        toward_first_pct=percent(pl.col("toward_first"), toward),
    )  # fmt: skip


def length_bias(
    pairs: pl.DataFrame, results: pl.DataFrame, published: pl.DataFrame, tables: Tables
) -> pl.DataFrame:
    """The rows of ``length_bias``, by the marts' regression."""
    lengths = tables.answers.select(
        "pool", "model", "benchmark", "question_id", "turn", length=pl.col("answer").str.len_chars()
    )
    # A turn has the length of its own answer, a whole conversation that of all its answers.
    whole = lengths.group_by("pool", "model", "benchmark", "question_id").agg(
        pl.col("length").sum(), turn=pl.lit(0, pl.Int64)
    )
    each = pl.concat([lengths, whole.select(lengths.columns)]).with_columns(
        pl.col("length").cast(pl.Float64)
    )
    played = pairs.filter(IS_OK).with_columns(share=_worth(default_outcome(), 1.0, 0.5, 0.0))
    for side in "ab":
        named = each.rename({"model": f"model_{side}", "length": f"length_{side}"})
        judged = pl.col("source") == "judged"
        played = played.join(
            named.rename({"pool": f"pool_{side}"}),
            on=[f"model_{side}", "benchmark", "question_id", "turn"],
        ).filter(
            (pl.col(f"pool_{side}") == pl.col("dataset"))
            | (judged & (pl.col(f"pool_{side}") == "(outside)"))
        )
    reckoned = estimates.length_controlled(
        played.drop_nulls("share")
        .sort("result_id", "question_id", "turn")
        .join(
            tables.questions.select("benchmark", "question_id", "difficulty"),
            on=["benchmark", "question_id"],
            how="left",
            maintain_order="left",
        )
        .select("result_id", "share", "length_a", "length_b", "difficulty")
        .to_arrow()
    )
    shown = published.filter("is_default_rule").select(
        "result_id", "source", "dataset", "matchup", "model_a", "model_b", "benchmark", "judge",
        "filled_by_embedded", win_pct="adjusted_win_pct",
    )  # fmt: skip
    return (
        pl.DataFrame(pl.from_arrow(reckoned))
        .join(shown, on="result_id")
        .with_columns(longer_win_pct=percent(pl.col("longer_wins"), pl.col("decided")))
    )


def agreement(pairs: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """The rows of ``judge_agreement``."""
    people = _votes_of_people(tables.imported)
    judges = _votes_of_judges(pairs)
    votes = pl.concat([judges, _beside_people(judges, people), people])
    group = ["pool", "benchmark", "model_1", "model_2", "is_human", "judge", "group"]
    groups = votes.select(group).unique()
    shared = ["pool", "benchmark", "model_1", "model_2"]
    met = (
        groups.join(groups, on=shared, suffix="_b")
        .filter(
            (pl.col("judge") != pl.col("judge_b"))
            # People are the second judge, others go by name.
            & (
                (~pl.col("is_human") & pl.col("is_human_b"))
                | (
                    (pl.col("is_human") == pl.col("is_human_b"))
                    & (pl.col("judge") < pl.col("judge_b"))
                )
            )
        )
        .select("benchmark", "group", "group_b", "judge_b", judge_a="judge")
        .unique()
    )
    said = votes.select("group", "question_id", "turn", "vote", "cast").unique()
    both = (
        met.join(said, on="group")
        .join(
            said, left_on=["group_b", "question_id", "turn"],
            right_on=["group", "question_id", "turn"], suffix="_b",
        )
        .select(*_JUDGES, vote_a="vote", vote_b="vote_b")
    )  # fmt: skip
    all_turns = both.filter(pl.col("turn") > 0).with_columns(turn=pl.lit(0, pl.Int64))
    cells = (
        pl.concat([both, all_turns])
        .group_by(*_JUDGES, "vote_a", "vote_b")
        .agg(often=pl.len().cast(pl.Int64))
        .sort(*_JUDGES, "vote_a", "vote_b")
    )
    found = pl.DataFrame(pl.from_arrow(estimates.agreements(cells.to_arrow())))
    embedded = [
        pl.col(name).str.contains("embedded:", literal=True) for name in ("judge_a", "judge_b")
    ]
    return found.with_columns(filled_by_embedded=pl.any_horizontal(embedded))


def _votes_of_judges(pairs: pl.DataFrame) -> pl.DataFrame:
    """A judge's vote is its result's outcome by the default rule, for the first model by name."""
    return pairs.filter(IS_OK).with_columns(
        pool="dataset",
        is_human=pl.lit(False),
        group="result_id",
        vote=_for_first(_worth(default_outcome(), 1, 0, -1)),
        cast=pl.lit(0, pl.Int64),
    ).drop_nulls("vote").select(_vote_columns())  # fmt: skip


def _votes_of_people(imported: pl.DataFrame) -> pl.DataFrame:
    """Each vote of a person by itself."""
    winners = pl.col("winner").replace({"a": "win", "b": "lose"})
    return (
        imported.filter(
            pl.col("is_human")
            & (pl.col("kind") == "pair")
            & (pl.col("state") == "used")
            & (pl.col("status") == "ok")
        )
        .with_row_index("cast")
        .with_columns(
            pl.col("cast").cast(pl.Int64),
            pool=pl.lit(IMPORTED_POOL),
            judge=pl.col("judge_group"),
            source=pl.lit("imported"),
            group=pl.concat_str(
                pl.lit("people"), "benchmark", "judge_group", _first(), _second(), separator="\x1f"
            ),
            vote=_for_first(_worth(winners, 1, 0, -1)),
        )
        .drop_nulls("vote")
        .select(_vote_columns())
    )


def _beside_people(judges: pl.DataFrame, people: pl.DataFrame) -> pl.DataFrame:
    """Votes on experiments that people voted on, too, where the names are one dataset's."""
    own = judges.filter(pl.col("pool") != IMPORTED_POOL)
    datasets = (
        pl.concat([own.select("pool", model=name) for name in ("model_1", "model_2")])
        .group_by("model")
        .agg(pl.col("pool").n_unique())
    )
    several = datasets.filter(pl.col("pool") > 1)["model"].to_list()
    return (
        own.filter(~pl.col("model_1").is_in(several) & ~pl.col("model_2").is_in(several))
        .join(people, on=["benchmark", "model_1", "model_2"], how="semi")
        .with_columns(pool=pl.lit(IMPORTED_POOL))
    )


def _vote_columns() -> list[pl.Expr]:
    return [
        *map(
            pl.col,
            ("pool", "benchmark", "judge", "is_human", "group", "question_id", "turn", "vote",
             "cast"),
        ),
        _first().alias("model_1"),
        _second().alias("model_2"),
    ]  # fmt: skip


def _first() -> pl.Expr:
    return pl.min_horizontal("model_a", "model_b")


def _second() -> pl.Expr:
    return pl.max_horizontal("model_a", "model_b")


def _for_first(vote: pl.Expr) -> pl.Expr:
    """A vote for model a as one for the first model by name."""
    return pl.when(pl.col("model_a") < pl.col("model_b")).then(vote).otherwise(-vote)


def _worth(outcome: pl.Expr, win: float, tie: float, lose: float) -> pl.Expr:
    dtype = pl.Int64 if isinstance(win, int) else pl.Float64
    return outcome.replace_strict(
        {"win": win, "tie": tie, "lose": lose}, default=None, return_dtype=dtype
    )
