import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.datasets import contamination
from opencs_assets.datasets.canonical import read_dataset
from opencs_assets.datasets.contamination import GRAM, find_contaminated
from opencs_assets.datasets.words import shingle_hashes
from opencs_assets.tables.columns import MESSAGES
from opencs_assets.tables.datasets import CONTAMINATED_SAMPLES
from resources.schema import conform

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def samples(**conversations):
    """Samples of texts in turn: user, assistant, user, ..."""
    return pl.DataFrame(
        {
            "sample_id": list(conversations),
            "messages": [
                [
                    {"role": ("user", "assistant")[turn % 2], "content": text}
                    for turn, text in enumerate(texts)
                ]
                for texts in conversations.values()
            ],
        },
        schema={"sample_id": pl.String, "messages": MESSAGES},
    )


def questions(*turns, benchmark="b"):
    return pl.DataFrame(
        {
            "benchmark": [benchmark] * len(turns),
            "question_id": [f"q{number}" for number in range(len(turns))],
            "turns": [list(each) for each in turns],
        },
        schema={"benchmark": pl.String, "question_id": pl.String, "turns": pl.List(pl.String)},
    )


def matches(found):
    conform(found, CONTAMINATED_SAMPLES)
    return found.select("sample_id", "question_id", "turn", "match").rows()


def test_equal_but_for_case_punctuation_and_spaces():
    asked = samples(a=["  Write a POEM, please! ", "ok"], b=["Write a poem", "ok"])
    assert matches(find_contaminated(asked, questions(["write a poem please"]))) == [
        ("a", "q0", 0, "equal")
    ]


def test_thirteen_words_in_a_row_and_not_twelve():
    twelve = " ".join(THIRTEEN.split()[:12])
    asked = samples(a=[f"So: {THIRTEEN} and on", "ok"], b=[f"So: {twelve} and on", "ok"])
    found = find_contaminated(asked, questions([f"Well, {THIRTEEN}."]))
    assert matches(found) == [("a", "q0", 0, "13-gram")]
    assert found["text"].to_list() == [THIRTEEN]


def test_the_text_is_the_longest_run():
    more = THIRTEEN + " fourteen fifteen"
    short = more.replace("e", "o")[: len(THIRTEEN)]
    found = find_contaminated(
        samples(a=[f"{short} x {more} y", "ok"]), questions([f"{short} z {more} w"])
    )
    assert found["text"].to_list() == [more]


def test_equal_hashes_of_other_words_are_no_match(monkeypatch):
    def same(lists, size):
        hashes, text, place = shingle_hashes(lists, size)
        return hashes * 0, text, place

    monkeypatch.setattr(contamination, "shingle_hashes", same)
    other = THIRTEEN.replace("e", "o")
    assert matches(find_contaminated(samples(a=[f"{THIRTEEN} x", "ok"]), questions([other]))) == []


@pytest.mark.timeout(30)
def test_a_word_said_very_often_is_no_burden():
    asked = samples(a=["ha " * 1000 + "x", "ok"])
    found = find_contaminated(asked, questions(["ha " * 1000 + "y"]))
    assert matches(found) == [("a", "q0", 0, "13-gram")]


def test_a_run_does_not_go_on_into_the_next_message():
    words = THIRTEEN.split()
    asked = samples(a=[" ".join(words[:6]), "ok", " ".join(words[6:]), "ok"])
    assert matches(find_contaminated(asked, questions([THIRTEEN]))) == []


def test_later_turns_of_both_are_compared():
    asked = samples(a=["hello there friend", "ok", "write a poem now", "ok"])
    found = find_contaminated(asked, questions(["another thing", "Write a poem, now."]))
    assert matches(found) == [("a", "q0", 1, "equal")]


def test_what_the_assistant_says_does_not_count():
    asked = samples(a=["say it", THIRTEEN], b=["again", "write a poem"])
    assert matches(find_contaminated(asked, questions([THIRTEEN], ["write a poem"]))) == []


def test_an_instruction_with_another_input_is_equal_if_it_is_no_commonplace():
    asked = samples(
        a=["Translate this into German:\n\nGood morning", "ok"], b=["Translate\n\nGood", "ok"]
    )
    found = find_contaminated(asked, questions(["Translate this into German"], ["Translate"]))
    assert matches(found) == [("a", "q0", 0, "equal")]


@pytest.mark.parametrize("text", ["", "!!!", "   ", "🎉"])
def test_a_text_without_words_is_equal_to_nothing(text):
    assert matches(find_contaminated(samples(a=[text, "ok"]), questions([text]))) == []


@pytest.mark.parametrize("text", ["写一首关于秋天的诗", "اكتب قصيدة عن الخريف", "कविता लिखो अभी"])
def test_any_script(text):
    found = find_contaminated(samples(a=[text, "ok"], b=["other", "ok"]), questions([text + "!"]))
    assert matches(found) == [("a", "q0", 0, "equal")]


def test_thirteen_characters_of_a_script_without_spaces():
    run = "写一首关于秋天落叶与远方的诗"
    assert len(run) >= GRAM
    found = find_contaminated(samples(a=[f"请{run}吧", "ok"]), questions([f"现在{run}。"]))
    assert matches(found) == [("a", "q0", 0, "13-gram")]


def test_nothing_to_compare():
    asked = samples(a=["write a poem", "ok"])
    assert matches(find_contaminated(asked, questions())) == []
    assert matches(find_contaminated(asked.clear(), questions(["write a poem"]))) == []


# Pieces long enough that texts often share 13 words.
PIECES = ["a", "b", "a b b a a b a b", "b a b b b a a"]
WORDS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, min_size=1, max_size=5))
def test_is_what_comparing_all_with_all_finds(asked, wanted):
    def grams(text):
        words = text.split()
        return {tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)}

    expected = [
        (f"s{number}", f"q{other}", 0, "equal" if text == question else "13-gram")
        for number, text in enumerate(asked)
        for other, question in enumerate(wanted)
        if text == question or grams(text) & grams(question)
    ]
    found = find_contaminated(
        samples(**{f"s{number}": [text, "ok"] for number, text in enumerate(asked)}),
        questions(*[[question] for question in wanted]),
    )
    assert matches(found) == sorted(expected)
    for sample, question, text in (
        found.filter(pl.col("match") == "13-gram").select("sample_id", "question_id", "text").rows()
    ):
        mine, its = asked[int(sample[1:])].split(), wanted[int(question[1:])].split()
        assert len(text.split()) == max(
            size
            for size in range(GRAM, len(mine) + 1)
            if any(
                mine[at : at + size] == its[to : to + size]
                for at in range(len(mine) - size + 1)
                for to in range(len(its) - size + 1)
            )
        )


def test_alpaca_has_four_lima_prompts_word_for_word_and_none_of_vicuna(shared_data):
    asked = read_dataset(shared_data / "alpaca" / "alpaca_52k.json").samples

    def lines(name):
        text = (shared_data / "benchmarks" / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    lima = find_contaminated(
        asked, questions(*[row["conversations"] for row in lines("lima_test.jsonl")])
    )
    assert lima.filter(pl.col("match") == "equal")["sample_id"].n_unique() == 4
    # A fifth asks for the same joke among other words.
    assert lima["sample_id"].n_unique() == 5
    vicuna = questions(*[[row["text"]] for row in lines("vicuna_test_set.jsonl")])
    assert find_contaminated(asked, vicuna).height == 0
    first_turns = questions(*[row["turns"][:1] for row in lines("mt_bench/question.jsonl")])
    assert find_contaminated(asked, first_turns).height == 0
