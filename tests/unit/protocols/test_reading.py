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


READERS = {
    "single": read_score,
    "fastchat single": read_rating,
    "scores": read_scores,
    "choice": read_label,
    "fastchat choice": read_first_label,
}
A, B, TIE = (PairReply(better) for better in ("first", "second", "tie"))


@pytest.mark.parametrize(
    ("reader", "text", "read"),
    [
        ("single", "8\nGood.", 8),
        ("single", "7.5", 7.5),
        ("single", "Score: 9.25", 9.25),
        ("single", "1", 1),
        ("single", "10", 10),
        *(("single", text, None) for text in ("", "Good.", "-1", "0", "11", "10.5", "[[0]]")),
        ("single", "Score: 12", None),
        ("scores", "8 6.5\nA is better.", PairReply("first", 8, 6.5)),
        ("scores", "6.5 8\nB is better.", PairReply("second", 6.5, 8)),
        ("scores", "7 7", PairReply("tie", 7, 7)),
        ("scores", "1 10", PairReply("second", 1, 10)),
        *(("scores", text, None) for text in ("", "Both are good.", "11 5", "0 3", "-1 5")),
        *(("scores", text, None) for text in ("5 -1", "10.5 3")),
        *(
            (reader, f"As one sees.\n[[{label}]]", said)
            for reader in ("choice", "fastchat choice")
            for label, said in (("A", A), ("B", B), ("C", TIE))
        ),
        *(
            (reader, text, None)
            for reader in ("choice", "fastchat choice")
            for text in ("", "A", "[A]", "Assistant A is better.", "[[D]]", "tie")
        ),
        # Several labels are none, but where FastChat's own parser is asked for.
        ("choice", "[[B]] at first, or [[A]]", None),
        ("choice", "[[B]], yes: [[B]]", B),
        ("fastchat choice", "[[B]] at first, or [[A]]", A),
        ("fastchat choice", "[[C]] at first, or [[B]]", B),
        ("fastchat single", "Rating: [[7]]", 7),
        ("fastchat single", "[[7.5]] or [[2]]", 7.5),
        ("fastchat single", "Rating: [7]", 7),
        ("fastchat single", "[3] [[4]]", 4),
        ("fastchat single", "[[1]]", 1),
        ("fastchat single", "[[10]]", 10),
        *(
            ("fastchat single", text, None)
            for text in ("7", "Rating: 7", "[[rating]]", "[[-1]]", "[[11]]", "[[0]]", "[[10.5]]")
        ),
    ],
)
def test_what_a_reply_says(reader, text, read):
    """``None`` is unparsable: never a score, and never a tie."""
    if read is not None:
        assert READERS[reader](reply(text), ()) == read
        return
    with pytest.raises(Unparsable):
        READERS[reader](reply(text), ())


class TestScores:
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
        for read in (read_score, read_scores):
            with pytest.raises(Unparsable):
                read(reply(scale), ())
        assert read_scores(reply(f"{scale}\n8 6"), ()) == PairReply("first", 8, 6)
        assert read_score(reply(f"{scale}\n8"), ()) == 8

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

    @pytest.mark.parametrize(("words", "echoed"), [(19, False), (20, True)])
    def test_a_run_of_20_words_of_the_prompt_is_an_echo(self, words, echoed):
        prompt = " ".join(f"word{n}" for n in range(40))
        quoted = " ".join(f"word{n}" for n in range(5, 5 + words))
        asked = [{"role": "user", "content": prompt}]
        assert (own_words(f"{quoted} so", asked).split() == ["so"]) is echoed
        if echoed:
            with pytest.raises(Unparsable, match="repeats the prompt"):
                own_words(quoted, asked)

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
