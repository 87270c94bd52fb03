"""A lake of about a million verdicts, made of nothing but a seed, to time the warehouse on.

Four datasets of twenty experiments each; 103 of their matchups on each of the five test sets of
published sizes, judged by two scores in both orders (848,720 verdicts); MT-Bench judged alone
(12,800); what others judged as one imported table: three judges of 105 pairs in both orders of
80 questions and two turns, and 37,680 human votes: 1,000,000. With answers, checkpoints, subsets
and the kept replies behind all that was judged here.
"""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl

from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake

DATASETS = ("alpaca", "evol", "dolly", "2024")
EXPERIMENTS = tuple(f"s{place:02}@base" for place in range(20))
TEST_SETS = {"koala": 180, "lima": 300, "sinstruct": 252, "vicuna": 80, "wizardlm": 218}
MT_BENCH, MT_QUESTIONS = "mt_bench", 80
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "human")
MATCHUPS = 103
JUDGE, SINGLE_JUDGE = "gpt-4", "gpt-4"
IMPORTED_MODELS, IMPORTED_PAIRS = 15, 105
IMPORTED_JUDGES = ("gpt-4", "claude", "gpt-4o")
VOTES = 37_680
SAMPLES = 100
SAMPLING = json.dumps({"max_tokens": 256, "temperature": 0.0})
_PLAIN = {pl.String: "x", pl.Int64: 0, pl.Float64: 0.0, pl.Boolean: False}


def write(home: Path, *, scale: float = 1.0, seed: int = 0) -> int:
    """Write the lake of a home.

    Args:
        home: The home; its lake is ``lake`` in it.
        scale: Share of the matchups and of what is imported.
        seed: Equal seeds write equally.

    Returns:
        How many verdicts it holds.
    """
    lake = Lake(str(home / "lake"))
    lake.ensure_schemas()
    rng = np.random.default_rng(seed)
    _questions(lake)
    _models(lake, rng, round(MATCHUPS * scale))
    judged = [
        (dataset, number)
        for dataset in DATASETS
        for number in range(round(MATCHUPS * scale) * len(TEST_SETS))
    ]
    replies: list[pl.Series] = []
    count = 0
    for dataset, number in judged:
        frame = matchup_verdicts(rng, number)
        lake.write("pairwise_verdicts", frame, {"dataset": dataset, "matchup": _name(number)})
        replies.append(frame["reply_id"])
        count += frame.height
    for dataset in DATASETS:
        for experiment in EXPERIMENTS:
            frame = _single_verdicts(rng)
            lake.write("single_verdicts", frame, {"dataset": dataset, "experiment": experiment})
            replies.append(frame["reply_id"])
            count += frame.height
    imported = _imported_verdicts(rng, scale)
    lake.write("imported_verdicts", imported, {})
    write_replies(lake, pl.concat(replies))
    return count + imported.height


def matchup_verdicts(rng: np.random.Generator, number: int) -> pl.DataFrame:
    """Verdicts of one matchup on one test set, by two scores in both orders.

    Args:
        rng: Where the scores are from.
        number: Number of the matchup; the test sets take turns.
    """
    benchmark, size = list(TEST_SETS.items())[number % len(TEST_SETS)]
    model_a, model_b = sides(number)
    scores = rng.integers(3, 10, size=(2, 2 * size)).astype(float)
    winner = np.where(scores[0] > scores[1], "a", np.where(scores[0] < scores[1], "b", "tie"))
    unread = rng.random(2 * size) < 0.004
    known = pl.Series(~unread)
    ids = question_ids(benchmark, size)
    return _filled(
        "pairwise_verdicts",
        {
            "benchmark": [benchmark] * (2 * size),
            "question_id": [name for name in ids for _ in "ab"],
            "category": [category(place) for place in range(size) for _ in "ab"],
            "turn": [0] * (2 * size),
            "shown_first": ["a", "b"] * size,
            "model_a": [model_a] * (2 * size),
            "model_b": [model_b] * (2 * size),
            "winner": _known(pl.Series(winner), known),
            "score_a": _known(pl.Series(scores[0]), known),
            "score_b": _known(pl.Series(scores[1]), known),
            "status": _status(known),
            "protocol": ["scores"] * (2 * size),
            "reading": ["generated"] * (2 * size),
            "judge": [JUDGE] * (2 * size),
            "prompt_version": ["judge-scores-1"] * (2 * size),
            "sampling": [SAMPLING] * (2 * size),
            "reply_id": _reply_ids(rng, 2 * size),
        },
    )


def sides(number: int) -> tuple[str, str]:
    """Both models of a matchup."""
    pairs = list(combinations(EXPERIMENTS, 2))
    return pairs[(number // len(TEST_SETS)) % len(pairs)]


def question_ids(benchmark: str, size: int) -> list[str]:
    """Ids of a benchmark's questions."""
    return [f"{benchmark}-{place:03}" for place in range(size)]


def category(place: int) -> str:
    """Category of a benchmark's question."""
    return CATEGORIES[place % len(CATEGORIES)]


def write_replies(lake: Lake, reply_ids: pl.Series) -> None:
    """The kept replies of the judge."""
    rows = len(reply_ids)
    plain = _filled(
        "llm_replies",
        {
            "reply_id": reply_ids,
            "role": ["judge"] * rows,
            "stage": ["pairwise_verdicts"] * rows,
            "dataset": ["alpaca"] * rows,
            "model": [JUDGE] * rows,
            "status": ["ok"] * rows,
            "readable": [True] * rows,
            "via": ["batch"] * rows,
            "prompt_tokens": [900] * rows,
            "completion_tokens": [120] * rows,
            "cost_usd": [0.01] * rows,
        },
    )
    when = pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us")
    lake.write("llm_replies", plain.with_columns(created_at=when), {})


def _questions(lake: Lake) -> None:
    rows = [
        (benchmark, name, category(place), turns)
        for benchmark, size, turns in (
            *((name, size, 1) for name, size in TEST_SETS.items()),
            (MT_BENCH, MT_QUESTIONS, 2),
        )
        for place, name in enumerate(question_ids(benchmark, size))
    ]
    lake.write(
        "benchmark_questions",
        _filled(
            "benchmark_questions",
            {
                "benchmark": [row[0] for row in rows],
                "question_id": [row[1] for row in rows],
                "category": [row[2] for row in rows],
                "turns": [["What now?"] * row[3] for row in rows],
                "references": [[] for _ in rows],
            },
            # As of most test sets: only AlpacaEval's own instructions have one.
        ).with_columns(difficulty=pl.lit(None, pl.Float64)),
        {},
    )


def _models(lake: Lake, rng: np.random.Generator, pairs: int) -> None:
    names = list(EXPERIMENTS)
    selectors = [name.split("@")[0] for name in names]
    declared = {
        "model": names,
        "selector": selectors,
        "base_model": ["base"] * len(names),
        "recipe": ["demo"] * len(names),
        "budget_unit": ["epochs"] * len(names),
        "budget": [1.0] * len(names),
    }
    lake.write("declared_models", _filled("declared_models", declared), {})
    numbers = range(pairs * len(TEST_SETS))
    matchups = {
        "matchup": [_name(number) for number in numbers],
        "model_a": [sides(number)[0] for number in numbers],
        "model_b": [sides(number)[1] for number in numbers],
        "benchmark": [list(TEST_SETS)[number % len(TEST_SETS)] for number in numbers],
        "parity": ["epochs"] * len(numbers),
    }
    lake.write("declared_matchups", _filled("declared_matchups", matchups), {})
    for dataset in DATASETS:
        for name, selector in zip(names, selectors, strict=True):
            of_both = {"dataset": dataset, "experiment": name}
            lake.write("model_answers", _answers(rng, f"{dataset}-{name}"), of_both)
            trained = _filled("checkpoint", {"provenance": [f"{dataset}-{name}"]})
            trained = trained.with_columns(
                base_model=pl.lit("base"),
                selector=pl.lit(selector),
                epochs=1.0,
                steps=pl.lit(25, pl.Int64),
                tokens=pl.lit(10_000, pl.Int64),
                samples=pl.lit(SAMPLES, pl.Int64),
            )
            lake.write("checkpoint", trained, of_both)
            chosen = {
                "rank": list(range(SAMPLES)),
                "sample_id": [f"{place:064x}" for place in range(SAMPLES)],
            }
            lake.write(
                "selected_subset",
                _filled("selected_subset", chosen),
                {"dataset": dataset, "selector": selector},
            )
        tags = {
            "sample_id": [f"{place:064x}" for place in range(SAMPLES)],
            "tags": [["math", f"tag{place % 7}"] for place in range(SAMPLES)],
        }
        lake.write("normalized_tags", _filled("normalized_tags", tags), {"dataset": dataset})
        lake.write(
            "contaminated_samples",
            TABLES["contaminated_samples"].empty(),
            {"dataset": dataset},
        )


def _answers(rng: np.random.Generator, provenance: str) -> pl.DataFrame:
    rows = [
        (benchmark, name, category(place), turn)
        for benchmark, size, turns in (
            *((name, size, 1) for name, size in TEST_SETS.items()),
            (MT_BENCH, MT_QUESTIONS, 2),
        )
        for place, name in enumerate(question_ids(benchmark, size))
        for turn in range(1, turns + 1)
    ]
    lengths = rng.integers(8, 120, size=len(rows))
    return _filled(
        "model_answers",
        {
            "benchmark": [row[0] for row in rows],
            "question_id": [row[1] for row in rows],
            "category": [row[2] for row in rows],
            "turn": [row[3] for row in rows],
            "answer": ["answer " * int(length) for length in lengths],
            "finish_reason": ["stop"] * len(rows),
            "checkpoint": [provenance] * len(rows),
        },
    )


def _single_verdicts(rng: np.random.Generator) -> pl.DataFrame:
    size = 2 * MT_QUESTIONS
    known = pl.Series(rng.random(size) >= 0.004)
    return _filled(
        "single_verdicts",
        {
            "benchmark": [MT_BENCH] * size,
            "question_id": [
                name for name in question_ids(MT_BENCH, MT_QUESTIONS) for _ in range(2)
            ],
            "category": [category(place) for place in range(MT_QUESTIONS) for _ in range(2)],
            "turn": [1, 2] * MT_QUESTIONS,
            "score": _known(pl.Series(rng.integers(1, 11, size=size).astype(float)), known),
            "status": _status(known),
            "protocol": ["single"] * size,
            "reading": ["generated"] * size,
            "judge": [SINGLE_JUDGE] * size,
            "prompt_version": ["judge-single-1"] * size,
            "sampling": [SAMPLING] * size,
            "reply_id": _reply_ids(rng, size),
        },
    )


def _imported_verdicts(rng: np.random.Generator, scale: float) -> pl.DataFrame:
    models = [f"model-{place:02}" for place in range(IMPORTED_MODELS)]
    pairs = list(combinations(models, 2))[: round(IMPORTED_PAIRS * scale)]
    questions = list(enumerate(question_ids(MT_BENCH, MT_QUESTIONS)))
    frames = []
    for judge in IMPORTED_JUDGES:
        rows = [
            (pair, place, name, turn, side)
            for pair in pairs
            for place, name in questions
            for turn in (1, 2)
            for side in "ab"
        ]
        frames.append(_imported(rng, rows, judge, is_human=False))
    votes = [
        (pairs[pair], place, questions[place][1], turn, "unknown")
        for pair, place, turn in zip(
            rng.integers(len(pairs), size=round(VOTES * scale)),
            rng.integers(MT_QUESTIONS, size=round(VOTES * scale)),
            rng.integers(1, 3, size=round(VOTES * scale)),
            strict=True,
        )
    ]
    return pl.concat([*frames, _imported(rng, votes, "expert", is_human=True)])


def _imported(
    rng: np.random.Generator,
    rows: Sequence[tuple[tuple[str, str], int, str, int, str]],
    judge: str,
    *,
    is_human: bool,
) -> pl.DataFrame:
    size = len(rows)
    return _filled(
        "imported_verdicts",
        {
            "kind": ["pair"] * size,
            "benchmark": [MT_BENCH] * size,
            "question_id": [row[2] for row in rows],
            "category": [category(row[1]) for row in rows],
            "turn": [row[3] for row in rows],
            "model_a": [row[0][0] for row in rows],
            "model_b": [row[0][1] for row in rows],
            "shown_first": [row[4] for row in rows],
            "winner": pl.Series(np.array(["a", "b", "tie"])[rng.integers(0, 3, size=size)]),
            "score_a": pl.Series([None] * size, dtype=pl.Float64),
            "score_b": pl.Series([None] * size, dtype=pl.Float64),
            "status": ["ok"] * size,
            "judge": [judge] * size,
            "judge_group": [judge] * size,
            "is_human": [is_human] * size,
            "protocol": ["choice"] * size,
            "file": [f"{judge}-file"] * size,
            "row": list(range(size)),
            "state": ["used"] * size,
        },
    )


def _filled(name: str, columns: dict[str, object]) -> pl.DataFrame:
    """The columns in the table's schema; those that are not given have one plain value."""
    given = pl.DataFrame(columns)
    return given.select(
        pl.col(column).cast(dtype)
        if column in columns
        else pl.lit([] if isinstance(dtype, pl.List) else _PLAIN.get(dtype), dtype).alias(column)
        for column, dtype in TABLES[name].schema.items()
    )


def _known(values: pl.Series, known: pl.Series) -> pl.Series:
    return pl.select(pl.when(known).then(values)).to_series()


def _status(known: pl.Series) -> pl.Series:
    return pl.select(pl.when(known).then(pl.lit("ok")).otherwise(pl.lit("unparsable"))).to_series()


def _reply_ids(rng: np.random.Generator, rows: int) -> list[str]:
    drawn = rng.bytes(32 * rows).hex()
    return [drawn[64 * row : 64 * row + 64] for row in range(rows)]


def _name(number: int) -> str:
    return f"m{number:05}@base"
