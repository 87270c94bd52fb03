import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencs_assets.datasets import contamination
from opencs_assets.datasets.contamination import GRAM, find_contaminated
from opencs_assets.datasets.words import shingle_hashes
from opencs_assets.tables.columns import MESSAGES
from opencs_assets.tables.datasets import CONTAMINATED_SAMPLES
from resources.schema import conform

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def samples(**conversations):
    """Samples of texts in turn: user, assistant, user, ..."""
    messages = [
        [
            {"role": ("user", "assistant")[turn % 2], "content": text}
            for turn, text in enumerate(texts)
        ]
        for texts in conversations.values()
    ]
    return pl.DataFrame(
        {"sample_id": list(conversations), "messages": messages},
        schema={"sample_id": pl.String, "messages": MESSAGES},
    )


def questions(*turns):
    return pl.DataFrame(
        [("b", f"q{number}", list(texts)) for number, texts in enumerate(turns)],
        schema={"benchmark": pl.String, "question_id": pl.String, "turns": pl.List(pl.String)},
        orient="row",
    )


def compared(asked, *turns):
    """What one message, or each sample by its name, shares with questions."""
    if isinstance(asked, str):
        asked = {"a": [asked, "ok"]}
    return conform(find_contaminated(samples(**asked), questions(*turns)), CONTAMINATED_SAMPLES)


def matches(asked, *turns):
    return compared(asked, *turns).select("sample_id", "question_id", "turn", "match").rows()


def test_equal_but_for_case_punctuation_and_spaces():
    asked = {"a": ["  Write a POEM, please! ", "ok"], "b": ["Write a poem", "ok"]}
    assert matches(asked, ["write a poem please"]) == [("a", "q0", 0, "equal")]


def test_thirteen_words_in_a_row_and_not_twelve():
    twelve = " ".join(THIRTEEN.split()[:12])
    asked = {"a": [f"So: {THIRTEEN} and on", "ok"], "b": [f"So: {twelve} and on", "ok"]}
    contaminated = compared(asked, [f"Well, {THIRTEEN}."])
    assert contaminated.rows() == [("a", "b", "q0", 0, "13-gram", THIRTEEN)]


def test_the_text_is_the_longest_run_and_of_equal_ones_the_first():
    more = THIRTEEN + " fourteen fifteen"
    short = THIRTEEN.replace("e", "o")
    assert compared(f"{short} x {more} y", [f"{short} z {more} w"])["text"].to_list() == [more]
    for first, then in ((THIRTEEN, short), (short, THIRTEEN)):
        shared = compared(f"{first} x {then} y", [f"{THIRTEEN} z {short}"])
        assert shared["text"].to_list() == [first]


def test_of_a_sample_with_equal_words_and_a_shared_run_the_equal_words_are_told():
    equal = compared({"a": [f"{THIRTEEN} x", "ok", f"{THIRTEEN}!", "ok", THIRTEEN]}, [THIRTEEN])
    assert equal.select("match", "text").rows() == [("equal", THIRTEEN)]


def test_what_is_shared_is_shown_as_far_as_300_characters():
    words = " ".join(f"word{number}" for number in range(100))
    for question in (words, f"{words} more"):
        assert compared(words, [question])["text"].to_list() == [words[:300]]


def test_many_samples_are_compared_in_parts(monkeypatch):
    monkeypatch.setattr(contamination, "_CHUNK", 2)
    asked = {name: [f"write a poem {name}", "ok"] for name in "abcde"}
    assert [row[:2] for row in matches(asked, ["write a poem e"], ["Write a poem, b"])] == [
        ("b", "q1"),
        ("e", "q0"),
    ]


def test_equal_hashes_of_other_words_are_no_match(monkeypatch):
    def same(lists, size):
        hashes, text, place = shingle_hashes(lists, size)
        return hashes * 0, text, place

    monkeypatch.setattr(contamination, "shingle_hashes", same)
    assert matches(f"{THIRTEEN} x", [THIRTEEN.replace("e", "o")]) == []


@pytest.mark.timeout(30)
def test_a_word_said_very_often_is_no_burden():
    assert matches("ha " * 500 + "x", ["ha " * 500 + "y"]) == [("a", "q0", 0, "13-gram")]


def test_a_run_does_not_go_on_into_the_next_message():
    words = THIRTEEN.split()
    asked = {"a": [" ".join(words[:6]), "ok", " ".join(words[6:]), "ok"]}
    assert matches(asked, [THIRTEEN]) == []


def test_later_turns_of_both_are_compared():
    asked = {"a": ["hello there friend", "ok", "write a poem now", "ok"]}
    assert matches(asked, ["another thing", "Write a poem, now."]) == [("a", "q0", 1, "equal")]


def test_what_the_assistant_says_does_not_count():
    asked = {"a": ["say it", THIRTEEN], "b": ["again", "write a poem"]}
    assert matches(asked, [THIRTEEN], ["write a poem"]) == []


@pytest.mark.parametrize(
    ("question", "is_contaminated"),
    [("Translate this into German", True), ("Translate into German", False)],
)
def test_an_instruction_with_another_input_is_equal_if_it_is_no_commonplace(
    question, is_contaminated
):
    contaminated = compared(f"\n\n{question}:\n\nGood morning\n\nBye", [question])
    assert (
        contaminated.select("match", "text").rows() == [("equal", f"{question}:")] * is_contaminated
    )


@pytest.mark.parametrize("text", ["", "!!!", "   ", "🎉"])
def test_a_text_without_words_is_equal_to_nothing(text):
    assert matches(text, [text]) == []


@pytest.mark.parametrize("text", ["写一首关于秋天的诗", "اكتب قصيدة عن الخريف", "कविता लिखो अभी"])
def test_any_script(text):
    asked = {"a": [text, "ok"], "b": ["other", "ok"]}
    assert matches(asked, [text + "!"]) == [("a", "q0", 0, "equal")]


def test_thirteen_characters_of_a_script_without_spaces():
    run = "写一首关于秋天落叶与远方的诗"[:GRAM]
    assert matches(f"请{run}吧", [f"现在{run}。"]) == [("a", "q0", 0, "13-gram")]
    assert matches(f"请{run[1:]}吧", [f"现在{run[1:]}。"]) == []


def test_nothing_to_compare():
    assert matches("write a poem") == matches("write a poem", []) == []
    assert matches({}, ["write a poem"]) == matches({"a": []}, ["write a poem"]) == []


# Pieces long enough that texts often share 13 words.
PIECES = ["a", "b", "a b b a a b a b", "b a b b b a a"]
WORDS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=60)
@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, min_size=1, max_size=5))
def test_is_what_comparing_all_with_all_finds(asked, wanted):
    def grams(text):
        words = text.split()
        return {tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)}

    contaminated = compared(
        {f"s{number}": [text, "ok"] for number, text in enumerate(asked)},
        *[[question] for question in wanted],
    )
    assert contaminated.select("sample_id", "question_id", "match").rows() == [
        (f"s{number}", f"q{other}", "equal" if text == question else "13-gram")
        for number, text in enumerate(asked)
        for other, question in enumerate(wanted)
        if text == question or grams(text) & grams(question)
    ]
    for sample, _, question, _, _, text in contaminated.filter(match="13-gram").rows():
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


def test_alpaca_has_four_lima_prompts_word_for_word_and_none_of_vicuna(alpaca, shared_data):
    benchmarks = pl.concat(
        pl.read_ndjson(shared_data / "benchmarks" / file, infer_schema_length=None).select(
            benchmark=pl.lit(name), question_id=pl.row_index().cast(pl.String), turns=turns
        )
        for name, file, turns in [
            ("lima", "lima_test.jsonl", pl.col("conversations")),
            ("vicuna", "vicuna_test_set.jsonl", pl.concat_list("text")),
            ("mt_bench", "mt_bench/question.jsonl", pl.col("turns").list.head(1)),
        ]
    )
    contaminated = find_contaminated(alpaca.samples, benchmarks)
    assert set(contaminated["benchmark"]) == {"lima"}
    assert contaminated.filter(match="equal")["sample_id"].n_unique() == 4
    # A fifth asks for the same joke among other words.
    assert contaminated["sample_id"].n_unique() == 5
