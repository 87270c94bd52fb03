"""The cost of a grid: runs, calls by stage, dollars and GPU hours, estimated before it starts.

Calls are rendered as they would be sent where their texts are there; elsewhere a text of an assumed
length stands in their place, and the assumptions say so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import polars as pl

from opencs_assets.config.benchmarks import sampling_of
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.planning import grid_hours
from opencs_assets.planning.cost import GridCost, StageCost, times, total
from opencs_assets.planning.estimate import STAGES, Client, estimate_dataset
from opencs_assets.planning.reproduce import DATASETS, Grid, source_of
from opencs_assets.planning.stage_calls import (
    ASSUMED_ANSWER,
    ASSUMED_QUESTION,
    assumed_answers,
    benchmark_frame,
    pair_calls,
    refinement_calls,
    single_calls,
    stand_in,
)
from opencs_assets.tables.datasets import RAW_DATASET
from opencs_assets.tables.lake import Lake
from resources.llm.types import Estimate
from resources.settings import Settings


def what_it_takes(
    grid: Grid,
    settings: Settings,
    client: Client,
    *,
    name: str,
    dataset: str,
    limit: int | None,
    device: str,
    runs: Mapping[str, int],
    stages: Iterable[str],
) -> GridCost:
    """Estimate runs, calls, dollars and GPU hours of a grid, without a call.

    Stored replies cost nothing. ``runs`` by family and ``stages``, the assets, are as planned;
    ``name`` is that of the published dataset, ``dataset`` its name in the home.
    """
    samples, assumed_samples = _samples(settings, name, dataset, limit)
    planned = STAGES.keys() & set(stages)
    is_whole = not (assumed_samples or limit)
    costs = [
        replace(cost, assumed="; ".join(filter(None, [assumed_samples, cost.assumed])))
        for cost in estimate_dataset(
            samples, settings, client, dataset, is_whole=is_whole, stages=[*planned]
        )
    ]
    costs += _refining(grid, settings, samples, client, assumed_samples)
    costs += _judged(grid, settings, dataset, client)
    hours, about_hours = grid_hours.hours_of(grid, settings, dataset, samples, device)
    assumptions = [f"{cost.stage}: {cost.assumed}." for cost in costs if cost.assumed]
    price = settings.training.gpu_usd_per_hour
    return GridCost(dict(runs), tuple(costs), tuple(hours), (*assumptions, *about_hours), price)


def _samples(
    settings: Settings, name: str, dataset: str, limit: int | None
) -> tuple[pl.DataFrame, str]:
    """The dataset's samples, or stand-ins with a note on what is assumed of them."""
    source = source_of(settings.home, dataset)
    if source is not None:
        return read_dataset(source.path, limit=limit).samples, ""
    known = DATASETS[name]
    count = min(known.samples, limit or known.samples)
    number = pl.Series("row", range(count), dtype=pl.Int64)
    instruction = stand_in("", known.instruction)
    response = stand_in("", known.response)
    frame = pl.DataFrame({"row": number}).with_columns(
        sample_id=pl.format("{}", "row"),
        dataset=pl.lit(dataset),
        system=pl.lit(None, dtype=pl.String),
        instruction=pl.format("{} {}", "row", pl.lit(instruction)),
        response=pl.format("{} {}", "row", pl.lit(response)),
    )
    frame = frame.with_columns(
        messages=pl.concat_list(
            pl.struct(role=pl.lit("user"), content="instruction"),
            pl.struct(role=pl.lit("assistant"), content="response"),
        )
    )
    columns = [name for name in RAW_DATASET.columns if name in frame.columns]
    return frame.select(columns), f"{known.title}'s {count:,} samples"


def _refining(
    grid: Grid, settings: Settings, samples: pl.DataFrame, client: Client, assumed_samples: str
) -> list[StageCost]:
    """Both calls for each sample of the refined subsets, assumed to be the longest samples."""
    sizes = [
        grid_hours.subset_size(settings, selector, samples.height)
        for selector in grid.selectors.values()
        if selector.refine
    ]
    if not sizes:
        return []
    longest = samples.sort(pl.col("response").str.len_chars(), descending=True).head(max(sizes))
    with client("refiner", "refined_samples") as opened:
        # Subsets are counted as disjoint, since it is unknown which samples they will share.
        once = opened.estimate(refinement_calls(opened, longest))
        estimate = times(once, sum(sizes) / (longest.height or 1))
        return [StageCost.of(opened, estimate, assumed_samples, "the longest samples")]


def _judged(grid: Grid, settings: Settings, dataset: str, client: Client) -> list[StageCost]:
    """Answers, single verdicts and pairwise verdicts."""
    questions, missing = benchmark_frame(settings.home, grid.benchmarks)
    lake = Lake(settings.lake)
    answers = {}
    for name in grid.names:
        model_answers = lake.find("model_answers", {"dataset": dataset, "experiment": name})
        if model_answers is not None:
            answers[name] = model_answers
    unanswered = len(grid.names) - len(answers)
    assumed_questions = (
        f"questions of {', '.join(missing)} of {ASSUMED_QUESTION} characters" if missing else ""
    )
    texts = f"answers of {ASSUMED_ANSWER:,} characters"
    assumed = [assumed_questions, texts if unanswered else ""]
    stand_ins = {side: assumed_answers(questions, f"model {side}") for side in ("a", "b")}
    costs = [_answering(grid, questions, len(answers), "; ".join(filter(None, assumed)))]
    alone = pl.col("benchmark").is_in(
        [name for name in grid.benchmarks if grid.experiments.judges_alone(name)]
    )
    with client("judge", "single_verdicts") as opened:
        *parts, once = [
            opened.estimate(
                single_calls(opened, settings, questions.filter(alone), frame.filter(alone))
            )
            for frame in [*answers.values(), stand_ins["a"]]
        ]
        costs.append(StageCost.of(opened, total([*parts, times(once, unanswered)]), *assumed))
    with client("judge", "pairwise_verdicts") as opened:
        parts, unanswered_on = [], Counter[str]()
        for name in grid.matchups:
            matchup = grid.experiments.matchups[name]
            if matchup.model_a in answers and matchup.model_b in answers:
                both = {"a": answers[matchup.model_a], "b": answers[matchup.model_b]}
                calls = pair_calls(opened, settings, questions, both, matchup.benchmark)
                parts.append(opened.estimate(calls))
            else:
                unanswered_on[matchup.benchmark] += 1
        for benchmark in grid.benchmarks:
            if count := unanswered_on[benchmark]:
                calls = pair_calls(opened, settings, questions, stand_ins, benchmark)
                parts.append(times(opened.estimate(calls), count))
        assumed = [assumed_questions, texts if unanswered_on else ""]
        costs.append(StageCost.of(opened, total(parts), *assumed))
    return costs


def _answering(grid: Grid, questions: pl.DataFrame, answered: int, assumed: str) -> StageCost:
    """Turns that the checkpoints answer, of which so many have ``answered`` already."""
    turns = int(questions["turns"].list.len().sum())
    new = turns * (len(grid.names) - answered)
    most = max((sampling_of(name).max_new_tokens for name in grid.benchmarks), default=0)
    per_token = grid_hours.TOKENS_A_CHARACTER
    return StageCost(
        "model_answers",
        "",
        "the checkpoints",
        Estimate(
            turns * len(grid.names),
            turns * answered,
            round(new * ASSUMED_QUESTION * per_token),
            round(new * min(ASSUMED_ANSWER * per_token, most)),
            0.0,
            None,
        ),
        assumed,
    )
