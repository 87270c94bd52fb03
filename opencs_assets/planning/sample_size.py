"""How many questions show an effect, what they cost, and which effect a benchmark can show.

For pairs, an effect is how far the adjusted win rate is from 50 %; for answers judged alone, it is
the difference of two models' mean scores. The judge's noise is measured on stored verdicts, or
stated as an assumption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from opencs_assets.benchmarks.questions import find_benchmarks
from opencs_assets.config.experiments import Experiments
from opencs_assets.planning.cost import dollars, times, total
from opencs_assets.planning.estimate import Client
from opencs_assets.planning.stage_calls import (
    ASSUMED_ANSWER,
    assumed_answers,
    benchmark_frame,
    pair_calls,
    single_calls,
)
from opencs_assets.statistics.power import (
    LEVEL,
    POWER,
    detectable_effect,
    measured_deviation,
    questions_needed,
    win_deviation,
)
from opencs_assets.tables.lake import Lake
from opencs_assets.verdicts.plots import outcomes
from resources.errors import MendableError
from resources.llm.client import LLMClient
from resources.llm.types import Call, Estimate
from resources.settings import Settings

Kind = Literal["pair", "single"]
# The default effects, in points of the adjusted win rate and of the mean score.
EFFECTS: Mapping[Kind, tuple[float, ...]] = {
    "pair": (2.5, 5.0, 10.0, 15.0, 20.0),
    "single": (0.1, 0.25, 0.5, 1.0),
}
# The largest effects that there are, in the same points.
MOST: Mapping[Kind, float] = {"pair": 50.0, "single": 9.0}
# GPT-4's two orders disagree on 380 of 2,400 MT-Bench pairs (Zheng et al. 2023).
ORDERS_DISAGREE = 380 / 2400
# Standard deviation of the difference of two models' scores of a question (the mean of its turns),
# by GPT-4 on MT-Bench's 80 questions, for two LLaMA2-13B models of OpenCS's published judgments.
SCORE_DEVIATION = 1.82
# No stage uses this sample index, so that a call is priced as if it were not stored.
_NEW = 1_000_000_007
ALL = "all together"
OUTCOMES = {"win": 1.0, "tie": 0.5, "lose": 0.0}


class SampleSizeError(MendableError):
    """The sample size can't be computed; the message says what to give."""


@dataclass(frozen=True)
class Noise:
    """How much the outcomes of questions differ.

    Attributes:
        deviation: Standard deviation of a question's outcome, in shares or in score points.
        lost: Share of the questions without a readable verdict.
        source: Where the numbers are from, for a person.
    """

    deviation: float
    lost: float
    source: str


@dataclass(frozen=True)
class SampleSizeAnswer:
    """The questions that effects need, and the effects that benchmarks can show.

    Attributes:
        needed: One row an effect: questions, calls, dollars, and the benchmarks that have as many.
        benchmarks: One row a benchmark of the home: questions, calls, dollars, smallest effect.
        noise: The judge's noise.
        notes: Further assumptions, as sentences.
    """

    needed: list[dict[str, Any]]
    benchmarks: list[dict[str, Any]]
    noise: Noise
    notes: tuple[str, ...]


def sample_size(
    settings: Settings,
    experiments: Experiments,
    client: Client,
    *,
    kind: Kind = "pair",
    effects: Sequence[float] = (),
    matchup: str | None = None,
    dataset: str | None = None,
    level: float = LEVEL,
    power: float = POWER,
) -> SampleSizeAnswer:
    """How many questions it takes to see effects, and what they cost, without a call.

    The counted calls are those that judging would make, all of them as new ones: on the matchup's
    answers where both models have answered, and else on answers of an assumed length.

    Args:
        settings: The home's settings.
        experiments: The declared experiments and matchups.
        client: Gives the client of a role for a stage.
        kind: ``pair`` for two models compared, ``single`` for scores of answers judged alone.
        effects: Points of the adjusted win rate away from 50 %, or of the mean score.
        matchup: The matchup whose verdicts and answers are taken; an imported one as ``A vs B``.
        dataset: The matchup's dataset; by default the only one with its verdicts or answers.
        level: Level of the interval that should leave out no difference.
        power: How often the effect should be seen.

    Raises:
        SampleSizeError: An effect, level or power is out of its range, or the matchup is unknown.
    """
    effects = tuple(effects) or EFFECTS[kind]
    _check(kind, effects, level, power)
    lake = Lake(settings.lake)
    noise = _noise(lake, experiments, kind, matchup, dataset)
    names = list(find_benchmarks(settings.home))
    questions, _ = benchmark_frame(settings.home, names)
    answers = _answers(lake, experiments, matchup, dataset)
    with client("judge", "sample_size") as judge:
        price = _prices(judge, settings, kind, questions, answers)
    counts = dict(questions.group_by("benchmark").len().iter_rows())
    if len(names) > 1:
        price[ALL] = [estimate for parts in price.values() for estimate in parts]
        counts[ALL] = questions.height
    declared = experiments.matchups.get(matchup or "")
    of_matchup = declared.benchmark if declared and declared.benchmark in price else ""
    notes = (
        *([] if answers else [f"Answers are taken to have {ASSUMED_ANSWER:,} characters."]),
        f"Dollars are those of {judge.model_label}, for both models' answers to a question as "
        f"those of {of_matchup or 'all benchmarks that are here'} are on average.",
    )
    # The last entry is all benchmarks together, or the only benchmark.
    typical = of_matchup or [*price][-1]
    design = {"level": level, "power": power, "lost": noise.lost}
    unit = 100.0 if kind == "pair" else 1.0
    needed = []
    for effect in effects:
        count = questions_needed(effect / unit, noise.deviation, **design)
        fits = [name for name in names if counts[name] >= count]
        needed.append(
            {
                "effect": _effect(kind, effect),
                "questions": count,
                **_cost(price[typical], count / counts[typical]),
                "enough": ", ".join(fits) or (ALL if questions.height >= count else "none here"),
            }
        )
    rows = []
    for name, parts in price.items():
        shown = unit * detectable_effect(counts[name], noise.deviation, **design)
        rows.append(
            {
                "benchmark": name,
                "questions": counts[name],
                **_cost(parts, 1),
                "shows": _effect(kind, shown) if shown <= MOST[kind] else "nothing",
            }
        )
    return SampleSizeAnswer(needed, rows, noise, notes)


def _check(kind: Kind, effects: Sequence[float], level: float, power: float) -> None:
    most = MOST[kind]
    for effect in effects:
        if not 0 < effect <= most:
            of_what = "win rate" if kind == "pair" else "score"
            raise SampleSizeError(
                f"an effect of {effect:g} can't be: give points of the {of_what}, more than 0 and "
                f"at most {most:g}"
            )
    if not (0 < level < 1 and 0 < power < 1):
        raise SampleSizeError(f"level {level:g} and power {power:g} must be between 0 and 1")


def _prices(
    client: LLMClient,
    settings: Settings,
    kind: Kind,
    questions: pl.DataFrame,
    answers: Mapping[str, pl.DataFrame] | None,
) -> dict[str, list[Estimate]]:
    """The cost of judging each benchmark, on answers where both models have answered it."""
    stand_ins = {side: assumed_answers(questions, f"model {side}") for side in ("a", "b")}
    prices = {}
    for name in questions["benchmark"].unique(maintain_order=True):
        both_there = answers and all(name in frame["benchmark"] for frame in answers.values())
        judged = answers if answers and both_there else stand_ins
        prices[name] = [client.estimate(_calls(client, settings, kind, questions, judged, name))]
    return prices


def _noise(
    lake: Lake, experiments: Experiments, kind: Kind, matchup: str | None, dataset: str | None
) -> Noise:
    """The noise of the matchup's verdicts, or an assumed one."""
    if matchup is not None:
        declared = matchup in experiments.matchups
        if not declared and " vs " not in matchup:
            raise SampleSizeError(
                f"there is no matchup {matchup!r}; known: {', '.join(experiments.matchups)}, and "
                "imported ones as 'A vs B'"
            )
        if kind == "pair":
            values = _kept_pairs(lake, matchup, dataset) if declared else _imported(lake, matchup)
        else:
            values = _kept_scores(lake, experiments, matchup, dataset) if declared else None
        if values is None and not declared:
            raise SampleSizeError(
                f"no verdicts of {matchup!r} have been imported; see `opencs import-verdicts`"
                if kind == "pair"
                else "of an imported matchup only pairs are measured: leave --kind single"
            )
        if values is not None:
            ids, outcome = values
            _, number = np.unique(np.asarray(ids, dtype=str), return_inverse=True)
            deviation, judged, lost = measured_deviation(number, np.asarray(outcome, np.float64))
            if deviation > 0 and lost < 1:
                return Noise(deviation, lost, f"measured on {judged} questions of {matchup}")
    if kind == "pair":
        return Noise(
            win_deviation(orders_disagree=ORDERS_DISAGREE),
            0.0,
            f"assumed: the two orders disagree on {ORDERS_DISAGREE:.1%} of the questions, as "
            "GPT-4's on MT-Bench, and no other is a tie",
        )
    return Noise(
        SCORE_DEVIATION,
        0.0,
        "assumed: that of two LLaMA2-13B models' scores by GPT-4 on MT-Bench",
    )


Values = tuple[list[str], list[float]]


def _kept_pairs(lake: Lake, matchup: str, dataset: str | None) -> Values | None:
    """Outcomes by question of a matchup that was judged here."""
    where = _partition(lake, "pairwise_verdicts", "matchup", matchup, dataset)
    if where is None:
        return None
    merged = outcomes(lake.read("pairwise_verdicts", where))
    return (
        merged["question_id"].to_list(),
        [OUTCOMES.get(outcome, float("nan")) for outcome in merged["outcome"]],
    )


def _kept_scores(
    lake: Lake, experiments: Experiments, matchup: str, dataset: str | None
) -> Values | None:
    """Differences of scores by question and turn of a matchup's two models."""
    declared = experiments.matchups[matchup]
    sides = []
    for model in (declared.model_a, declared.model_b):
        where = _partition(lake, "single_verdicts", "experiment", model, dataset)
        if where is None:
            return None
        table = lake.read("single_verdicts", where)
        sides.append(table.filter(pl.col("benchmark") == declared.benchmark))
    both = sides[0].join(sides[1], on=["question_id", "turn"], how="inner", suffix="_b")
    differences = (both["score"] - both["score_b"]).fill_null(float("nan"))
    return (both["question_id"].to_list(), differences.to_list()) if both.height else None


def _imported(lake: Lake, matchup: str) -> Values | None:
    """Outcomes by question of an imported matchup; orders are merged as FastChat does."""
    rows = lake.find("imported_verdicts", {})
    if rows is None:
        return None
    model_a, _, model_b = matchup.partition(" vs ")
    # The order of the two models does not change the deviation.
    pair_rows = rows.filter(
        (pl.col("kind") == "pair")
        & (pl.col("state") == "used")
        & ~pl.col("is_human")
        & pl.col("model_a").is_in([model_a, model_b])
        & pl.col("model_b").is_in([model_a, model_b])
    )
    if not pair_rows.height:
        return None
    won = pl.col("winner").replace_strict({"a": 1.0, "b": 0.0, "tie": 0.5}, default=None)
    merged = (
        pair_rows.with_columns(won=won)
        .group_by("benchmark", "question_id", "turn", maintain_order=True)
        .agg(
            same=pl.col("won").n_unique() == 1,
            read=pl.col("won").is_not_null().all(),
            won=pl.col("won").first(),
        )
        .with_columns(
            outcome=pl.when(~pl.col("read"))
            .then(float("nan"))
            .when("same")
            .then("won")
            .otherwise(0.5)
        )
    )
    ids = (merged["benchmark"] + "\n" + merged["question_id"]).to_list()
    return ids, merged["outcome"].to_list()


def _answers(
    lake: Lake, experiments: Experiments, matchup: str | None, dataset: str | None
) -> dict[str, pl.DataFrame] | None:
    """The answers of a matchup's two models; ``None`` where one has none."""
    if matchup not in experiments.matchups:
        return None
    declared = experiments.matchups[matchup]
    answers = {}
    for side, model in (("a", declared.model_a), ("b", declared.model_b)):
        if model in experiments.outside_models:
            model_answers = lake.find("outside_answers", {"outside_model": model})
        else:
            where = _partition(lake, "model_answers", "experiment", model, dataset)
            model_answers = lake.read("model_answers", where) if where else None
        if model_answers is None:
            return None
        answers[side] = model_answers
    return answers


def _partition(
    lake: Lake, table: str, dimension: str, key: str, dataset: str | None
) -> dict[str, str] | None:
    """The partition of a table with this key; ``None`` where there is none.

    Raises:
        SampleSizeError: Several datasets have such a partition, and ``dataset`` is ``None``.
    """
    partitions = [
        partition
        for partition in lake.partitions(table)
        if partition[dimension] == key and dataset in (None, partition["dataset"])
    ]
    if len(partitions) > 1:
        names = ", ".join(sorted(partition["dataset"] for partition in partitions))
        raise SampleSizeError(f"{key} is there for several datasets; say which: {names}")
    return partitions[0] if partitions else None


def _calls(
    client: LLMClient,
    settings: Settings,
    kind: Kind,
    questions: pl.DataFrame,
    answers: Mapping[str, pl.DataFrame],
    benchmark: str,
) -> list[Call]:
    """Calls for one benchmark, priced as new: both orders of a pair, or each model's answers."""
    of_benchmark = pl.col("benchmark") == benchmark
    own_questions = questions.filter(of_benchmark)
    own_answers = {side: frame.filter(of_benchmark) for side, frame in answers.items()}
    if kind == "pair":
        calls = pair_calls(client, settings, own_questions, own_answers, benchmark)
    else:
        calls = [
            call
            for frame in own_answers.values()
            for call in single_calls(client, settings, own_questions, frame)
        ]
    return [replace(call, sample_index=_NEW) for call in calls]


def _cost(parts: Sequence[Estimate], count: float) -> dict[str, Any]:
    estimate = times(total(parts), count)
    return {"calls": estimate.calls, "dollars": dollars(estimate.cost_usd)}


def _effect(kind: Kind, effect: float) -> str:
    if kind == "pair":
        return f"{50 + effect:.1f} % or {50 - effect:.1f} % won"
    return f"{effect:.2f} points of the mean score"
