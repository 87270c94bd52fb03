"""Judging: which judgments are expected, what is asked, and how replies become verdicts."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.schemas import PAIRWISE_VERDICTS, SINGLE_VERDICTS, TABLES, conform
from opencs_assets.verdicts import judging, prompts
from opencs_assets.verdicts.judging import (
    PairScores,
    pair_call,
    pair_table,
    pair_tasks,
    prompt_version,
    read_pair,
    read_single,
    single_call,
    single_table,
    single_tasks,
    winner,
)
from resources.llm.readings import Unparsable
from resources.llm.types import Outcome, Reply


def question_frame(*ids: str, category: str = "writing", references: list[str] | None = None):
    return pl.DataFrame(
        [
            {
                "benchmark": "smoke",
                "question_id": name,
                "category": category,
                "turns": [f"{name} first?", f"{name} second?"],
                "references": references or [],
            }
            for name in ids
        ],
        schema=TABLES["benchmark_questions"].schema,
    )


def answer_frame(*turns: tuple[str, int], words: str = "says", finish_reason: str = "stop"):
    return pl.DataFrame(
        [
            {
                "benchmark": "smoke",
                "question_id": name,
                "category": "writing",
                "turn": turn,
                "answer": f"{words} {name}.{turn}",
                "finish_reason": finish_reason,
                "prompt_tokens": 1,
                "answer_tokens": 1,
                "temperature": 0.0,
                "seed": 0,
                "provenance": "p",
                "checkpoint": "c",
            }
            for name, turn in turns
        ],
        schema=TABLES["model_answers"].schema,
    )


def both_turns(*ids: str, words: str = "says"):
    return answer_frame(*[(name, turn) for name in ids for turn in (1, 2)], words=words)


def outcome(value, status: str = "ok"):
    return Outcome(value, status, None, 1, Reply("r", "ok"))


def reply(text: str = "", logprobs: dict[str, float] | None = None) -> Reply:
    alternatives = tuple((token, math.log(p)) for token, p in (logprobs or {}).items())
    return Reply("r", "ok", text=text, logprobs=(alternatives,) if alternatives else ())


def text_of(call) -> str:
    return "\n".join(message["content"] for message in call.messages)


class TestExpectedJudgments:
    def test_answer_files_of_different_length_lose_no_judgment(self):
        tasks = pair_tasks(
            question_frame("q1", "q2", "q3"),
            both_turns("q3", "q2", "q1"),
            both_turns("q1", "q3"),
            "smoke",
        )
        assert [(task.question.question_id, task.shown_first) for task in tasks] == [
            (name, side) for name in ("q1", "q2", "q3") for side in ("a", "b")
        ]
        assert [task.answered for task in tasks] == [True, True, False, False, True, True]

    def test_answers_are_joined_by_question_and_turn_not_by_row(self):
        tasks = pair_tasks(
            question_frame("q1", "q2"),
            both_turns("q1", "q2").reverse(),
            both_turns("q2", "q1"),
            "smoke",
        )
        assert tasks[0].answers_a == ("says q1.1", "says q1.2")
        assert tasks[0].answers_b == ("says q1.1", "says q1.2")

    @pytest.mark.parametrize("reason", ["too_long", "refused", "failed", "garbled"])
    def test_a_turn_that_was_not_answered_is_not_judged_as_an_empty_answer(self, reason):
        tasks = single_tasks(
            question_frame("q1"),
            pl.concat([answer_frame(("q1", 1)), answer_frame(("q1", 2), finish_reason=reason)]),
        )
        assert [task.answered for task in tasks] == [True, False]

    def test_a_missing_answer_becomes_a_row_that_says_so(self):
        tasks = single_tasks(question_frame("q1", "q2"), answer_frame(("q1", 1), ("q2", 1)))
        asked = {task: outcome(5.0) for task in tasks if task.answered}
        table = conform(single_table(tasks, asked, judge="j", reading="generated"), SINGLE_VERDICTS)
        assert table.select("question_id", "turn", "score", "status").rows() == [
            ("q1", 1, 5.0, "ok"),
            ("q1", 2, None, "no_answer"),
            ("q2", 1, 5.0, "ok"),
            ("q2", 2, None, "no_answer"),
        ]

    def test_a_turn_that_was_too_long_to_ask_has_no_answer(self):
        answers = pl.concat(
            [answer_frame(("q1", 1)), answer_frame(("q1", 2), finish_reason="too_long")]
        )
        assert [task.answered for task in single_tasks(question_frame("q1"), answers)] == [
            True,
            False,
        ]

    def test_benchmarks_that_were_not_answered_are_not_expected(self):
        other = question_frame("x").with_columns(benchmark=pl.lit("other"))
        tasks = single_tasks(pl.concat([question_frame("q1"), other]), both_turns("q1"))
        assert {task.question.benchmark for task in tasks} == {"smoke"}


class TestPrompts:
    def test_the_second_turn_is_shown_with_the_first(self):
        task = single_tasks(question_frame("q1"), both_turns("q1"))[1]
        for reading in ("generated", "logprobs"):
            text = text_of(single_call(task, 0, None, reading))
            assert all(part in text for part in ("q1 first?", "q1.1", "q1 second?", "q1.2"))
            assert "last answer" in text

    def test_references_are_shown_where_an_answer_is_right_or_wrong(self):
        references = ["the first is 4", "the second is 5"]
        for category, shown in (("math", True), ("writing", False)):
            questions = question_frame("q1", category=category, references=references)
            task = single_tasks(questions, both_turns("q1"))[1]
            text = text_of(single_call(task, 0, None, "generated"))
            assert ("the second is 5" in text) is shown
            assert bool(task.references) is shown

    def test_the_reversed_order_shows_b_as_assistant_a(self):
        tasks = pair_tasks(
            question_frame("q1"),
            both_turns("q1", words="alpha"),
            both_turns("q1", words="beta"),
            "smoke",
        )
        first, second = (text_of(pair_call(task, 0, None, "logprobs")) for task in tasks)
        assert first.index("alpha") < first.index("Assistant B") < first.index("beta")
        assert second.index("beta") < second.index("Assistant B") < second.index("alpha")

    def test_nothing_is_cut(self):
        long = "word " * 5000
        tasks = pair_tasks(
            question_frame("q1"), both_turns("q1", words=long), both_turns("q1"), "smoke"
        )
        assert long in text_of(pair_call(tasks[0], 0, None, "logprobs"))

    def test_an_empty_answer_is_shown_as_empty(self):
        answers = both_turns("q1").with_columns(answer=pl.lit(""))
        task = single_tasks(question_frame("q1"), answers)[0]
        assert prompts.NOTHING in text_of(single_call(task, 0, None, "generated"))

    def test_short_prompts_for_the_small_model(self):
        task = pair_tasks(question_frame("q1"), both_turns("q1"), both_turns("q1"), "smoke")[0]
        assert len(text_of(pair_call(task, 0, None, "logprobs")).split()) < 60

    def test_a_retry_says_why_and_has_another_key(self):
        task = single_tasks(question_frame("q1"), both_turns("q1"))[0]
        call = single_call(task, 1, "the reply has no score", "generated")
        assert call.attempt == 1
        assert "the reply has no score" in text_of(call)

    @pytest.mark.parametrize("reading", ["generated", "logprobs"])
    @pytest.mark.parametrize(
        "constant",
        [
            "_SINGLE",
            "_SINGLE_LAST",
            "_SINGLE_REFERENCE",
            "_PAIR",
            "_PAIR_REFERENCE",
            "_SINGLE_DIGIT",
            "_PAIR_LETTER",
        ],
    )
    def test_an_edited_prompt_is_another_version(self, monkeypatch, constant, reading):
        versions = {name: prompt_version(name, reading) for name in ("single", "pair")}
        monkeypatch.setattr(prompts, constant, "Edited. {which}")
        judging.prompt_version.cache_clear()
        try:
            edited = {name for name in versions if prompt_version(name, reading) != versions[name]}
        finally:
            judging.prompt_version.cache_clear()
        written = {"_SINGLE_DIGIT", "_PAIR_LETTER"}
        used = (reading == "logprobs") == (constant in written)
        protocol = "pair" if constant.startswith("_PAIR") else "single"
        assert edited == ({protocol} if used else set())


class TestReading:
    def test_generated_scores(self):
        assert read_single(reply("8\nGood."), "generated") == 8
        assert read_pair(reply("8 6.5\nA is better."), "generated") == PairScores(8, 6.5)

    @pytest.mark.parametrize("text", ["", "Both are good.", "11 5", "0 3"])
    def test_what_cannot_be_read_is_no_score(self, text):
        with pytest.raises(Unparsable):
            read_pair(reply(text), "generated")

    def test_digits_are_mapped_onto_the_scale(self):
        assert read_single(reply(logprobs={"1": 1.0}), "logprobs") == 1
        assert read_single(reply(logprobs={"9": 1.0}), "logprobs") == 10
        assert read_single(reply(logprobs={"1": 0.5, "9": 0.5}), "logprobs") == pytest.approx(5.5)

    @given(share=st.floats(0.001, 0.999))
    def test_pair_scores_come_from_one_probability(self, share):
        scores = read_pair(reply(logprobs={"A": share, "B": 1 - share}), "logprobs")
        assert scores.first == pytest.approx(1 + 9 * share)
        assert scores.first + scores.second == pytest.approx(11)

    def test_no_probabilities_is_no_score(self):
        with pytest.raises(Unparsable):
            read_single(reply("7"), "logprobs")

    def test_only_equal_scores_tie(self):
        assert winner(5.0, 5.0) == "tie"
        assert winner(5.0, 5.0000001) == "b"


class TestTables:
    def tables(self, first: PairScores, second: PairScores | None, status: str = "ok"):
        tasks = pair_tasks(question_frame("q1"), both_turns("q1"), both_turns("q1"), "smoke")
        outcomes = {tasks[0]: outcome(first), tasks[1]: outcome(second, status)}
        table = pair_table(
            tasks, outcomes, model_a="x", model_b="y", judge="j", reading="generated"
        )
        return conform(table, PAIRWISE_VERDICTS).sort("shown_first")

    def test_the_reversed_order_is_swapped_back(self):
        # Model a is better in both orders: 8 against 3 when first, 2 against 9 when second.
        table = self.tables(PairScores(8, 3), PairScores(2, 9))
        assert table["winner"].to_list() == ["a", "a"]
        assert table["score_a"].to_list() == [8, 9]
        assert table["score_b"].to_list() == [3, 2]

    @given(st.tuples(*[st.integers(1, 10)] * 4))
    def test_a_judge_that_sees_only_positions_never_wins(self, scores):
        shown = PairScores(max(scores), min(scores))
        winners = self.tables(shown, shown)["winner"].to_list()
        assert sorted(winners) in (["a", "b"], ["tie", "tie"])

    def test_an_unparsable_reply_is_missing_not_a_tie_nor_zero(self):
        table = self.tables(PairScores(8, 3), None, "unparsable")
        assert table["winner"].to_list() == ["a", None]
        assert table["score_a"].to_list() == [8, None]
        assert table["status"].to_list() == ["ok", "unparsable"]

    def test_a_prompt_that_does_not_fit_is_counted(self):
        table = self.tables(PairScores(8, 3), None, "too_long")
        assert table["status"].to_list() == ["ok", "too_long"]

    def test_one_result_has_one_prompt_version(self):
        questions = pl.concat(
            [question_frame("q1"), question_frame("q2", category="math", references=["4", "5"])]
        )
        tasks = single_tasks(questions, both_turns("q1", "q2"))
        table = single_table(tasks, {}, judge="j", reading="logprobs")
        assert table["prompt_version"].n_unique() == 1
        assert table["with_reference"].to_list() == [False, False, True, True]


def test_an_empty_reference_is_none():
    """MT-Bench's own file has questions with a reference for one turn only."""
    question = judging.Question("b", "q", "math", ("x", "y"), ("the reference", ""))
    tasks = [judging.SingleTask(question, turn, ("a", "b")[:turn]) for turn in (1, 2)]
    assert [task.references for task in tasks] == [("the reference",), ()]
