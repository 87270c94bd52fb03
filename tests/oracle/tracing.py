"""What stands behind each verdict, and what replies of models cost, in Polars without the SQL.

Pure functions of frames.
"""

import polars as pl

from resources.settings import EMBEDDED
from tests.oracle.origins import of_pool
from tests.oracle.recount import RESULT, Tables, by_embedded

_JUDGING = ("single_verdicts", "pairwise_verdicts")
_QUESTION = ("pool", "model", "benchmark", "question_id")
# Columns of a checkpoint that the trace shows for each side of a verdict.
_OF_TRAINING = ("base_model", "recipe", "selector", "subset_hash", "samples")


def verdict_trace(singles: pl.DataFrame, pairs: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """The rows of ``verdict_trace``, but for what is told of the choice of samples.

    Returns:
        One row a call of the judge that was made, or outcome of a file: the result's columns,
        ``question_id``, ``category``, ``turn``, ``shown_first``, ``status``, ``winner``,
        ``score_a``, ``score_b``, ``file`` and ``row`` of what was imported; ``reply_id``,
        ``reply_model``, ``prompt_tokens``, ``completion_tokens`` and ``cost_usd`` (US dollars; null
        where the price is unknown); and of each side the model, its answers (a list, up to the
        judged turn), the checkpoint that they are of, and how that was trained.
    """
    made = pl.concat([_calls_of_pairs(pairs), _calls_of_singles(singles)], how="diagonal")
    replies = tables.replies.filter(pl.col("stage").is_in(_JUDGING)).select(
        "reply_id", "prompt_tokens", "completion_tokens", "cost_usd", reply_model="model"
    )
    trace = made.filter(pl.col("status") != "missing").join(replies, on="reply_id", how="left")
    answers = _conversations(tables.answers)
    for side in "ab":
        trace = _with_side(trace, side, answers, tables)
    return trace.with_columns(by_embedded())


def llm_usage(replies: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``llm_usage``.

    Returns:
        One row a ``stage``, ``role``, ``model`` and ``dataset`` (null where it was asked for none):
        ``calls``, tokens, how many were of no use or batched, ``cost_usd`` and ``cost_per_call`` in
        US dollars, and ``seconds``, all of replies; ``lost_calls`` and ``lost_usd`` of calls that
        were in flight when their process was killed. A sum is null where one of its values is
        unknown.
    """

    def known(name: str, total: pl.Expr) -> pl.Expr:
        return pl.when(pl.col(name).is_not_null().all()).then(total)

    def dollars(which: pl.Expr) -> pl.Expr:
        usd = pl.col("cost_usd").filter(which)
        return pl.when(usd.is_not_null().all()).then(usd.sum())

    lost = pl.col("status").eq_missing("lost")
    useless = ~lost & ((pl.col("status") != "ok") | ~pl.col("readable"))
    return (
        replies.group_by("stage", "role", "model", "dataset")
        .agg(
            pl.col("prompt_tokens", "completion_tokens").sum(),
            calls=(~lost).sum().cast(pl.Int64),
            cached_tokens=known("cached_tokens", pl.col("cached_tokens").sum()),
            unusable=known("status", useless.sum().cast(pl.Int64)),
            batched=known("via", (pl.col("via") == "batch").sum().cast(pl.Int64)),
            cost_usd=dollars(~lost),
            seconds=pl.col("latency_s").sum(),
            lost_calls=lost.sum().cast(pl.Int64),
            lost_usd=dollars(lost),
        )
        .with_columns(
            cost_per_call=pl.when(pl.col("calls") > 0).then(pl.col("cost_usd") / pl.col("calls")),
            is_embedded=pl.col("model").str.contains(f"{EMBEDDED}:", literal=True),
        )
    )


def _calls_of_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Both orders of each pair, or the one outcome that a file has of it."""
    told = (*RESULT, "result_id", "question_id", "category", "turn", "model_a", "model_b", "file")
    orders = [
        pairs.filter(~pl.col("one_outcome")).select(
            *told,
            shown_first=pl.lit(side),
            status=f"status_{side}",
            winner=f"winner_{side}",
            score_a=f"score_a_{side}",
            score_b=f"score_b_{side}",
            reply_id=f"reply_{side}",
            row=f"row_{side}",
        )
        for side in "ab"
    ]
    one = pairs.filter("one_outcome").select(
        *told,
        shown_first=pl.col("orders").replace({"both": "merged"}),
        status="status_a",
        winner=pl.col("both_agree").replace({"win": "a", "lose": "b"}),
        row="row_a",
    )
    return pl.concat([*orders, one], how="diagonal").with_columns(kind=pl.lit("pair"))


def _calls_of_singles(singles: pl.DataFrame) -> pl.DataFrame:
    return singles.select(
        *RESULT, "result_id", "question_id", "category", "turn", "status", "reply_id", "file",
        "row", kind=pl.lit("single"), model_a="subject", score_a="score",
    )  # fmt: skip


def _conversations(answers: pl.DataFrame) -> pl.DataFrame:
    """The answers to each question in one row, in the order of its turns."""
    return (
        answers.sort("turn")
        .group_by(_QUESTION, maintain_order=True)
        .agg(texts="answer", checkpoint=pl.col("checkpoint").max())
    )


def _with_side(
    trace: pl.DataFrame, side: str, answers: pl.DataFrame, tables: Tables
) -> pl.DataFrame:
    """Add what is known of the answers of one side of each verdict, and of their model."""
    model = f"model_{side}"
    key = ["source", "dataset", model, "benchmark", "question_id"]
    given = (
        trace.select(key)
        .unique()
        .join(answers.rename({"model": model}), on=key[2:])
        .filter(of_pool())
        .drop("pool")
    )
    checkpoints = tables.checkpoints.select(
        "dataset",
        pl.col("experiment").alias(model),
        *(pl.col(name).alias(f"{name}_{side}") for name in _OF_TRAINING),
    )
    whole = pl.col("turn") == 0
    return (
        trace.join(given, on=key, how="left")
        .with_columns(
            pl.when(whole)
            .then("texts")
            .otherwise(pl.col("texts").list.head(pl.col("turn")))
            .alias(f"answer_{side}"),
            pl.col("checkpoint").alias(f"checkpoint_{side}"),
        )
        .drop("texts", "checkpoint")
        .join(checkpoints, on=["dataset", model], how="left")
    )
