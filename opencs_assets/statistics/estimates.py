"""Statistics of many results at once, from Arrow to Arrow, for the warehouse's Python models.

Each function takes the counted rows of all results and gives one row a result. The formulas are in
``bootstrap``, ``bradley_terry``, ``length_control``, ``agreement`` and ``sequential``. A result's
row depends only on its own verdicts and its benchmark's questions.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from opencs_assets.statistics import agreement, bootstrap, bradley_terry, length_control
from opencs_assets.statistics.sequential import interval

VOTES = (-1, 0, 1)


def result_intervals(values: pa.Table, questions: pa.Table) -> pa.Table:
    """95 % intervals of results' means, by bootstrap paired by question.

    Where judging stopped early because the result had become clear, an ordinary interval is too
    narrow, and the one that holds at every look (``sequential``) stands in its place.

    Args:
        values: ``result_id``, ``rule``, ``benchmark``, ``question_id``, ``total`` and ``count`` of
            the values of a question's turns, the ``low`` and ``high`` that a value can have, and
            ``stopped``, whether judging stopped early.
        questions: ``benchmark`` and ``question_id`` of every question, so that all results of a
            benchmark are measured on the same drawn questions.

    Returns:
        ``result_id``, ``rule``, ``ci_low`` and ``ci_high`` in units of the values; null where
        there is no interval.
    """
    rows = _frame(values)
    numbered = (
        _frame(questions)
        .sort("benchmark", "question_id")
        .with_columns(number=pl.int_range(pl.len()).over("benchmark"))
    )
    drawn = rows.filter(~pl.col("stopped")).join(numbered, on=["benchmark", "question_id"])
    sizes = dict(numbered.group_by("benchmark").len().iter_rows())
    of_benchmarks = [
        _drawn_intervals(part, sizes[part["benchmark"][0]])
        for part in drawn.partition_by("benchmark")
    ]
    return pl.concat([*of_benchmarks, _stopped_intervals(rows.filter("stopped"))]).to_arrow()


def _drawn_intervals(rows: pl.DataFrame, questions: int) -> pl.DataFrame:
    """Bootstrap intervals of the results of a benchmark with so many questions."""
    results = rows.select("result_id", "rule").unique().sort("result_id", "rule")
    place = rows.join(results.with_row_index("column"), on=["result_id", "rule"])
    sums, counts = np.zeros((2, questions, results.height))
    cells = (place["number"].to_numpy(), place["column"].to_numpy())
    np.add.at(sums, cells, place["total"].to_numpy())
    np.add.at(counts, cells, place["count"].to_numpy())
    _, low, high = bootstrap.mean_intervals(sums, counts)
    return results.with_columns(ci_low=_nan_to_null(low), ci_high=_nan_to_null(high))


def _stopped_intervals(rows: pl.DataFrame) -> pl.DataFrame:
    """Confidence sequences of results whose judging stopped early."""
    means = (
        rows.group_by("result_id", "rule")
        .agg(
            mean=(pl.col("total") / pl.col("count")).mean(),
            n=pl.len(),
            low=pl.col("low").first(),
            span=(pl.col("high") - pl.col("low")).first(),
        )
        .sort("result_id", "rule")
    )
    ends = [
        [low + span * end for end in interval((mean - low) / span, n)]
        for mean, n, low, span in means.select("mean", "n", "low", "span").iter_rows()
    ]
    columns = np.array(ends, np.float64).reshape(-1, 2)
    return means.select("result_id", "rule").with_columns(
        ci_low=pl.Series(columns[:, 0]), ci_high=pl.Series(columns[:, 1])
    )


def ratings(outcomes: pa.Table) -> pa.Table:
    """Bradley-Terry ratings of leaderboards, on the Elo scale with mean 1000.

    Args:
        outcomes: ``board`` (which leaderboard), ``question_id``, ``model_a``, ``model_b`` and
            ``share``: 1 where model a won, 0.5 for a tie, 0 where it lost.

    Returns:
        ``board``, ``model``, ``rating``, ``ci_low``, ``ci_high`` and ``component`` (only models of
        one component can be compared).
    """
    rows = _frame(outcomes)
    schema = {
        "board": rows.schema["board"],
        "model": pl.String(),
        "rating": pl.Float64(),
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "component": pl.Int64(),
    }
    boards = [pl.DataFrame(schema=schema)]
    for part in rows.partition_by("board"):
        models = pl.concat([part["model_a"], part["model_b"]]).unique().sort()
        first, second = (
            part[name].replace_strict(models, np.arange(len(models))).to_numpy().astype(np.int64)
            for name in ("model_a", "model_b")
        )
        question = part["question_id"].rank("dense").to_numpy().astype(np.int64) - 1
        share = part["share"].to_numpy()
        strengths = bradley_terry.intervals(question, first, second, share, models=len(models))
        wins = bradley_terry.wins_matrix(first, second, share, models=len(models))
        rating, low, high = (_nan_to_null(bradley_terry.elo(end)) for end in strengths)
        boards.append(
            pl.DataFrame(
                {
                    "board": pl.repeat(part["board"][0], len(models), eager=True),
                    "model": models,
                    "rating": rating,
                    "ci_low": low,
                    "ci_high": high,
                    "component": bradley_terry.components(wins),
                },
                schema=schema,
            )
        )
    return pl.concat(boards).to_arrow()


def length_controlled(outcomes: pa.Table) -> pa.Table:
    """How often the longer answer won, and win rates at equal lengths.

    Where the benchmark has a difficulty of every instruction, the formula is AlpacaEval 2's, with
    model b as the baseline that they were measured for, and otherwise the one without difficulties.

    Args:
        outcomes: ``result_id``, ``share`` that model a won (1, 0.5, 0), the characters of both
            answers, ``length_a`` and ``length_b``, and ``difficulty``, null where there is none.

    Returns:
        ``result_id``; ``questions``; ``decided``, how many of them one of two answers of different
        length won; ``longer_wins``, how many of these the longer one won; ``lc_win_pct`` (null
        where the verdicts can't tell the model from its length), ``lc_method`` and
        ``lc_questions``.
    """
    rows = _frame(outcomes)
    longer = (pl.col("length_a") - pl.col("length_b")).sign()
    won = 2 * pl.col("share") - 1
    counted = (
        rows.group_by("result_id")
        .agg(
            questions=pl.len().cast(pl.Int64),
            decided=(longer * won != 0).sum().cast(pl.Int64),
            longer_wins=(longer * won > 0).sum().cast(pl.Int64),
        )
        .sort("result_id")
    )
    names = counted["result_id"]
    measured = set(
        rows.group_by("result_id")
        .agg(pl.col("difficulty").is_not_null().all())
        .filter("difficulty")["result_id"]
    )
    controlled = (
        length_control.no_difficulty_by(
            rows["result_id"].replace_strict(names, np.arange(len(names))).to_numpy(),
            rows["share"].to_numpy(),
            rows["length_a"].to_numpy(),
            rows["length_b"].to_numpy(),
        )
        if len(names)
        else []
    )
    for place, name in enumerate(names):
        if name in measured:
            own_rows = rows.filter(pl.col("result_id") == name)
            share, length_a, length_b, difficulty = (
                own_rows[column].to_numpy()
                for column in ("share", "length_a", "length_b", "difficulty")
            )
            controlled[place] = length_control.alpaca_eval2(share, length_a, length_b, difficulty)
    return counted.with_columns(
        lc_win_pct=_nan_to_null(np.array([100 * row.rate for row in controlled], np.float64)),
        lc_method=pl.Series([row.method for row in controlled], dtype=pl.String),
        lc_questions=pl.Series([row.questions for row in controlled], dtype=pl.Int64),
    ).to_arrow()


def agreements(cells: pa.Table) -> pa.Table:
    """How often judges agree, with and without ties, and Cohen's kappa.

    Args:
        cells: ``benchmark``, ``judge_a``, ``judge_b``, ``turn``, the votes of both (``vote_a``,
            ``vote_b``: -1, 0 for a tie, 1) and how ``often`` these met.

    Returns:
        ``benchmark``, ``judge_a``, ``judge_b``, ``turn``, ``with_ties``, ``votes``, ``agree``,
        ``agree_pct`` and ``kappa``; nothing where no votes are left.
    """
    rows = _frame(cells)
    keys = ["benchmark", "judge_a", "judge_b", "turn"]
    shares: list[dict[str, object]] = []
    for part in rows.partition_by(keys, maintain_order=True):
        table = np.zeros((len(VOTES), len(VOTES)), np.int64)
        place = tuple(part[name].to_numpy().astype(np.int64) + 1 for name in ("vote_a", "vote_b"))
        np.add.at(table, place, part["often"].to_numpy())
        for with_ties in (True, False):
            agreed = agreement.agreement(table, ties=with_ties)
            if agreed.votes:
                shares.append(
                    {
                        **dict(zip(keys, part.select(keys).row(0), strict=True)),
                        "with_ties": with_ties,
                        "votes": agreed.votes,
                        "agree": agreed.agree,
                        "agree_pct": 100 * agreed.share,
                        "kappa": None if np.isnan(agreed.kappa) else agreed.kappa,
                    }
                )
    schema = {
        **dict.fromkeys(keys[:3], pl.String),
        "turn": pl.Int64,
        "with_ties": pl.Boolean,
        "votes": pl.Int64,
        "agree": pl.Int64,
        "agree_pct": pl.Float64,
        "kappa": pl.Float64,
    }
    return pl.DataFrame(shares, schema=schema).to_arrow()


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def _nan_to_null(values: npt.NDArray[np.float64]) -> pl.Series:
    return pl.Series(values).fill_nan(None)
