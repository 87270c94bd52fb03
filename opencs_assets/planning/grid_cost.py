"""What a grid takes: runs, calls by stage, dollars and GPU hours, told before any of it.

Calls are rendered as they would be sent where their texts are there; elsewhere a text of an assumed
length stands in their place, and it is said so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import polars as pl

from opencs_assets.benchmarks.declared import DECLARED, sampling_of
from opencs_assets.checkpoints.metering import PEAK_TFLOPS
from opencs_assets.config.experiments import Selector
from opencs_assets.config.profiles import CANDIDATES_PER_CHOICE, resolve_constants
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.planning import gpu_hours
from opencs_assets.planning.estimate import (
    STAGES,
    estimate_dataset,
    kept_comparisons,
    known_clusters,
)
from opencs_assets.planning.judging_calls import (
    ASSUMED_ANSWER,
    ASSUMED_QUESTION,
    assumed_answers,
    benchmark_frame,
    pair_calls,
    single_calls,
    stand_in,
)
from opencs_assets.planning.reproduce import DATASETS, Grid, ReproductionError, source_of
from opencs_assets.selection import refinement
from opencs_assets.tables.datasets import RAW_DATASET
from opencs_assets.tables.lake import Lake
from resources.llm.client import LLMClient
from resources.llm.types import Call, Estimate
from resources.settings import Settings

TOKENS_A_CHARACTER = 0.27
# The chat template's, and the end of the conversation.
TEMPLATE_TOKENS = 40
# Mean characters of a sample of LIMA's training set.
LIMA_CHARACTERS = 2_911
ON_GPU = "GPU hours"

# Gives the client of a role for a stage.
Client = Callable[[str, str], LLMClient]


@dataclass(frozen=True)
class Cost:
    """What one stage's calls would take.

    Attributes:
        stage: Asset that asks.
        role: Role that is asked; empty for what checkpoints answer.
        model: Its model.
        estimate: Calls, tokens, dollars, seconds.
        assumed: What of it is assumed, for a person; empty where all is counted.
    """

    stage: str
    role: str
    model: str
    estimate: Estimate
    assumed: str = ""

    def row(self) -> dict[str, Any]:
        """As a flat record."""
        found = self.estimate
        dollars = "unknown price" if found.cost_usd is None else round(found.cost_usd, 2)
        return {
            "stage": self.stage,
            "model": self.model,
            "calls": found.calls,
            "stored": found.stored,
            "tokens_in": found.prompt_tokens,
            "tokens_out": found.completion_tokens,
            "dollars": dollars if self.role else ON_GPU,
            "basis": "assumed" if self.assumed else "counted",
        }


@dataclass(frozen=True)
class Hours:
    """GPU hours of a base model's experiments.

    Attributes:
        base_model: The base model.
        trainings: Trainings to be made.
        training_hours: Their GPU hours; ``None`` where the model's size is not known.
        answered: Models that answer.
        answering_hours: Their GPU hours, likewise.
        basis: Where the hours are from.
    """

    base_model: str
    trainings: int
    training_hours: float | None
    answered: int
    answering_hours: float | None
    basis: str

    @property
    def total(self) -> float | None:
        """All GPU hours."""
        if self.training_hours is None or self.answering_hours is None:
            return None
        return self.training_hours + self.answering_hours

    def row(self, usd_per_hour: float | None) -> dict[str, Any]:
        """As a flat record; dollars where a GPU hour has a price."""

        def said(hours: float | None) -> float | str:
            return "unknown" if hours is None else round(hours, 1)

        total = self.total
        known = total is not None and (usd_per_hour is not None or total == 0)
        return {
            "base_model": self.base_model,
            "trainings": self.trainings,
            "training_gpu_hours": said(self.training_hours),
            "answerings": self.answered,
            "answering_gpu_hours": said(self.answering_hours),
            "dollars": round((total or 0.0) * (usd_per_hour or 0.0), 2)
            if known
            else "unknown price",
            "basis": self.basis,
        }


@dataclass(frozen=True)
class Takes:
    """All that a grid takes.

    Attributes:
        runs: Runs by family.
        calls: Calls by stage.
        hours: GPU hours by base model.
        assumptions: What was assumed, a sentence each.
        usd_per_hour: Price of a GPU hour, where it is set.
    """

    runs: Mapping[str, int]
    calls: tuple[Cost, ...]
    hours: tuple[Hours, ...]
    assumptions: tuple[str, ...]
    usd_per_hour: float | None

    def totals(self) -> dict[str, Any]:
        """Sums; a sum with an unknown part is that of the known ones, and says of what it is."""
        paid = [each for each in self.calls if each.role]
        known = [each.total for each in self.hours if each.total is not None]
        hours = sum(known)
        unpriced = sorted({each.model for each in paid if each.estimate.cost_usd is None})
        return {
            "runs": sum(self.runs.values()),
            "calls": sum(each.estimate.calls for each in paid),
            "stored": sum(each.estimate.stored for each in paid),
            "call_dollars": round(sum(each.estimate.cost_usd or 0.0 for each in paid), 2),
            "models_of_unknown_price": unpriced,
            "gpu_hours": round(hours, 1),
            "models_of_unknown_size": [
                each.base_model for each in self.hours if each.total is None
            ],
            "gpu_dollars": 0.0
            if not hours
            else None
            if self.usd_per_hour is None
            else round(hours * self.usd_per_hour, 2),
        }

    def summary(self) -> str:
        """All of it in one line for a person; what is unknown is said to be."""
        found = self.totals()
        calls = f"{found['calls']:,} calls ({found['stored']:,} stored) for "
        dollars = f"${found['call_dollars']:,.2f}"
        if found["models_of_unknown_price"]:
            dollars += f" and the unknown price of {', '.join(found['models_of_unknown_price'])}"
        hours = f"{found['gpu_hours']:,} GPU hours"
        if found["models_of_unknown_size"]:
            hours += f" without {', '.join(found['models_of_unknown_size'])}"
        price = found["gpu_dollars"]
        if price is None:
            hours += " of unknown price (training.gpu_usd_per_hour is not set)"
        elif price:
            hours += f" for ${price:,.2f}"
        return f"In all: {found['runs']:,} runs, {calls}{dollars}, {hours}"


def check(device: str) -> None:
    """Accept a GPU whose speed is known.

    Raises:
        ReproductionError: It is not; the message names those that are.
    """
    if device not in gpu_hours.DEVICES:
        raise ReproductionError(
            f"nothing is known of the device {device!r}; known: {', '.join(gpu_hours.DEVICES)}"
        )


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
) -> Takes:
    """Runs, calls, dollars and GPU hours of a grid; makes no call.

    What is stored costs nothing.

    Args:
        grid: The grid.
        settings: The home's settings.
        client: Gives the client of a role for a stage.
        name: Name of the published dataset.
        dataset: The dataset's name here.
        limit: Rows of it to read.
        device: GPU that hours are told of, a name in ``gpu_hours.DEVICES``.
        runs: Runs by family, as planned.
        stages: Assets that are planned.
    """
    planned = set(stages)
    samples, assumed_samples = _samples(settings, name, dataset, limit)
    lake = Lake(settings.lake)
    costs = []
    clusters = None if assumed_samples or limit else known_clusters(lake, dataset)
    for found in estimate_dataset(
        samples,
        settings,
        client,
        clusters,
        lambda stage: kept_comparisons(lake, dataset, stage),
        [stage for stage in STAGES if stage in planned],
    ):
        assumed = [assumed_samples] if assumed_samples else []
        if found.stage == "contrastive_scores" and clusters is None:
            assumed.append("as many candidates as five a choice")
        costs.append(Cost(found.stage, found.role, found.model, found.estimate, "; ".join(assumed)))
    costs += _refining(grid, settings, samples, client, assumed_samples)
    costs += _judged(grid, settings, dataset, client)
    hours, said = _hours(grid, settings, dataset, samples, device)
    said = [f"{each.stage}: {each.assumed}." for each in costs if each.assumed] + said
    price = settings.training.gpu_usd_per_hour
    return Takes(dict(runs), tuple(costs), tuple(hours), tuple(said), price)


def _samples(
    settings: Settings, name: str, dataset: str, limit: int | None
) -> tuple[pl.DataFrame, str]:
    """The dataset's samples, or stand-ins; and what of them is assumed."""
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
    columns = [each for each in RAW_DATASET.columns if each in frame.columns]
    return frame.select(columns), f"{known.title}'s {count:,} samples"


def _k(settings: Settings, selector: Selector, samples: int) -> int:
    if selector.k is not None:
        return min(selector.k, samples) if selector.method != "fixed" else selector.k
    if selector.method == "full":
        return samples
    profile = selector.profile or settings.profile
    return min(resolve_constants(profile, settings.method, samples).k.value, samples)


def _refining(
    grid: Grid, settings: Settings, samples: pl.DataFrame, client: Client, assumed_samples: str
) -> list[Cost]:
    """Both calls for each sample of the subsets that are refined, of the longest samples."""
    refining = [selector for selector in grid.selectors.values() if selector.refine]
    if not refining:
        return []
    rows = samples.sort(pl.col("response").str.len_chars(), descending=True)
    drafts = [
        refinement.Draft(sample, instruction, response)
        for sample, instruction, response in rows.head(
            max(_k(settings, each, samples.height) for each in refining)
        )
        .select("sample_id", "instruction", "response")
        .iter_rows()
    ]
    with client("refiner", "refined_samples") as opened:
        # Each selector's subset is its own; that some samples are in both is not known yet.
        calls = [
            refinement.build_call(draft, part, opened.role.max_tokens, 0, None)
            for draft in drafts
            for part in get_args(refinement.Part)
        ]
        once = opened.estimate(calls)
        share = sum(_k(settings, each, samples.height) for each in refining) / (len(drafts) or 1)
        return [
            Cost(
                "refined_samples",
                opened.role_name,
                opened.model_label,
                times(once, share),
                "; ".join(filter(None, [assumed_samples, "the longest samples"])),
            )
        ]


def _judged(grid: Grid, settings: Settings, dataset: str, client: Client) -> list[Cost]:
    """Answers, single verdicts and pairwise verdicts."""
    questions, missing = benchmark_frame(settings.home, grid.benchmarks)
    lake = Lake(settings.lake)
    answers: dict[str, pl.DataFrame] = {}
    for name in grid.names:
        where = {"dataset": dataset, "experiment": name}
        if lake.exists("model_answers", where):
            answers[name] = lake.read("model_answers", where)
    turns = int(questions["turns"].list.len().sum())
    open_models = [name for name in grid.names if name not in answers]
    new = turns * len(open_models)
    stand_ins = {side: assumed_answers(questions, f"model {side}") for side in ("a", "b")}
    texts = f"answers of {ASSUMED_ANSWER:,} characters"
    asked = (
        [f"questions of {', '.join(missing)} of {ASSUMED_QUESTION} characters"] if missing else []
    )

    def basis(is_open: bool) -> str:
        return "; ".join([*asked, *([texts] if is_open else [])])

    most = {name: sampling_of(name).max_new_tokens for name in grid.benchmarks}
    costs = [
        Cost(
            "model_answers",
            "",
            "the checkpoints",
            Estimate(
                turns * len(grid.names),
                turns * len(answers),
                round(new * ASSUMED_QUESTION * TOKENS_A_CHARACTER),
                round(
                    new * min(ASSUMED_ANSWER * TOKENS_A_CHARACTER, max(most.values(), default=0))
                ),
                0.0,
                None,
            ),
            basis(bool(open_models)),
        )
    ]
    alone = [name for name in grid.benchmarks if grid.experiments.judges_alone(name)]
    of_alone = questions.filter(pl.col("benchmark").is_in(alone))

    def only(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(pl.col("benchmark").is_in(alone))

    with client("judge", "single_verdicts") as opened:
        parts = [
            opened.estimate(single_calls(opened, settings, of_alone, only(given)))
            for given in answers.values()
        ]
        once = opened.estimate(single_calls(opened, settings, of_alone, only(stand_ins["a"])))
        parts.append(times(once, len(open_models)))
        costs.append(
            Cost(
                opened.stage,
                opened.role_name,
                opened.model_label,
                together(parts),
                basis(bool(open_models)),
            )
        )
    with client("judge", "pairwise_verdicts") as opened:
        parts, open_on = [], dict.fromkeys(grid.benchmarks, 0)
        for name in grid.matchups:
            matchup = grid.experiments.matchups[name]
            if matchup.model_a in answers and matchup.model_b in answers:
                both = {"a": answers[matchup.model_a], "b": answers[matchup.model_b]}
                parts.append(
                    opened.estimate(
                        pair_calls(opened, settings, questions, both, matchup.benchmark)
                    )
                )
            else:
                open_on[matchup.benchmark] += 1
        for benchmark, count in open_on.items():
            if count:
                calls: list[Call] = pair_calls(opened, settings, questions, stand_ins, benchmark)
                parts.append(times(opened.estimate(calls), count))
        costs.append(
            Cost(
                opened.stage,
                opened.role_name,
                opened.model_label,
                together(parts),
                basis(any(open_on.values())),
            )
        )
    return costs


def _hours(
    grid: Grid, settings: Settings, dataset: str, samples: pl.DataFrame, device: str
) -> tuple[list[Hours], list[str]]:
    declared, lake = grid.experiments, Lake(settings.lake)
    tflops = settings.training.peak_tflops or PEAK_TFLOPS[device]
    turns = {
        name: DECLARED[name].questions * DECLARED[name].turns if name in DECLARED else 0
        for name in grid.benchmarks
    }
    lengths = _tokens_a_sample(samples)
    measured = _measured(lake)
    found = []
    of_model: dict[str, list[str]] = {}
    for name in grid.names:
        of_model.setdefault(declared.experiments[name].base_model, []).append(name)
    for base_model, names in of_model.items():
        source = declared.base_models[base_model].source
        size = gpu_hours.SIZES.get(source)
        new = [name for name in names if not _there(lake, "checkpoint", dataset, name)]
        open_models = [name for name in names if not _there(lake, "model_answers", dataset, name)]
        training: float | None = 0.0
        answering: float | None = 0.0
        basis = "the embedded model trains on CPUs"
        if source != "embedded":
            known = measured.get(base_model)
            basis = "measured here" if known else f"{device}, assumed"
            if size is None:
                training, answering, basis = None, None, "the model's size is not known"
            else:
                training = sum(
                    _training(grid, settings, name, size, lengths, known, tflops) for name in new
                )
                answering = sum(
                    gpu_hours.answering_hours(
                        declared.recipes[declared.experiments[name].recipe],
                        size,
                        count,
                        sampling_of(benchmark).max_new_tokens,
                        gpu_hours.BANDWIDTH[device],
                    )
                    for name in open_models
                    for benchmark, count in turns.items()
                )
        found.append(Hours(base_model, len(new), training, len(open_models), answering, basis))
    said = [
        f"{device}: {tflops:g} TFLOP/s, of which trainings use {gpu_hours.UTILIZATION:.0%}; "
        f"{gpu_hours.BANDWIDTH[device]:g} TB/s, of which answering uses "
        f"{gpu_hours.BANDWIDTH_USED:.0%}, every answer as long as it may be. Loading and writing "
        "of models is left out.",
        f"{TOKENS_A_CHARACTER} tokens a character, {TEMPLATE_TOKENS} of the chat template.",
        "Replies are as long as they may be, or as the model's were so far. Repeated attempts are "
        "not counted.",
    ]
    return found, said if any(each.total for each in found) else said[2:]


def _training(
    grid: Grid,
    settings: Settings,
    name: str,
    size: gpu_hours.ModelSize,
    lengths: Sequence[float],
    hours_a_token: float | None,
    tflops: float,
) -> float:
    """GPU hours of one experiment's training."""
    experiment = grid.experiments.experiments[name]
    selector = grid.experiments.selectors[experiment.selector]
    recipe = grid.experiments.recipes[experiment.recipe]
    k = _k(settings, selector, len(lengths))
    if selector.method == "fixed":
        length = LIMA_CHARACTERS * TOKENS_A_CHARACTER + TEMPLATE_TOKENS
    else:
        # Longest samples first; OpenCS's candidates are the longest of their label sets.
        among = {"longest": k, "opencs": CANDIDATES_PER_CHOICE * k}.get(selector.method)
        taken = lengths[:among]
        length = sum(taken) / (len(taken) or 1)
    tokens = gpu_hours.training_tokens(recipe, k, length)
    if hours_a_token is not None:
        return tokens * hours_a_token
    return gpu_hours.training_hours(recipe, size, tokens, length, tflops)


def _tokens_a_sample(samples: pl.DataFrame) -> list[float]:
    """Tokens of each sample by its characters, those of the longest responses first."""
    ordered = samples.sort(pl.col("response").str.len_chars(), descending=True)
    characters = ordered["instruction"].str.len_chars() + ordered["response"].str.len_chars()
    return (characters * TOKENS_A_CHARACTER + TEMPLATE_TOKENS).to_list()


def _measured(lake: Lake) -> dict[str, float]:
    """GPU hours a token of the trainings that were made here on GPUs, by base model."""
    sums: dict[str, tuple[float, float]] = {}
    for partition in lake.partitions("checkpoint"):
        for row in lake.read("checkpoint", partition).iter_rows(named=True):
            if row["gpu_hours"] and row["tokens"]:
                hours, tokens = sums.get(row["base_model"], (0.0, 0.0))
                sums[row["base_model"]] = hours + row["gpu_hours"], tokens + row["tokens"]
    return {name: hours / tokens for name, (hours, tokens) in sums.items()}


def _there(lake: Lake, table: str, dataset: str, experiment: str) -> bool:
    return lake.exists(table, {"dataset": dataset, "experiment": experiment})


def times(found: Estimate, count: float) -> Estimate:
    """An estimate so many times."""
    return Estimate(
        round(found.calls * count),
        round(found.stored * count),
        round(found.prompt_tokens * count),
        round(found.completion_tokens * count),
        None if found.cost_usd is None else found.cost_usd * count,
        None if found.seconds is None else found.seconds * count,
    )


def together(parts: Sequence[Estimate]) -> Estimate:
    """The sum of estimates; with an unknown part it is unknown."""
    costs = [each.cost_usd for each in parts if each.calls]
    seconds = [each.seconds for each in parts if each.calls]
    return Estimate(
        sum(each.calls for each in parts),
        sum(each.stored for each in parts),
        sum(each.prompt_tokens for each in parts),
        sum(each.completion_tokens for each in parts),
        None if None in costs else sum(filter(None, costs)),
        None if None in seconds else sum(filter(None, seconds)),
    )
