"""The published numbers once more, from the lake's tables, in Polars and without the marts' SQL.

Pure functions of frames: verdicts become outcomes (one row an expected judgment), outcomes become
counts, and these the rows that the marts must have. Only what is reckoned by a seed is taken from
where the marts take it, ``evaluation.estimates``.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from opencs_assets.evaluation import estimates
from opencs_assets.verdicts.merging import DEFAULT_RULES, RULES, Verdict
from resources.settings import EMBEDDED

RESULT = (
    "source", "dataset", "subject", "benchmark", "judge", "protocol", "reading", "prompt_version",
    "sampling",
)  # fmt: skip
ANSWERED = ("ok", "unparsable", "truncated", "refused")
# Rules in the order in which they are told, those of pairs only, and those of a result that is
# not whole.
GATE = (
    "every_judgment", "few_unparsable", "both_orders", "equal_mix", "same_judge",
    "answers_complete", "parity", "chat_template", "no_contamination", "no_conflicts",
)  # fmt: skip
OF_PAIRS = frozenset({"both_orders", "parity"})
OF_WHOLE = frozenset(
    {"every_judgment", "few_unparsable", "both_orders", "equal_mix", "answers_complete"}
)
IMPORTED_POOL = "(imported)"
_SEPARATOR = "\x1f"
_OK, _IS_OK = "ok", pl.col("status") == "ok"


@dataclass(frozen=True)
class Tables:
    """Tables of the lake that the numbers come from, partition columns included.

    Attributes:
        questions: Rows of ``benchmark_questions``.
        singles: Rows of ``single_verdicts``.
        pairs: Rows of ``pairwise_verdicts``.
        imported: Rows of ``imported_verdicts``.
        checkpoints: Rows of ``checkpoint``.
        matchups: Rows of ``declared_matchups``.
    """

    questions: pl.DataFrame
    singles: pl.DataFrame
    pairs: pl.DataFrame
    imported: pl.DataFrame
    checkpoints: pl.DataFrame
    matchups: pl.DataFrame


@dataclass(frozen=True)
class Limits:
    """Where the publication gate draws its lines.

    Attributes:
        unparsable: Largest share of a result's judgments that may be unparsable.
        parity: Largest share by which epochs or tokens of two trainings may differ.
    """

    unparsable: float
    parity: float


def single_outcomes(tables: Tables) -> pl.DataFrame:
    """Every turn of every question of every result of single judgments, judged or not.

    Args:
        tables: The lake's tables.

    Returns:
        ``result_id``, the result's columns, ``question_id``, ``category``, ``turn``, ``score`` and
        ``status`` (ok, unparsable, stopped or missing).
    """
    judged = tables.singles.select(
        "dataset", "benchmark", "question_id", "turn", "score", "status", "judge", "reading",
        "prompt_version",
        pl.col("protocol").fill_null("single"),
        pl.col("sampling").fill_null(""),
        source=pl.lit("judged"),
        subject="experiment",
        state=pl.lit("used"),
    )  # fmt: skip
    imported = _imported(tables.imported, "single").with_columns(
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
        .agg(score=pl.col("score").filter(_IS_OK).max(), status=pl.col("status").max())
    )
    return _identified(
        "single",
        verdicts.select(RESULT)
        .unique()
        .join(turns, on="benchmark")
        .join(found, on=[*RESULT, "question_id", "turn"], how="left")
        .with_columns(status=_status(pl.col("status").fill_null("missing"))),
    )


def pair_outcomes(tables: Tables) -> pl.DataFrame:
    """Every question, and turn where turns are judged, of every result of two models.

    Args:
        tables: The lake's tables.

    Returns:
        ``result_id``, the result's columns, ``model_a``, ``model_b``, ``orders``, ``question_id``,
        ``category``, ``turn``, ``one_outcome``, ``status``, the status of each order, who won by
        it, ``orders_agree``, and by each rule win, tie, lose or null.
    """
    judged = tables.pairs.select(
        "dataset", "benchmark", "question_id", "shown_first", "winner", "score_a", "score_b",
        "status", "judge", "reading", "prompt_version", "model_a", "model_b",
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
    imported = _imported(tables.imported, "pair").with_columns(
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
            .when(pl.col("protocol") == "choice")
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
    return _identified("pair", _merged(both))


def counted_calls(singles: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """One row a result, turn and category: calls of the judge that are wanted and were answered.

    Args:
        singles: Rows of ``single_outcomes``.
        pairs: Rows of ``pair_outcomes``.
    """
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
        decided=_IS_OK.sum(),
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
    """One row a result: ``kind``, what its verdicts have in common, whether judging stopped early.

    Args:
        singles: Rows of ``single_outcomes``.
        pairs: Rows of ``pair_outcomes``.
    """
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


def gate(
    results: pl.DataFrame, calls: pl.DataFrame, tables: Tables, limits: Limits
) -> pl.DataFrame:
    """Those rules of the publication gate that verdicts and budgets tell.

    Args:
        results: Rows of ``results_of``.
        calls: Rows of ``counted_calls``.
        tables: The lake's tables.
        limits: Where the lines are.

    Returns:
        ``result_id``, ``rule`` and ``passed``; null where it can't be told.
    """
    wanted = pl.col("calls") - pl.col("stopped")
    totals = results.join(
        calls.group_by("result_id").agg(
            pl.col("calls", "judged", "stopped", "unparsable", "in_one_order").sum(),
            pl.col("decided", "orders_known").sum(),
            shares=(pl.col("judged") / wanted).filter(wanted > 0).drop_nulls().n_unique(),
            same_in_orders=(pl.col("judged_a") == pl.col("judged_b")).all(),
        ),
        on="result_id",
    )
    unknown = pl.lit(None, pl.Boolean)
    told = {
        "every_judgment": pl.col("calls") - pl.col("judged") - pl.col("stopped") == 0,
        "few_unparsable": pl.when(pl.col("judged") > 0).then(
            pl.col("unparsable") <= limits.unparsable * pl.col("judged")
        ),
        "both_orders": pl.when(pl.col("orders") == "both")
        .then(pl.col("in_one_order") == 0)
        .when((pl.col("orders") == "merged") & (pl.col("orders_known") == pl.col("decided")))
        .then(pl.lit(True))
        .otherwise(unknown),
        "equal_mix": (pl.col("shares") <= 1) & pl.col("same_in_orders"),
    }
    frames = [
        totals.filter((pl.col("kind") == "pair") | pl.lit(rule not in OF_PAIRS)).select(
            "result_id", rule=pl.lit(rule), passed=passed
        )
        for rule, passed in told.items()
    ]
    frames.append(_conflicts(results, tables.imported))
    frames.append(_parity(results, tables, limits))
    return pl.concat(frames)


def expected_rules(results: pl.DataFrame) -> pl.DataFrame:
    """The rules that each result must have a row of.

    Args:
        results: Rows of ``results_of``.
    """
    rules = pl.DataFrame({"rule": GATE, "of_pairs": [rule in OF_PAIRS for rule in GATE]})
    return (
        results.join(rules, how="cross")
        .filter(~pl.col("of_pairs") | (pl.col("kind") == "pair"))
        .select("result_id", "kind", "source", "dataset", "subject", "benchmark", "judge", "rule")
    )


def badges(gate_rows: pl.DataFrame) -> pl.DataFrame:
    """Whether each result may be published, why not, and which rules can't be told of it.

    Args:
        gate_rows: ``result_id``, ``rule``, ``passed`` and ``reason`` of all rules.
    """
    failed = pl.col("passed").eq(False).fill_null(False)
    place = pl.col("rule").replace_strict({rule: at for at, rule in enumerate(GATE)}, default=99)
    return (
        gate_rows.with_columns(place=place)
        .sort("result_id", "place")
        .group_by("result_id", maintain_order=True)
        .agg(
            badge=pl.when(~failed.any())
            .then(pl.lit("ok"))
            .when((failed & pl.col("rule").is_in(list(OF_WHOLE))).any())
            .then(pl.lit("incomplete"))
            .otherwise(pl.lit("unfair")),
            reason=pl.col("reason").filter(failed).drop_nulls().str.join("; "),
            unchecked=pl.col("rule").filter(pl.col("passed").is_null()),
        )
        .with_columns(reason=pl.when(pl.col("reason") != "").then("reason"))
    )


def mean_scores(
    singles: pl.DataFrame, results: pl.DataFrame, found: pl.DataFrame, intervals: pl.DataFrame
) -> pl.DataFrame:
    """The rows of ``mt_bench_scores_all``.

    Args:
        singles: Rows of ``single_outcomes``.
        results: Rows of ``results_of``.
        found: Rows of ``badges``.
        intervals: Rows of ``intervals_of``.
    """
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
            "expected", "unparsable", "complete", "badge", "reason", "unchecked", _embedded(),
        )
    )  # fmt: skip


def scores_by_category(singles: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``mt_bench_by_category``.

    Args:
        singles: Rows of ``single_outcomes``.
        published: Those rows of ``mean_scores`` that are published.
    """
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
    """The rows of ``win_rates_all``.

    Args:
        pairs: Rows of ``pair_outcomes``.
        results: Rows of ``results_of``.
        found: Rows of ``badges``.
        intervals: Rows of ``intervals_of``.
        tables: The lake's tables.
    """
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
        .join(_trained(tables, "a"), on=["dataset", "model_a"], how="left")
        .join(_trained(tables, "b"), on=["dataset", "model_b"], how="left")
        .join(_declared(tables), on=["source", "subject"], how="left")
    )
    return (
        pl.concat(frames)
        .join(sides.drop("stopped"), on="result_id")
        .join(found, on="result_id", how="left")
        .select(
            *_identity("matchup"), "model_a", "model_b", "rule",
            "win", "tie", "lose", "judged", "expected", "stopped", "ci_low", "ci_high", "parity",
            "epochs_a", "epochs_b", "steps_a", "steps_b", "tokens_a", "tokens_b", "template_a",
            "template_b", "badge", "reason", "unchecked", _embedded(),
            is_default_rule=pl.col("rule") == _default_rule(),
            unparsable=pl.col("judged") - decided,
            win_pct=_percent(pl.col("win"), decided),
            tie_pct=_percent(pl.col("tie"), decided),
            lose_pct=_percent(pl.col("lose"), decided),
            adjusted_win_pct=_percent(pl.col("win") + 0.5 * pl.col("tie"), decided),
            orders_disagree_pct=_percent(pl.col("disagree"), pl.col("known")),
            complete=pl.col("judged") + pl.col("stopped") == pl.col("expected"),
        )
    )  # fmt: skip


def position_bias(pairs: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``position_bias``.

    Args:
        pairs: Rows of ``pair_outcomes``.
    """
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
        _embedded(),
        orders_disagree_pct=_percent(pl.col("orders_disagree"), pl.col("pairs")),
        full_flips_pct=_percent(pl.col("full_flips"), pl.col("pairs")),
        toward_first_pct=_percent(pl.col("toward_first"), toward),
    )  # fmt: skip


def intervals_of(singles: pl.DataFrame, pairs: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """The intervals of mean scores and adjusted win rates, by the marts' seeded bootstrap.

    Of win rates those of the protocol's default rule have one.

    Args:
        singles: Rows of ``single_outcomes``.
        pairs: Rows of ``pair_outcomes``.
        results: Rows of ``results_of``.

    Returns:
        ``result_id``, ``rule`` (``score`` of single judgments), ``ci_low`` and ``ci_high``.
    """
    keys = ["result_id", "benchmark", "question_id"]
    worth = {"win": 100.0, "tie": 50.0, "lose": 0.0}
    values = [
        singles.filter(_IS_OK).select(
            *keys, value=pl.col("score"), rule=pl.lit("score"), low=pl.lit(1.0), high=pl.lit(10.0)
        )
    ] + [
        pairs.filter(_default_rule() == rule).select(
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
    """The rows of ``leaderboard``, by the marts' fit and its seeded intervals.

    Args:
        pairs: Rows of ``pair_outcomes``.
        results: Rows of ``results_of``.
        found: Rows of ``badges``.
    """
    board = [name for name in RESULT if name != "subject"]
    published = results.filter(pl.col("kind") == "pair").join(
        found.filter(pl.col("badge") == "ok"), on="result_id", how="semi"
    )
    boards = published.select(board).unique().sort(board).with_row_index("board")
    outcome = pl.coalesce(pl.when(_default_rule() == name).then(pl.col(name)) for name in RULES)
    share = outcome.replace_strict(
        {"win": 1.0, "tie": 0.5, "lose": 0.0}, default=None, return_dtype=pl.Float64
    )
    played = (
        pairs.filter(_IS_OK)
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
            *board, "model", "rating", "ci_low", "ci_high", "matchups", "questions", _embedded(),
            rank=pl.col("rating")
            .rank("min", descending=True)
            .over("board", "component")
            .cast(pl.Int64),
        )
    )  # fmt: skip


def _imported(imported: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Imported verdicts of judges that are no people, in the columns of those judged here."""
    return imported.filter(
        (pl.col("kind") == kind) & ~pl.col("is_human") & pl.col("state").is_in(["used", "conflict"])
    ).with_columns(
        source=pl.lit("imported"),
        dataset=pl.lit(IMPORTED_POOL),
        reading=pl.lit("imported"),
        judge=pl.col("judge_group"),
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
                pl.col(name).filter((first == side) & _IS_OK).max().alias(f"{name}_{side}")
                for name in ("winner", "score_a", "score_b")
                for side in "ab"
            ),
            *(
                pl.col("status").filter(first == side).max().alias(f"status_{side}")
                for side in "ab"
            ),
            winner=pl.col("winner").filter(one & _IS_OK).max(),
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


def _identified(kind: str, rows: pl.DataFrame) -> pl.DataFrame:
    results = rows.select(RESULT).unique()
    digests = [
        hashlib.md5(_SEPARATOR.join(row).encode(), usedforsecurity=False).hexdigest()
        for row in results.iter_rows()
    ]
    ids = [f"{kind}-{digest[:12]}" for digest in digests]
    return rows.join(
        results.with_columns(result_id=pl.Series(ids, dtype=pl.String)), on=list(RESULT)
    )


def _conflicts(results: pl.DataFrame, imported: pl.DataFrame) -> pl.DataFrame:
    waiting = imported.filter((pl.col("state") == "conflict") & ~pl.col("is_human"))
    named = [
        _identified(
            kind,
            _imported(waiting, kind).with_columns(subject=subject).select(RESULT).unique(),
        ).select("result_id")
        for kind, subject in (
            ("single", pl.col("model_a")),
            ("pair", pl.format("{} vs {}", "model_a", "model_b")),
        )
    ]
    return results.select(
        "result_id",
        rule=pl.lit("no_conflicts"),
        passed=~pl.col("result_id").is_in(pl.concat(named)["result_id"].to_list()),
    )


def _parity(results: pl.DataFrame, tables: Tables, limits: Limits) -> pl.DataFrame:
    sides = (
        results.filter(pl.col("kind") == "pair")
        .join(_trained(tables, "a"), on=["dataset", "model_a"], how="left")
        .join(_trained(tables, "b"), on=["dataset", "model_b"], how="left")
        .join(_declared(tables), on=["source", "subject"], how="left")
    )
    amount = {
        side: pl.coalesce(
            pl.when(pl.col("parity") == unit).then(pl.col(f"{unit}_{side}").cast(pl.Float64))
            for unit in ("epochs", "steps", "tokens")
        )
        for side in "ab"
    }
    apart = (amount["a"] - amount["b"]).abs()
    return sides.select(
        "result_id",
        rule=pl.lit("parity"),
        passed=pl.when(pl.col("parity").is_null())
        .then(pl.lit(None, pl.Boolean))
        .when(pl.col("parity") == "declared")
        .then(pl.lit(True))
        .when(pl.col("parity") == "steps")
        .then(apart == 0)
        .otherwise(apart <= limits.parity * pl.max_horizontal(amount["a"], amount["b"])),
    )


def _trained(tables: Tables, side: str) -> pl.DataFrame:
    return tables.checkpoints.select(
        "dataset",
        pl.col("experiment").alias(f"model_{side}"),
        *(pl.col(name).alias(f"{name}_{side}") for name in ("epochs", "steps", "tokens")),
        pl.col("template_hash").alias(f"template_{side}"),
    )


def _declared(tables: Tables) -> pl.DataFrame:
    return tables.matchups.select("parity", source=pl.lit("judged"), subject="matchup")


def _means() -> dict[str, pl.Expr]:
    score = pl.col("score").filter(_IS_OK)
    return {
        **{
            f"turn_{turn}": pl.col("score").filter(_IS_OK & (pl.col("turn") == turn)).mean()
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


def _embedded() -> pl.Expr:
    return pl.col("judge").str.contains(f"{EMBEDDED}:", literal=True).alias("filled_by_embedded")


def _default_rule() -> pl.Expr:
    return pl.col("protocol").replace_strict(DEFAULT_RULES, default="win_or_tie")


def _percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(100.0 * part / whole)
