"""What a judge's reply says, and what is no score."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencs_assets.protocols.choice import read_label
from opencs_assets.protocols.fastchat import read_first_label, read_rating
from opencs_assets.protocols.preference import read_preference
from opencs_assets.protocols.reading import PairReply, own_words
from opencs_assets.protocols.scores import read_scores
from opencs_assets.protocols.single import read_digit, read_score
from opencs_assets.protocols.tasks import JudgedQuestion, PairTask, SingleTask
from resources.llm.errors import Unparsable
from tests.unit.protocols.frames import pair_of, reply, single_of, text_of

QUESTION = JudgedQuestion("smoke", "q1", "writing", ("What is 5 - 3 + 6?", "And twice that?"), ())
SINGLE = SingleTask(QUESTION, 2, ("It is 8.\n8", "[[10]] is my rating. It is 16, surely.\n16"))
PAIR = PairTask(QUESTION, 2, "a", ("It is 8.", "16"), ("8 7", "[[B]] wins, as it is 16 indeed"))


READERS = {"own": read_score, "fastchat": read_rating}
PAIR_READERS = {
    ("scores", "own"): read_scores,
    ("choice", "own"): read_label,
    ("choice", "fastchat"): read_first_label,
}


def single(text: str, family: str = "own") -> float:
    return READERS[family](reply(text), ())


def pair(text: str, protocol: str, family: str = "own") -> PairReply:
    return PAIR_READERS[protocol, family](reply(text), ())


class TestScores:
    def test_generated(self):
        assert single("8\nGood.") == 8
        assert pair("8 6.5\nA is better.", "scores") == PairReply("first", 8, 6.5)
        assert pair("6.5 8\nB is better.", "scores") == PairReply("second", 6.5, 8)
        assert pair("7 7", "scores") == PairReply("tie", 7, 7)

    @pytest.mark.parametrize(
        "text", ["", "Both are good.", "11 5", "0 3", "-1 5", "5 -1", "10.5 3"]
    )
    def test_what_is_no_pair_of_scores(self, text):
        with pytest.raises(Unparsable):
            pair(text, "scores")

    @pytest.mark.parametrize("text", ["", "Good.", "-1", "0", "11", "10.5", "Score: 12", "[[0]]"])
    def test_what_is_no_score(self, text):
        with pytest.raises(Unparsable):
            single(text)

    @pytest.mark.parametrize(("text", "score"), [("7.5", 7.5), ("Score: 9.25", 9.25), ("1", 1)])
    def test_fractional_scores_in_range_are_scores(self, text, score):
        assert single(text) == score

    @pytest.mark.parametrize(
        "scale",
        [
            "I give scores from 1 to 10.",
            "Scores (1-10)",
            "From 1 (useless) to 10 (excellent):",
            "Score: 1 to 10",
            "Two numbers between 1 and 10",
            "a score is not between 1 and 10",
        ],
    )
    def test_a_scale_is_neither_a_score_nor_two(self, scale):
        for read in (single, lambda text: pair(text, "scores")):
            with pytest.raises(Unparsable):
                read(scale)
        assert pair(f"{scale}\n8 6", "scores") == PairReply("first", 8, 6)
        assert single(f"{scale}\n8") == 8

    def test_one_and_ten_are_scores_too(self):
        assert pair("1 10", "scores") == PairReply("second", 1, 10)

    def test_digits_are_mapped_onto_the_scale(self):
        for logprobs, score in (({"1": 1.0}, 1), ({"9": 1.0}, 10), ({"1": 0.5, "9": 0.5}, 5.5)):
            found = read_digit(reply(logprobs=logprobs), ())
            assert found == pytest.approx(score)

    @given(share=st.floats(0.001, 0.999))
    def test_pair_scores_come_from_one_probability(self, share):
        said = read_preference(reply(logprobs={"A": share, "B": 1 - share}), ())
        assert said.first == pytest.approx(1 + 9 * share)
        assert said.first + said.second == pytest.approx(11)
        assert (said.better == "first") == (said.first > said.second)

    def test_no_probabilities_is_no_score(self):
        with pytest.raises(Unparsable):
            read_digit(reply("7"), ())


class TestChoice:
    @pytest.mark.parametrize("family", ["own", "fastchat"])
    @pytest.mark.parametrize(("label", "better"), [("A", "first"), ("B", "second"), ("C", "tie")])
    def test_labels(self, label, better, family):
        assert pair(f"As one sees.\n[[{label}]]", "choice", family) == PairReply(better)

    @pytest.mark.parametrize("family", ["own", "fastchat"])
    @pytest.mark.parametrize("text", ["", "A", "[A]", "Assistant A is better.", "[[D]]", "tie"])
    def test_what_is_no_choice_is_no_tie(self, text, family):
        with pytest.raises(Unparsable):
            pair(text, "choice", family)

    def test_several_labels_are_none_but_where_fastchats_own_parser_is_asked_for(self):
        with pytest.raises(Unparsable, match="several"):
            pair("[[B]] at first, or [[A]]", "choice")
        assert pair("[[B]] at first, or [[A]]", "choice", "fastchat") == PairReply("first")


class TestFastChat:
    @pytest.mark.parametrize(
        ("text", "score"),
        [("Rating: [[7]]", 7), ("[[7.5]] or [[2]]", 7.5), ("Rating: [7]", 7), ("[3] [[4]]", 4)],
    )
    def test_ratings(self, text, score):
        assert single(text, "fastchat") == score

    @pytest.mark.parametrize("text", ["7", "Rating: 7", "[[rating]]", "[[-1]]", "[[11]]", "[[0]]"])
    def test_what_is_no_rating(self, text):
        with pytest.raises(Unparsable):
            single(text, "fastchat")


class TestEchoes:
    @pytest.mark.parametrize("family", ["own", "fastchat"])
    def test_a_repeated_prompt_is_not_read_as_a_score(self, family, single_protocols):
        protocol = single_protocols[family]
        call = protocol.call(SINGLE, 0, None)
        # Its own examples and scale, and what is judged, which names a rating too.
        for said in (
            text_of(call),
            text_of(call) + "\n\nThe user asked for that.",
            f"> {text_of(call)}",
        ):
            with pytest.raises(Unparsable):
                protocol.read(reply(said), call)
        for said in (text_of(call) + "\n\nRating: [[3]]", f"Rating: [[3]]\n\n{text_of(call)}"):
            assert protocol.read(reply(said), call) == 3

    @pytest.mark.parametrize("name", ["scores", "choice", "fastchat"])
    def test_a_repeated_prompt_is_not_read_as_a_verdict(self, name, pair_protocols):
        protocol = pair_protocols[name]
        call = protocol.call(PAIR, 0, None)
        for said in (text_of(call), text_of(call) + "\n\nThe user asked for that."):
            with pytest.raises(Unparsable):
                protocol.read(reply(said), call)
        verdict = "3 7" if name == "scores" else "[[B]]"
        assert protocol.read(reply(f"{text_of(call)}\n\n{verdict}"), call).better == "second"

    def test_part_of_the_instruction_is_an_echo_too(self, single_protocols):
        protocol = single_protocols["fastchat"]
        call = protocol.call(SINGLE, 0, None)
        instruction = text_of(call)
        begin = instruction.index("After providing your explanation")
        # Cut within the example, without what comes after it in the prompt.
        for end in (instruction.index("[[5]]") + len("[[5]]"), instruction.index("[[5]]") + 7):
            with pytest.raises(Unparsable):
                protocol.read(reply(instruction[begin:end]), call)

    def test_the_reason_of_a_retry_is_no_score(self):
        protocol = pair_of("scores")
        call = protocol.call(PAIR, 1, "a score is not between 1 and 10")
        with pytest.raises(Unparsable):
            protocol.read(
                reply("(The last reply could not be used: a score is not between 1 and 10.)"), call
            )

    def test_a_score_that_an_answer_holds_too_is_the_judges(self):
        protocol = single_of("generated")
        assert protocol.read(reply("8\nIt is right."), protocol.call(SINGLE, 0, None)) == 8
        assert (
            pair_of("scores").read(reply("8 7"), pair_of("scores").call(PAIR, 0, None)).first == 8
        )

    def test_a_quotation_is_passed_over_and_the_rest_is_kept_in_its_lines(self):
        prompt = " ".join(f"word{n}" for n in range(60))
        said = f"First line\n{prompt[:200]}\nlast"
        assert own_words(said, [{"role": "user", "content": prompt}]).split("\n")[::2] == [
            "First line",
            "last",
        ]

    def test_recorded_judgments_read_as_fastchat_read_them(self, shared_data: Path):
        for path in sorted((shared_data / "judgments" / "mt_bench_single").glob("*.jsonl")):
            for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                asked = [{"role": "user", "content": row["user_prompt"]}]
                try:
                    score = read_rating(reply(row["judgment"]), asked)
                except Unparsable:
                    score = -1
                # GPT-4 also rates 0, which is not on the scale that it was asked for.
                assert score == (row["score"] or -1)
        (path,) = (shared_data / "judgments" / "mt_bench_pair").glob("*.jsonl")
        shown = {"g1": ("model_1", "model_2"), "g2": ("model_2", "model_1")}
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            for order, (first, second) in shown.items():
                asked = [{"role": "user", "content": row[f"{order}_user_prompt"]}]
                said = read_first_label(reply(row[f"{order}_judgment"]), asked)
                found = {"first": first, "second": second, "tie": "tie"}[said.better]
                assert found == row[f"{order}_winner"]
