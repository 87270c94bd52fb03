"""The calls of each stage as they would be sent.

A text of an assumed length stands in the place of a benchmark or an answer that is not there yet.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import polars as pl

from opencs_assets.benchmarks.questions import BenchmarkError, find_benchmarks, read_benchmark
from opencs_assets.config.benchmarks import DECLARED
from opencs_assets.open_tags import tagging
from opencs_assets.protocols.registry import choose_pair, choose_single
from opencs_assets.protocols.tasks import by_benchmark, most_turns, pair_tasks, single_tasks
from opencs_assets.scores import contrast, single
from opencs_assets.scores.pairing import Comparison
from opencs_assets.selection import refinement
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS, turn_keys
from resources.llm.client import LLMClient
from resources.llm.types import Call
from resources.settings import Criterion, Settings

# Characters of an answer; the MT-Bench answers of six published models have means of 330 to 1,150.
ASSUMED_ANSWER = 1_000
# Characters of a question's turn; those of the published test sets have 105 to 747.
ASSUMED_QUESTION = 300
_SENTENCE = "This text stands in the place of one that is not there yet, and is about as long. "


def stand_in(what: str, characters: int) -> str:
    """A text of so many characters that begins with the name of what it stands for."""
    repeated = _SENTENCE * (characters // len(_SENTENCE) + 1)
    return f"{what} {repeated}"[: max(characters, len(what))]


def benchmark_frame(home: Path, names: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """Questions of benchmarks, with stand-ins for benchmarks that are not in the home.

    Returns:
        Rows in the schema of ``benchmark_questions``, and the names of the missing benchmarks.

    Raises:
        BenchmarkError: A benchmark is neither there nor known, or its file is not usable.
    """
    there = find_benchmarks(home)
    frames, missing = [], []
    for name in names:
        if name in there:
            frames.append(read_benchmark(there[name]))
            continue
        known = DECLARED.get(name)
        if known is None:
            raise BenchmarkError(
                f"there is no benchmark {name!r}: put its questions into "
                f"{home / 'benchmarks' / name}.jsonl"
            )
        missing.append(name)
        rows = [
            {
                "benchmark": name,
                "question_id": str(number),
                "category": "generic",
                "turns": [
                    stand_in(f"{name} {number}.{turn}", ASSUMED_QUESTION)
                    for turn in range(known.turns)
                ],
                "references": [],
            }
            for number in range(known.questions)
        ]
        frames.append(pl.DataFrame(rows, schema=BENCHMARK_QUESTIONS.schema))
    return pl.concat(frames), missing


def assumed_answers(questions: pl.DataFrame, model: str) -> pl.DataFrame:
    """Answers of the assumed length to every turn: the columns of answers that judging reads."""
    return turn_keys(questions).with_columns(
        answer=pl.lit(stand_in(f"{model} answers", ASSUMED_ANSWER)), finish_reason=pl.lit("stop")
    )


def tag_calls(client: LLMClient, samples: pl.DataFrame) -> list[Call]:
    """The tagger's calls for samples."""
    form = tagging.form_of(client.structured)
    return [tagging.build_call(query, 0, None, form) for query in tagging.queries(samples)]


def comparison_calls(
    client: LLMClient, samples: pl.DataFrame, comparisons: Sequence[Comparison]
) -> list[Call]:
    """The scorer's calls for comparisons of samples."""
    texts = contrast.texts_of(samples)
    return [contrast.build_call(pair, texts, client.reading, 0, None) for pair in comparisons]


def score_calls(
    client: LLMClient, samples: pl.DataFrame, criteria: Sequence[Criterion]
) -> list[Call]:
    """The scorer's calls for samples alone, by each criterion."""
    return [
        single.build_call(instruction, response, criterion, client.reading, 0, None)
        for criterion in criteria
        for instruction, response in samples.select("instruction", "response").iter_rows()
    ]


def refinement_calls(client: LLMClient, samples: pl.DataFrame) -> list[Call]:
    """The refiner's calls for both parts of samples."""
    return [
        refinement.build_call(refinement.Draft(*row), part, client.role.max_tokens, 0, None)
        for row in samples.select("sample_id", "instruction", "response").iter_rows()
        for part in get_args(refinement.Part)
    ]


def single_calls(
    client: LLMClient, settings: Settings, questions: pl.DataFrame, answers: pl.DataFrame
) -> list[Call]:
    """The judge's calls for each answer of one model alone."""
    calls: list[Call] = []
    for tasks in by_benchmark(single_tasks(questions, answers)):
        turns = most_turns(questions, tasks[0].question.benchmark)
        protocol = choose_single(settings, client.reading, turns)
        calls += [protocol.call(task, 0, None) for task in tasks if task.answered]
    return calls


def pair_calls(
    client: LLMClient,
    settings: Settings,
    questions: pl.DataFrame,
    answers: Mapping[str, pl.DataFrame],
    benchmark: str,
) -> list[Call]:
    """The judge's calls that compare two models, ``a`` and ``b``, in both orders."""
    protocol = choose_pair(settings, client.reading, most_turns(questions, benchmark))
    tasks = pair_tasks(questions, answers["a"], answers["b"], benchmark, by_turn=protocol.by_turn)
    return [protocol.call(task, 0, None) for task in tasks if task.answered]
