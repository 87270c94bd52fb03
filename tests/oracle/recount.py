"""From the lake's verdicts to outcomes and results once more, in Polars, without the marts' SQL.

Pure functions of frames: verdicts become outcomes, one row an expected judgment. What is counted
of them is in ``published`` (scores, win rates, ratings), ``judges`` (what is told of judges) and
``gating`` (what may be published).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from opencs_assets.protocols.merging import RULES, Verdict
from opencs_assets.protocols.registry import pair_protocols
from resources.settings import EMBEDDED

RESULT = (
    "source", "dataset", "subject", "benchmark", "judge", "protocol", "reading", "prompt_version",
    "sampling",
)  # fmt: skip
ANSWERED = ("ok", "unparsable", "truncated", "refused")
IMPORTED_POOL = "(imported)"
OUTSIDE_POOL = "(outside)"
_SEPARATOR = "\x1f"
IS_OK = pl.col("status") == "ok"
# Where a verdict is from: a reply, or a row of a file.
_REPLY = pl.col("reply_id").replace("", None)
_NO_FILE = (pl.lit(None, pl.String).alias("file"), pl.lit(None, pl.Int64).alias("row"))


@dataclass(frozen=True)
class Tables:
    """Tables of the lake that the numbers come from, partition columns included.

    Attributes:
        answers: Answers by ``pool`` (the dataset, (outside) or (imported)), ``model``,
            ``benchmark``, ``question_id``, ``turn`` and ``answer``, with ``finish_reason`` (stop
            of imported ones) and ``checkpoint`` (null but of experiments).
        looked_at: Datasets whose samples were compared with the benchmarks, match or not.
    """

    questions: pl.DataFrame
    singles: pl.DataFrame
    pairs: pl.DataFrame
    imported: pl.DataFrame
    checkpoints: pl.DataFrame
    matchups: pl.DataFrame
    answers: pl.DataFrame
    models: pl.DataFrame
    subsets: pl.DataFrame
    matches: pl.DataFrame
    looked_at: Sequence[str]
    replies: pl.DataFrame


def single_outcomes(tables: Tables) -> pl.DataFrame:
    """Every turn of every question of every result of single judgments, judged or not.

    Returns:
        ``result_id``, the result's columns, ``question_id``, ``category``, ``turn``, ``score``,
        ``status`` (ok, unparsable, stopped or missing), and where it is from: ``reply_id``, or
        ``file`` and ``row``.
    """
    judged = tables.singles.select(
        "dataset", "benchmark", "question_id", "turn", "score", "status", "judge", "reading",
        "prompt_version", _REPLY, *_NO_FILE,
        pl.col("protocol").fill_null("single"),
        pl.col("sampling").fill_null(""),
        source=pl.lit("judged"),
        subject="experiment",
        state=pl.lit("used"),
    )  # fmt: skip
    imported = _from_files(tables.imported, "single").with_columns(
        subject="model_a", score=pl.col("score_a")
    )
    verdicts = pl.concat([judged, imported.select(judged.columns)])
    turns = tables.questions.select(
        "benchmark",
        "question_id",
        "category",
        turn=pl.int_ranges(1, pl.col("turns").list.len() + 1, dtype=pl.Int64),
    ).explode("turn")
    found = (
        verdicts.filter(pl.col("state") == "used")
        .group_by(*RESULT, "question_id", "turn")
        .agg(
            pl.col("status", "reply_id", "file", "row").max(),
            score=pl.col("score").filter(IS_OK).max(),
        )
    )
    return identified(
        "single",
        verdicts.select(RESULT)
        .unique()
        .join(turns, on="benchmark")
        .join(found, on=[*RESULT, "question_id", "turn"], how="left")
        .with_columns(status=_status(pl.col("status").fill_null("missing"))),
    )


def pair_outcomes(tables: Tables) -> pl.DataFrame:
    """Every question, and turn where turns are judged, of every result of two models.

    Returns:
        ``result_id``, the result's columns, ``model_a``, ``model_b``, ``orders``, ``question_id``,
        ``category``, ``turn``, ``one_outcome``, ``status``, the status of each order, who won by
        it, where it is from, ``orders_agree``, and by each rule win, tie, lose or null.
    """
    judged = tables.pairs.select(
        "dataset", "benchmark", "question_id", "shown_first", "winner", "score_a", "score_b",
        "status", "judge", "reading", "prompt_version", "model_a", "model_b", _REPLY, *_NO_FILE,
        pl.col("turn").fill_null(0),
        pl.coalesce(
            "protocol",
            pl.when(pl.col("reading") == "logprobs")
            .then(pl.lit("preference"))
            .otherwise(pl.lit("scores")),
        ),
        pl.col("sampling").fill_null(""),
        source=pl.lit("judged"),
        subject="matchup",
        state=pl.lit("used"),
        orders_disagree=pl.lit(None, pl.Boolean),
    )  # fmt: skip
    imported = _from_files(tables.imported, "pair").with_columns(
        subject=pl.format("{} vs {}", "model_a", "model_b")
    )
    verdicts = pl.concat([judged, imported.select(judged.columns)])
    first = pl.col("shown_first")
    results = verdicts.group_by(RESULT).agg(
        model_a=pl.col("model_a").max(),
        model_b=pl.col("model_b").max(),
        orders=pl.when(first.is_in(["a", "b"]).any())
        .then(pl.lit("both"))
        .when((first == "merged").any())
        .then(pl.lit("merged"))
        .otherwise(pl.lit("unknown")),
        judged_turns=pl.col("turn").unique().sort(),
    )
    asked = tables.questions.select(
        "benchmark", "question_id", "category", asked=pl.col("turns").list.len().cast(pl.Int64)
    )
    by_turn = pl.int_ranges(1, pl.col("asked") + 1, dtype=pl.Int64)
    expected = (
        results.join(asked, on="benchmark")
        .with_columns(
            turn=pl.when(pl.col("source") == "imported")
            .then("judged_turns")
            .when(
                pl.col("protocol").is_in(
                    [each.name for each in pair_protocols().values() if each.by_turn]
                )
            )
            .then(by_turn)
            .otherwise(pl.lit([0], pl.List(pl.Int64)))
        )
        .explode("turn")
        .filter(pl.col("turn") <= pl.col("asked"))
        .drop("asked", "judged_turns")
    )
    both = expected.join(_orders(verdicts), on=[*RESULT, "question_id", "turn"], how="left")
    one = pl.col("status_of_one")
    both = both.with_columns(
        one_outcome=(pl.col("orders") != "both")
        | (one.is_not_null() & pl.col("status_a").is_null() & pl.col("status_b").is_null()),
        orders_agree=pl.coalesce(
            pl.col("winner_a") == pl.col("winner_b"), ~pl.col("orders_disagree")
        ),
        status_a=pl.coalesce("status_a", "status_of_one", pl.lit("missing")),
        status_b=pl.coalesce("status_b", "status_of_one", pl.lit("missing")),
    )
    both = both.with_columns(status=_status("status_a", "status_b"))
    return identified("pair", _merged(both))


def counted_calls(singles: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """One row a result, turn and category: calls of the judge that are wanted and were answered."""
    both = ~pl.col("one_outcome")
    judged_a, judged_b = (pl.col(f"status_{side}").is_in(ANSWERED) for side in "ab")
    unread_a, unread_b = (
        judged & (pl.col(f"status_{side}") != "ok")
        for side, judged in (("a", judged_a), ("b", judged_b))
    )
    keys = ["result_id", "turn", "category"]
    of_pairs = pairs.group_by(keys).agg(
        calls=(1 + both.cast(pl.Int64)).sum(),
        judged=judged_a.sum() + (both & judged_b).sum(),
        stopped=(pl.col("status_a") == "stopped").sum()
        + (both & (pl.col("status_b") == "stopped")).sum(),
        unparsable=unread_a.sum() + (both & unread_b).sum(),
        judged_a=judged_a.sum(),
        judged_b=judged_b.sum(),
        in_one_order=(both & (judged_a != judged_b)).sum(),
        decided=IS_OK.sum(),
        orders_known=pl.col("orders_agree").is_not_null().sum(),
    )
    of_singles = singles.group_by(keys).agg(
        calls=pl.len().cast(pl.Int64),
        judged=pl.col("status").is_in(["ok", "unparsable"]).sum(),
        stopped=(pl.col("status") == "stopped").sum(),
        unparsable=(pl.col("status") == "unparsable").sum(),
    )
    counts = [name for name in of_pairs.columns if name not in keys]
    return pl.concat([of_pairs, of_singles], how="diagonal_relaxed").with_columns(
        pl.col(counts).cast(pl.Int64)
    )


def results_of(singles: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """One row a result: ``kind``, what its verdicts have in common, whether it stopped early."""
    stopped = (pl.col("status") == "stopped").any().alias("stopped")
    return pl.concat(
        [
            singles.group_by("result_id", *RESULT)
            .agg(stopped)
            .with_columns(
                kind=pl.lit("single"), model_a="subject", model_b=pl.lit(None, pl.String),
                orders=pl.lit(None, pl.String),
            ),
            pairs.group_by("result_id", *RESULT, "model_a", "model_b", "orders")
            .agg(stopped)
            .with_columns(kind=pl.lit("pair")),
        ],
        how="diagonal",
    ).sort("kind", "result_id")  # fmt: skip


def imported_verdicts(imported: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Imported verdicts of judges that are no people, in the columns of those judged here."""
    return imported.filter(
        (pl.col("kind") == kind) & ~pl.col("is_human") & pl.col("state").is_in(["used", "conflict"])
    ).with_columns(
        source=pl.lit("imported"),
        dataset=pl.lit(IMPORTED_POOL),
        reading=pl.lit("imported"),
        judge=pl.col("judge_group"),
    )


def _from_files(imported: pl.DataFrame, kind: str) -> pl.DataFrame:
    """``imported_verdicts`` as verdicts are counted: by the name of their file, without a reply."""
    return imported_verdicts(imported, kind).with_columns(
        file="file_name", reply_id=pl.lit(None, pl.String)
    )


def _orders(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Both orders of each judgment in one row."""
    first = pl.col("shown_first")
    one = first.is_in(["merged", "unknown"])
    return (
        verdicts.filter(pl.col("state") == "used")
        .group_by(*RESULT, "question_id", "turn")
        .agg(
            *(
                pl.col(name).filter((first == side) & IS_OK).max().alias(f"{name}_{side}")
                for name in ("winner", "score_a", "score_b")
                for side in "ab"
            ),
            *(
                pl.col(name).filter(first == side).max().alias(f"{short}_{side}")
                for name, short in (("status", "status"), ("reply_id", "reply"))
                for side in "ab"
            ),
            pl.col("file").max(),
            row_a=pl.col("row").filter(first != "b").max(),
            row_b=pl.col("row").filter(first == "b").max(),
            winner=pl.col("winner").filter(one & IS_OK).max(),
            status_of_one=pl.col("status").filter(one).max(),
            orders_disagree=pl.col("orders_disagree").filter(first == "merged").max(),
        )
    )


def _merged(both: pl.DataFrame) -> pl.DataFrame:
    """Add the outcome by each rule."""
    names = (
        "status", "one_outcome", "winner", "winner_a", "score_a_a", "score_b_a", "winner_b",
        "score_a_b", "score_b_b",
    )  # fmt: skip
    said = {"a": "win", "b": "lose", "tie": "tie"}
    made: dict[str, list[str | None]] = {rule: [] for rule in RULES}
    for status, one, winner, *orders in both.select(names).iter_rows():
        for rule, merge in RULES.items():
            outcome: str | None = None
            if status == "ok" and one:
                outcome = said.get(winner)
            elif status == "ok":
                outcome = merge(Verdict(*orders[:3]), Verdict(*orders[3:]))
            made[rule].append(None if outcome == "unparsable" else outcome)
    return both.with_columns(
        pl.Series(rule, values, dtype=pl.String) for rule, values in made.items()
    )


def _status(*columns: str | pl.Expr) -> pl.Expr:
    """One status of the calls behind an outcome."""
    each = [pl.col(column) if isinstance(column, str) else column for column in columns]

    def every(condition: Sequence[pl.Expr]) -> pl.Expr:
        return pl.all_horizontal(*condition)

    return (
        pl.when(every([status == "ok" for status in each]))
        .then(pl.lit("ok"))
        .when(every([status.is_in(ANSWERED) for status in each]))
        .then(pl.lit("unparsable"))
        .when(every([status.is_in([*ANSWERED, "stopped"]) for status in each]))
        .then(pl.lit("stopped"))
        .otherwise(pl.lit("missing"))
    )


def identified(kind: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the ``result_id`` of the result that they belong to."""
    results = rows.select(RESULT).unique()
    digests = [
        hashlib.md5(_SEPARATOR.join(row).encode(), usedforsecurity=False).hexdigest()
        for row in results.iter_rows()
    ]
    ids = [f"{kind}-{digest[:12]}" for digest in digests]
    return rows.join(
        results.with_columns(result_id=pl.Series(ids, dtype=pl.String)), on=list(RESULT)
    )


def trained(tables: Tables, side: str) -> pl.DataFrame:
    """Budget and chat template of each checkpoint, as of one side of a matchup."""
    return tables.checkpoints.select(
        "dataset",
        pl.col("experiment").alias(f"model_{side}"),
        *(pl.col(name).alias(f"{name}_{side}") for name in ("epochs", "steps", "tokens")),
        pl.col("template_hash").alias(f"template_{side}"),
    )


def declared(tables: Tables) -> pl.DataFrame:
    """The parity of each declared matchup."""
    return tables.matchups.select("parity", source=pl.lit("judged"), subject="matchup")


def by_embedded() -> pl.Expr:
    """Whether the embedded model judged."""
    return pl.col("judge").str.contains(f"{EMBEDDED}:", literal=True).alias("filled_by_embedded")


def default_rule_of() -> pl.Expr:
    """The rule by which a result of two models is shown unless another is asked for."""
    rules = {name: protocol.default_rule for name, protocol in pair_protocols().items()}
    return pl.col("protocol").replace_strict(rules)


def default_outcome() -> pl.Expr:
    """The outcome by the default rule."""
    return pl.coalesce(pl.when(default_rule_of() == rule).then(pl.col(rule)) for rule in RULES)


def percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """A share in percent; null where there is nothing to share."""
    return pl.when(whole > 0).then(100.0 * part / whole)
