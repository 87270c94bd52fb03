"""Turn by turn, by a stand-in that answers at once: what is asked, kept, begun anew and refused."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from opencs_assets.answers import generate
from opencs_assets.answers.asking import (
    TOO_LONG,
    Answered,
    AnswerPrompt,
    GeneratedReply,
    Renderer,
    conversation,
)
from opencs_assets.answers.generate import KEPT_AT_ONCE, _begin_anew, _Run, _scratch, partial_of
from opencs_assets.answers.store import PartialAnswers
from opencs_assets.tables.benchmarks import BENCHMARK_QUESTIONS
from resources.launcher.job import Channel, JobError
from resources.provenance import content_hash


class Echo:
    """Answers with what it was asked last; a message is as many tokens as it has characters."""

    def __init__(self, context: int = 1000, together: int = 1, fails_after: int = 10**6) -> None:
        self.context, self.together, self.fails_after = context, together, fails_after
        self.asked: list[AnswerPrompt] = []

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return [ord(letter) for message in messages for letter in message["content"]]

    def answer(
        self, prompts: Sequence[AnswerPrompt], max_new_tokens: int, note: Callable[[str], None]
    ) -> Iterator[Answered]:
        waiting = list(prompts)[::-1]
        while waiting:
            some, waiting = waiting[: self.together], waiting[self.together :]
            self.asked += some
            if len(self.asked) > self.fails_after:
                raise JobError("the endpoint is gone")
            yield [(each, GeneratedReply(f"a{len(each.ids)}", 2, "stop")) for each in some]


def asked(*turns: Sequence[str], category: str = "math") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "benchmark": "b",
                "question_id": f"q{place}",
                "category": category,
                "turns": list(each),
                "references": [],
            }
            for place, each in enumerate(turns)
        ],
        schema=BENCHMARK_QUESTIONS.schema,
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., _Run]:
    def run(questions: pl.DataFrame, tokens: int = 10, **more: Any) -> _Run:
        fields = {"seed": 3, "max_new_tokens": tokens, "temperatures": {"math": 0.5}, **more}
        job = {
            "outputs": {"b": str(tmp_path / "b.parquet")},
            "fields": {"b": fields},
            "provenance": "checkpoint",
        }
        return _Run(job, "b", questions)

    return run


def table(run: _Run) -> list[tuple[Any, ...]]:
    columns = ("question_id", "turn", "answer", "finish_reason", "prompt_tokens")
    return pl.read_parquet(run.output).select(columns).rows()


def test_each_turn_shows_the_answers_before_it(run):
    made = run(asked(["one", "two", "three"], ["x"]))
    model = Echo()
    assert made.answer(model, Channel()) == 4
    assert table(made) == [
        ("q0", 1, "a3", "stop", 3),
        ("q0", 2, "a8", "stop", 8),
        ("q0", 3, "a15", "stop", 15),
        ("q1", 1, "a1", "stop", 1),
    ]
    # A turn of all questions is asked before the next one.
    assert [each.row["turn"] for each in model.asked] == [1, 1, 2, 3]
    assert "".join(map(chr, model.asked[3].ids)) == "onea3twoa8three"
    row = pl.read_parquet(made.output).row(1, named=True)
    expected = {"temperature": 0.5, "seed": generate.answer_seed(3, "b", "q0", 2)}
    expected |= {"provenance": made.provenance, "checkpoint": "checkpoint", "category": "math"}
    assert expected.items() <= row.items()
    assert not made.partial.path.exists()


def test_what_does_not_fit_is_not_asked_nor_what_follows_it(run):
    made = run(asked(["x" * 20, "y"], ["x" * 21, "y"], ["x" * 12, "yyyyyy", "z"]), tokens=10)
    model = Echo(context=30)
    assert made.answer(model, Channel()) == 7
    assert table(made) == [
        ("q0", 1, "a20", "stop", 20),
        ("q0", 2, "", TOO_LONG, 24),
        ("q1", 1, "", TOO_LONG, 21),
        ("q1", 2, "", TOO_LONG, 0),
        ("q2", 1, "a12", "stop", 12),
        ("q2", 2, "", TOO_LONG, 21),
        ("q2", 3, "", TOO_LONG, 0),
    ]
    assert len(model.asked) == 2


@pytest.mark.parametrize("together", [1, 3])
def test_answers_are_kept_some_at_once_and_all_when_it_fails(run, tmp_path, together):
    questions = asked(*[[f"question {place}"] for place in range(3 * KEPT_AT_ONCE)])
    made, sizes = run(questions), []

    class Watched(Echo):
        def answer(self, *arguments: Any) -> Iterator[Answered]:
            for some in super().answer(*arguments):
                sizes.append(len(made.partial.read()))
                yield some

    done = KEPT_AT_ONCE + 2 * together
    with pytest.raises(JobError, match="gone"):
        made.answer(Watched(together=together, fails_after=done), Channel())
    group = -(-KEPT_AT_ONCE // together) * together
    assert sizes == [
        place // group * group for place in range(0, done // together * together, together)
    ]
    kept = len(made.partial.read())
    assert kept == done // together * together
    # A run of other answers takes none of them.
    assert len(run(questions, seed=4).partial.read()) == kept
    lines: list[str] = []
    channel = type("Heard", (Channel,), {"say": lambda self, text: lines.append(text)})()
    model = Echo()
    assert run(questions).answer(model, channel) == len(model.asked) == 48 - kept
    assert lines == [f"{kept} of 48 answers were made before; going on from there"]
    assert len(table(made)) == 48


def test_answers_of_other_fields_are_made_again(run):
    questions = asked(["one", "two"])
    with pytest.raises(JobError, match="gone"):
        run(questions).answer(Echo(fails_after=1), Channel())
    other = run(questions, seed=4)
    assert len(other.partial.read()) == 1
    assert other.answer(Echo(), Channel()) == 2


@pytest.mark.parametrize(
    ("launches", "anew"),
    [
        (["", ""], [True, True]),
        (["a", "a"], [True, False]),
        (["a", "b", "a"], [True, True, True]),
        (["a", "", "a"], [True, True, False]),
    ],
)
def test_a_forced_launch_removes_answers_once(tmp_path, launches, anew):
    outputs = {name: str(tmp_path / f"{name}.parquet") for name in "xy"}
    files = [*map(Path, outputs.values()), *map(partial_of, outputs.values())]
    for launch, removed in zip(launches, anew, strict=True):
        for file in files:
            file.write_text("answers")
        _begin_anew({"outputs": outputs, "launch": launch}, tmp_path)
        assert {file.exists() for file in files} == {not removed}


def test_a_copy_of_a_checkpoint_belongs_to_one_job(tmp_path):
    job = {"outputs": {"x": "/a", "y": "/b"}, "scratch": str(tmp_path)}
    assert _scratch(job).parent == tmp_path / "opencs"
    assert _scratch({**job, "outputs": {"y": "/b", "x": "/a"}}) == _scratch(job)
    assert _scratch({**job, "outputs": {"x": "/a"}}) != _scratch(job)
    assert _scratch({**job, "scratch": None}).parent.name == "opencs"


def test_the_messages_of_a_turn_end_with_its_question():
    assert conversation(["a", "b", "c"], ["x"]) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "b"},
    ]
    assert conversation(["a"], []) == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("of_model", "eos", "stops"),
    [(None, None, set()), (None, 2, {2}), (0, 2, {0, 2}), ([3, 4], 2, {2, 3, 4}), (2, 2, {2})],
)
def test_answers_end_at_the_models_stops_and_at_the_one_of_training(of_model, eos, stops):
    renderer = Renderer.__new__(Renderer)
    renderer.tokenizer = type("", (), {"eos_token_id": eos})()
    assert renderer.stops(of_model) == stops


def test_a_row_cut_or_of_other_columns_is_left_out(tmp_path, run):
    made = run(asked(["one"]))
    made.answer(Echo(), Channel())
    row = pl.read_parquet(made.output).row(0, named=True)
    partial = PartialAnswers(tmp_path / "deep" / "x.jsonl")
    partial.append([row])
    partial.append([{**row, "turn": 2}, {**row, "turn": 3, "answer": "é\u2028"}])
    broken = [{"turn": 4}, {**row, "turn": 5, "more": 1}, [1], None, 7]
    with partial.path.open("a") as file:
        file.write("".join(f"\n{json.dumps(each)}" for each in broken) + "\n{")
    partial.append([{**row, "turn": 1, "answer": "later"}])
    assert {key[2]: each["answer"] for key, each in partial.read().items()} == {
        1: "later",
        2: row["answer"],
        3: "é\u2028",
    }
    assert content_hash(row) == content_hash(dict(row))
