"""From verdicts to tables: FastChat's row loop, the bootstrap, and Bradley-Terry of models.

The plain ways are FastChat's ``show_result.py`` (``display_result_single`` and
``display_result_pairwise``) on a file of its own format, a bootstrap that samples a DataFrame's
rows and groups them again as its ``elo_analysis.py`` does, and scikit-learn's logistic regression
of one row a verdict. Each side runs in a process of its own.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import side
from tests.benchmarks.tags import Row

JUDGMENTS = 300_000
MODELS, QUESTIONS, RESAMPLES, ROUNDS = 20, 1_030, 10_000, 100
RATED, VERDICTS, TIES = 100, 1_000_000, 0.2
# Published texts are up to 2,000 characters each; these keep 300,000 rows in memory.
TEXT = 200
REPEATS = 3
# By how much of an interval's width the bounds of a hundred rounds may be off, and are by chance.
NEAR = 0.25


def all_rows() -> Iterator[Row]:
    """The rows, each measured when it is its turn."""
    yield from _shown()
    yield _bootstrap()
    yield from _strengths()


def _side(function: Callable[..., Any], size: int, repeats: int = 1) -> side.Side:
    return side.measure(__name__, function.__name__, size, repeats)


def _shown() -> Iterator[Row]:
    for name, ours_way, plain_way, target in (
        ("FastChat's results, single", single_ours, single_plain, None),
        ("FastChat's results, pairs: its row loop", pairs_ours, pairs_plain, 10),
    ):
        ours, plain = _side(ours_way, JUDGMENTS, REPEATS), _side(plain_way, JUDGMENTS)
        (found, megabytes), (expected, _) = ours.result, plain.result
        row = Row(
            name,
            f"{JUDGMENTS:,} judgments, {megabytes:,.0f} MB",
            ours,
            plain,
            "yes" if found == expected else "NO",
            f">= {target}x" if target else "",
            None,
        )
        yield replace(row, met=row.ratio is not None and row.ratio >= target) if target else row


def _judgments(size: int, single: bool) -> tuple[Path, float]:
    """A file of FastChat's format with so many judgments, and its size in MB."""
    rng = np.random.default_rng(3)
    text = "The assistant's answer is relevant and accurate, but lacks depth. " * (TEXT // 64)
    judge = ["gpt-4", "single-v1" if single else "pair-v2"]
    winners = ["model_1", "model_2", "tie", "error"]
    models = rng.integers(MODELS, size=(size, 2))
    models[:, 1] = (models[:, 0] + 1 + models[:, 1] % (MODELS - 1)) % MODELS
    drawn = rng.choice(4, (size, 2), p=[0.35, 0.35, 0.28, 0.02])
    scores = rng.choice([-1, *range(1, 11)], size)
    handle, name = tempfile.mkstemp(suffix=".jsonl")
    os.close(handle)
    path = Path(name)
    with path.open("w") as file:
        for row in range(size):
            asked = {"question_id": 81 + row % QUESTIONS, "judge": judge, "turn": 1 + row % 2}
            one, other = (f"model-{each}" for each in models[row].tolist())
            if single:
                told: dict[str, Any] = {
                    "model": one,
                    "user_prompt": text,
                    "judgment": text,
                    "score": int(scores[row]),
                }
            else:
                told = {
                    "model_1": one,
                    "model_2": other,
                    "g1_winner": winners[drawn[row, 0]],
                    "g2_winner": winners[drawn[row, 1]],
                    "g1_user_prompt": text,
                    "g1_judgment": text,
                    "g2_user_prompt": text,
                    "g2_judgment": text,
                }
            file.write(json.dumps({**asked, **told, "tstamp": 1.7e9 + row}) + "\n")
    return path, path.stat().st_size / 1e6


def _kept_for(path: Path, work: Callable[[], Any], megabytes: float) -> Callable[[], Any]:
    """The work on a file that goes when the process does."""
    import atexit

    atexit.register(path.unlink, missing_ok=True)
    return lambda: (work(), megabytes)


def single_ours(size: int) -> Callable[[], Any]:
    """Mean scores by model and turn, read and grouped by Polars."""
    import polars as pl

    path, megabytes = _judgments(size, single=True)

    def work() -> Any:
        asked = {"model": pl.String, "score": pl.Float64, "turn": pl.Int64}
        rows = pl.scan_ndjson(path, schema=asked).filter(pl.col("score") != -1)
        sums = (
            rows.group_by("model", "turn")
            .agg(pl.sum("score"), judged=pl.len())
            .sort("model", "turn")
            .collect()
        )
        by_turn = {
            (model, turn): _rounded(score / judged)
            for model, turn, score, judged in sums.iter_rows()
        }
        over_all = sums.group_by("model").agg(mean=pl.sum("score") / pl.sum("judged"))
        return by_turn, {model: _rounded(mean) for model, mean in over_all.iter_rows()}

    return _kept_for(path, work, megabytes)


def single_plain(size: int) -> Callable[[], Any]:
    """``display_result_single``, giving back what it prints."""
    import pandas as pd

    path, megabytes = _judgments(size, single=True)

    def work() -> Any:
        df_all = pd.read_json(path, lines=True)
        df = df_all[["model", "score", "turn"]]
        df = df[df["score"] != -1]
        df_1 = df[df["turn"] == 1].groupby(["model", "turn"]).mean()
        df_2 = df[df["turn"] == 2].groupby(["model", "turn"]).mean()
        df_3 = df[["model", "score"]].groupby(["model"]).mean()
        by_turn = {**df_1["score"].to_dict(), **df_2["score"].to_dict()}
        return (
            {key: _rounded(mean) for key, mean in by_turn.items()},
            {model: _rounded(mean) for model, mean in df_3["score"].items()},
        )

    return _kept_for(path, work, megabytes)


def pairs_ours(size: int) -> Callable[[], Any]:
    """Wins, losses and ties by model, read and grouped by Polars."""
    import polars as pl

    path, megabytes = _judgments(size, single=False)

    def work() -> Any:
        names = ("model_1", "model_2", "g1_winner", "g2_winner")
        rows = pl.scan_ndjson(path, schema=dict.fromkeys(names, pl.String)).filter(
            pl.col("g1_winner") != "error", pl.col("g2_winner") != "error"
        )
        agreed = pl.when(pl.col("g1_winner") == pl.col("g2_winner")).then("g1_winner")
        counted = (
            rows.with_columns(winner=agreed.otherwise(pl.lit("tie")))
            .group_by("model_1", "model_2", "winner")
            .agg(times=pl.len())
        )
        sides = [
            counted.select(
                "times",
                model=pl.col(mine),
                win=pl.col("winner") == mine,
                loss=pl.col("winner") == other,
                tie=pl.col("winner") == "tie",
            )
            for mine, other in (("model_1", "model_2"), ("model_2", "model_1"))
        ]
        found = (
            pl.concat(sides)
            .group_by("model")
            .agg((pl.col(each) * pl.col("times")).sum() for each in ("win", "loss", "tie"))
            .collect()
        )
        return {model: _rates(*counts) for model, *counts in found.iter_rows()}

    return _kept_for(path, work, megabytes)


def pairs_plain(size: int) -> Callable[[], Any]:
    """``display_result_pairwise`` of all pairs, giving back what it prints."""
    import pandas as pd

    path, megabytes = _judgments(size, single=False)

    def work() -> Any:
        df_all = pd.read_json(path, lines=True)
        df_all = df_all[(df_all["g1_winner"] != "error") & (df_all["g2_winner"] != "error")]
        list_res = []
        for _, row in df_all.iterrows():
            if row["g1_winner"] == "tie" or row["g1_winner"] != row["g2_winner"]:
                list_res.append({"model": row["model_1"], "win": 0, "loss": 0, "tie": 1})
                list_res.append({"model": row["model_2"], "win": 0, "loss": 0, "tie": 1})
            else:
                if row["g1_winner"] == "model_1":
                    winner, loser = row["model_1"], row["model_2"]
                else:
                    winner, loser = row["model_2"], row["model_1"]
                list_res.append({"model": winner, "win": 1, "loss": 0, "tie": 0})
                list_res.append({"model": loser, "win": 0, "loss": 1, "tie": 0})
        df = pd.DataFrame(list_res).groupby(["model"]).sum()
        return {
            model: _rates(int(row["win"]), int(row["loss"]), int(row["tie"]))
            for model, row in df.iterrows()
        }

    return _kept_for(path, work, megabytes)


def _rates(win: int, loss: int, tie: int) -> tuple[float, ...]:
    count = win + loss + tie
    return win, loss, tie, win / count, loss / count, (win + 0.5 * tie) / count


def _rounded(mean: float) -> float:
    """Two orders of one sum are told apart from two sums."""
    return round(mean, 9)


def _bootstrap() -> Row:
    ours, plain = _side(bootstrap_ours, MODELS, REPEATS), _side(bootstrap_plain, MODELS)
    one_estimate, *found = ours.result
    other_estimate, *expected = plain.result
    apart = np.abs(np.array(found) - expected).max() / np.ptp(found, axis=0).min()
    same = np.allclose(one_estimate, other_estimate, rtol=1e-12) and apart < NEAR
    # As many rounds of the plain way would take as many times longer.
    plain = replace(plain, seconds=plain.seconds * RESAMPLES / ROUNDS)
    row = Row(
        f"bootstrap by question (DataFrame: {ROUNDS} rounds, times {RESAMPLES // ROUNDS})",
        f"{MODELS} models, {QUESTIONS:,} questions, {RESAMPLES:,} resamples",
        ours,
        plain,
        f"{'yes' if same else 'NO'}; bounds {apart:.0%} of a width apart",
        "<= 2 s, >= 20x",
        None,
    )
    return replace(row, met=ours.seconds <= 2 and (row.ratio or 0) >= 20)


def _scores(models: int) -> np.ndarray:
    return np.random.default_rng(5).integers(1, 11, (QUESTIONS, models)).astype(float)


def bootstrap_ours(size: int) -> Callable[[], Any]:
    from opencs_assets.statistics.bootstrap import mean_intervals

    scores = _scores(size)
    return lambda: tuple(mean_intervals(scores, np.ones_like(scores), resamples=RESAMPLES))


def bootstrap_plain(size: int) -> Callable[[], Any]:
    """Rows of a DataFrame drawn and grouped again, a hundred times."""
    import pandas as pd

    scores = _scores(size)
    question, model = np.indices(scores.shape)
    df = pd.DataFrame(
        {
            "question_id": question.ravel(),
            "model": [f"model-{each:02d}" for each in model.ravel()],
            "score": scores.ravel(),
        }
    )
    np.random.seed(0)

    def work() -> Any:
        rows = []
        for _ in range(ROUNDS):
            drawn = df.sample(frac=1.0, replace=True)
            rows.append(drawn.groupby("model")["score"].mean())
        rounds = pd.DataFrame(rows)
        bounds = (rounds.quantile(each).to_numpy() for each in (0.025, 0.975))
        return (df.groupby("model")["score"].mean().to_numpy(), *bounds)

    return work


def _strengths() -> Iterator[Row]:
    ours, plain = _side(strengths_ours, RATED, REPEATS), _side(strengths_plain, RATED)
    apart = float(np.abs(ours.result - plain.result).max())
    yield Row(
        "Bradley-Terry of models (scikit-learn)",
        f"{RATED} models, {VERDICTS:,} verdicts",
        ours,
        plain,
        f"{'yes' if apart <= 1e-6 else 'NO'}; {apart:.0e} apart",
        "<= 5 s, within 1e-6",
        ours.seconds <= 5 and apart <= 1e-6,
    )
    for models, resamples in ((MODELS, RESAMPLES), (RATED, RESAMPLES // 10)):
        found = _side(intervals_of_few if models == MODELS else intervals_of_many, models)
        yield Row(
            "the same with intervals by question",
            f"{models} models, {VERDICTS:,} verdicts, {resamples:,} resamples",
            found,
            None,
            f"{found.result:.0%} of the intervals hold",
            "",
            None,
        )


def _verdicts(models: int, ties: float) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Question, first, second and share of made verdicts, and the planted strengths."""
    rng = np.random.default_rng(11)
    strengths = rng.normal(size=models)
    first = rng.integers(models, size=VERDICTS)
    second = (first + rng.integers(1, models, size=VERDICTS)) % models
    chance = 1 / (1 + np.exp(strengths[second] - strengths[first]))
    share = (rng.random(VERDICTS) < chance).astype(float)
    share[rng.random(VERDICTS) < ties] = 0.5
    return (rng.integers(QUESTIONS, size=VERDICTS), first, second, share), strengths


def strengths_ours(size: int) -> Callable[[], Any]:
    from opencs_assets.statistics.bradley_terry import fit, wins_matrix

    (_, *arrays), _ = _verdicts(size, TIES)
    return lambda: fit(wins_matrix(*arrays, models=size))


def strengths_plain(size: int) -> Callable[[], Any]:
    """One row a verdict, and two halves of one for a tie."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    (_, first, second, share), _ = _verdicts(size, TIES)
    tied = np.flatnonzero(share == 0.5)
    rows = np.arange(len(share))
    design = sparse.csr_matrix(
        (
            np.repeat([1.0, -1.0], len(share)),
            (np.concatenate([rows, rows]), np.concatenate([first, second])),
        )
    )
    model = LogisticRegression(
        C=np.inf, fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=1_000
    )

    def work() -> Any:
        weight = np.concatenate([np.where(share == 0.5, 0.5, 1.0), np.full(len(tied), 0.5)])
        outcome = np.concatenate([share > 0, np.zeros(len(tied), bool)])
        found = model.fit(sparse.vstack([design, design[tied]]), outcome, weight).coef_[0]
        return found - found.mean()

    return work


def intervals_of_few(size: int) -> Callable[[], Any]:
    return _intervals(size, RESAMPLES)


def intervals_of_many(size: int) -> Callable[[], Any]:
    return _intervals(size, RESAMPLES // 10)


def _intervals(size: int, resamples: int) -> Callable[[], Any]:
    """How many of the intervals hold the planted strengths; ties would draw those together."""
    from opencs_assets.statistics.bradley_terry import intervals

    arrays, strengths = _verdicts(size, 0)

    def work() -> float:
        found = intervals(*arrays, models=size, resamples=resamples)
        planted = strengths - strengths.mean()
        return float(np.mean((found.low <= planted) & (planted <= found.high)))

    return work
