"""Each form's rows become verdicts of one form, and a form is told by content alone."""

import json

import pytest

from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.options import read_options


def one(found) -> dict:
    assert found.rejected.is_empty(), found.rejected["detail"].to_list()
    return found.verdicts.row(0, named=True)


def pair_row(first="m1", second="m2", g1="model_1", g2="model_1", **more) -> dict:
    return {
        "question_id": 2,
        "model_1": first,
        "model_2": second,
        "g1_winner": g1,
        "g2_winner": g2,
        "judge": ["gpt-4", "pair-v2"],
        "g1_judgment": "first",
        "g2_judgment": "second",
        "turn": 1,
        **more,
    }


def review(number=1, scores="[9.0, 8.0]", reverse="[7.0, 9.0]", said="9 8", said_reverse="7 9"):
    row = {"text": f"Say {number}.", "Answer1": "one", "Answer2": "two", "scores": scores}
    row["review"] = f"{said}\nbecause"
    if reverse is not None:
        row |= {"review_reverse": f"{said_reverse}\nbecause", "scores_reverse": reverse}
    return row


def annotation(preference, **more) -> dict:
    return {
        "instruction": "Say 1.",
        "output_1": "one",
        "output_2": "two",
        "generator_1": "base",
        "generator_2": "mine",
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": preference,
        **more,
    }


PAIR = {"model_a": "x", "model_b": "y", "judge": "gpt-4"}


def test_a_single_judgment(desk, score_row):
    found = desk.imported("any.txt", [score_row(turn=2, score=6.5)], benchmark="two")
    row = one(found)
    assert row["kind"] == "single"
    assert row["score_a"] == 6.5
    assert row["category"] == "math"
    assert (row["model_a"], row["model_b"], row["winner"]) == ("m", None, None)
    assert (row["judge"], row["judge_group"], row["is_human"]) == ("gpt-4", "gpt-4", False)
    assert row["prompt"] == "single-math-v1-multi-turn"
    assert row["prompt_version"] == "fastchat-single-v1"
    assert row["reply"] == "Rating: [[6.5]]"
    assert row["format"] == "fastchat_single"


@pytest.mark.parametrize(
    ("prompt", "family"),
    [
        ("pair-v2", "fastchat-pair-v2"),
        ("pair-math-v1-multi-turn", "fastchat-pair-v2"),
        ("single-v1-ja-multi-turn", "fastchat-single-v1-ja"),
    ],
)
def test_an_edited_prompt_is_a_family_of_its_own(desk, score_row, prompt, family):
    found = desk.imported(
        "a.jsonl", [score_row(judge="j") | {"judge": ["j", prompt]}], benchmark="two"
    )
    assert one(found)["prompt_version"] == family


def test_a_rating_of_0_counts_as_published_means_count_it(desk, score_row):
    assert one(desk.imported("a.jsonl", [score_row(score=0)], benchmark="two"))["score_a"] == 0


def test_minus_1_is_unparsable_and_no_score(desk, score_row):
    row = one(desk.imported("a.jsonl", [score_row(score=-1)], benchmark="two"))
    assert (row["status"], row["score_a"]) == ("unparsable", None)


def test_a_pair_has_two_verdicts_in_the_order_of_the_names(desk):
    found = desk.imported("a.jsonl", [pair_row("zeta", "alpha", "model_1", "tie")], benchmark="two")
    rows = found.verdicts.sort("reply").to_dicts()
    assert [(row["model_a"], row["model_b"]) for row in rows] == [("alpha", "zeta")] * 2
    # zeta, the file's model_1, was shown first in the first order, and won it.
    assert [(row["shown_first"], row["winner"]) for row in rows] == [("b", "b"), ("a", "tie")]


def test_an_error_of_one_order_is_unparsable_and_no_tie(desk):
    found = desk.imported("a.jsonl", [pair_row(g2="error")], benchmark="two")
    rows = {row["shown_first"]: row for row in found.verdicts.to_dicts()}
    assert (rows["a"]["winner"], rows["a"]["status"]) == ("a", "ok")
    assert (rows["b"]["winner"], rows["b"]["status"]) == (None, "unparsable")


def test_a_pair_made_of_two_single_scores_has_no_orders(desk):
    row = pair_row(g1="model_2", g2="model_2", m1_score=3, m2_score=8)
    del row["turn"]
    found = one(desk.imported("a.jsonl", [row], benchmark="two"))
    assert (found["shown_first"], found["winner"], found["protocol"]) == ("merged", "b", "single")
    assert (found["score_a"], found["score_b"]) == (3, 8)


def test_answers_have_a_row_a_turn(desk):
    row = {"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": ["2", "3"]}]}
    found = desk.imported("a.jsonl", [row], benchmark="two")
    assert list(found.answers.select("model", "turn", "answer").iter_rows()) == [
        ("m", 1, "2"),
        ("m", 2, "3"),
    ]
    assert found.verdicts.is_empty()


def vote(judge, winner="model_a", **more) -> dict:
    return {
        "question_id": 1,
        "turn": 1,
        "model_a": "m",
        "model_b": "n",
        "winner": winner,
        "judge": judge,
        **more,
    }


@pytest.mark.parametrize(
    ("judge", "options", "expected"),
    [
        ("expert_17", {}, ("expert_17", "expert", True)),
        ("author_3", {}, ("author_3", "author", True)),
        ("gpt4_pair", {}, ("gpt4_pair", "gpt4_pair", False)),
        ("gpt4_pair", {"judge": "gpt-4"}, ("gpt-4", "gpt-4", False)),
        (["gpt-4", "pair-v2"], {}, ("gpt-4", "gpt-4", False)),
        ("Ana María", {}, ("Ana María", "Ana María", False)),
        ("Ana María", {"human": True}, ("Ana María", "human", True)),
        ("Ana María", {"human": True, "judge": "staff"}, ("Ana María", "staff", True)),
        (None, {"judge": "gpt-4"}, ("gpt-4", "gpt-4", False)),
    ],
)
def test_who_voted(desk, judge, options, expected):
    row = one(desk.imported("v.jsonl", [vote(judge)], benchmark="two", **options))
    assert (row["judge"], row["judge_group"], row["is_human"]) == expected


def test_orders_that_disagree_are_told_only_by_files_that_tell_them(desk):
    rows = [vote("gpt-4", "tie (inconsistent)"), vote("gpt-4", "tie", question_id=2)]
    found = desk.imported("v.jsonl", rows, benchmark="two")
    assert found.verdicts["orders_disagree"].to_list() == [True, False]
    other = desk.imported("w.jsonl", [vote("claude", "tie")], benchmark="two")
    assert other.verdicts.filter(judge="claude")["orders_disagree"].to_list() == [None]


def test_the_reversed_order_is_swapped_back(desk):
    found = desk.imported("r.json", json.dumps([review()]), **PAIR)
    rows = {row["shown_first"]: row for row in found.verdicts.to_dicts()}
    assert (rows["a"]["score_a"], rows["a"]["score_b"], rows["a"]["winner"]) == (9, 8, "a")
    assert (rows["b"]["score_a"], rows["b"]["score_b"], rows["b"]["winner"]) == (9, 7, "a")
    assert {row["benchmark"] for row in rows.values()} == {"one"}
    assert found.answers.sort("model")["answer"].to_list() == ["one", "two"]


def test_a_reversed_order_that_was_swapped_back_is_not_swapped_again(desk):
    found = desk.imported("r.json", json.dumps([review(reverse="[9.0, 7.0]")]), **PAIR)
    row = found.verdicts.filter(shown_first="b").row(0, named=True)
    assert (row["score_a"], row["score_b"]) == (9, 7)


def test_where_no_text_tells_the_option_is_asked_for(desk):
    rows = json.dumps([review(said_reverse="Both are fine.")])
    with pytest.raises(VerdictFileError, match="--reversed as-shown"):
        desk.imported("r.json", rows, **PAIR)
    found = desk.imported("r.json", rows, **PAIR, reversed="swapped-back")
    assert found.verdicts.filter(shown_first="b")["score_a"].to_list() == [7]
    found = desk.imported("r.json", rows, **PAIR, reversed="as-shown")
    assert found.verdicts.filter(shown_first="b")["score_a"].to_list() == [9]


def test_one_row_that_tells_tells_for_the_file(desk):
    rows = json.dumps([review(said_reverse="Both are fine."), review(2)])
    found = desk.imported("r.json", rows, **PAIR)
    assert found.verdicts.filter(shown_first="b")["score_a"].to_list() == [9, 9]


def test_reviews_of_one_order_by_alpagasus(desk):
    row = review(reverse=None) | {"score": [9, 8], "x": "mine", "y": "base"}
    del row["scores"], row["Answer1"], row["Answer2"]
    found = desk.imported("koala.json", json.dumps([row]), **PAIR)
    assert one(found)["shown_first"] == "a"
    assert found.answers.sort("model")["answer"].to_list() == ["mine", "base"]
    # The other order is a file of its own, with the names the other way.
    other = row | {"review": "7 9\nbecause", "score": [7, 9]}
    found = desk.imported("b.json", json.dumps([other]), model_a="y", model_b="x", judge="gpt-4")
    rows = {row["shown_first"]: row for row in found.verdicts.to_dicts()}
    assert (rows["b"]["score_a"], rows["b"]["score_b"]) == (9, 7)
    assert set(found.verdicts["state"]) == {"used"}


def test_scores_that_could_not_be_parsed(desk):
    rows = [review(scores="[-1, -1]", said="Hard to say."), review(2)]
    found = desk.imported("r.json", json.dumps(rows), **PAIR)
    assert found.verdicts["status"].to_list() == ["unparsable", "ok", "ok", "ok"]


@pytest.mark.parametrize("missing", ["model_a", "model_b", "judge"])
def test_reviews_need_to_be_told_who_they_are_about(desk, missing):
    options = {name: value for name, value in PAIR.items() if name != missing}
    with pytest.raises(VerdictFileError, match=f"--{missing}".replace("_", "-")):
        desk.imported("r.json", json.dumps([review()]), **options)


@pytest.mark.parametrize(
    ("preference", "expected"),
    [
        (1, ("a", 10, 1)),
        (2, ("b", 1, 10)),
        (1.5, ("tie", 5.5, 5.5)),
        (0, ("tie", 5.5, 5.5)),
        (1.75, ("b", 3.25, 7.75)),
        (None, (None, None, None)),
    ],
)
def test_a_preference(desk, preference, expected):
    row = one(desk.imported("annotations.json", json.dumps([annotation(preference)])))
    assert (row["winner"], row["score_a"], row["score_b"]) == expected
    assert row["status"] == ("ok" if expected[0] else "unparsable")
    assert (row["model_a"], row["model_b"]) == ("base", "mine")
    assert row["protocol"] == "preference"
    assert row["judge"] == "weighted_alpaca_eval_gpt4_turbo"
    assert row["shown_first"] == "unknown"


def test_a_preference_that_is_nan_is_unparsable(desk):
    # As Python writes it.
    assert one(desk.imported("a.json", json.dumps([annotation(float("nan"))])))["winner"] is None


def test_a_csv_by_its_own_names(desk):
    text = "question_id,turn,model,score,judge,benchmark\n1,2,m,7.5,gpt-4,two\n1,1,m,,gpt-4,two\n"
    found = desk.imported("t.csv", text)
    assert found.verdicts["score_a"].to_list() == [7.5, None]
    assert found.verdicts["status"].to_list() == ["ok", "unparsable"]
    assert found.verdicts["turn"].to_list() == [2, 1]


def test_a_csv_by_a_mapping(desk, tmp_path):
    text = "q;who;first;second;best;seen\nSay 3.;gpt-4;x y;z/w;z/w;x y\n"
    mapping = tmp_path / "map.yaml"
    mapping.write_text("question: q\njudge: who\nmodel_a: first\nmodel_b: second\n")
    said = read_options(mapping=mapping, columns=["winner=best", "shown_first = seen"])
    row = one(desk.imported("t.csv", text, columns=said.columns))
    assert (row["model_a"], row["model_b"], row["winner"]) == ("x y", "z/w", "b")
    assert (row["shown_first"], row["benchmark"], row["turn"]) == ("a", "one", 1)
    assert row["question_id"] == "s3"


def test_a_csv_of_two_scores_with_names_given(desk):
    text = "question,score_a,score_b\nSay 3.,7,8\nSay 4.,-1,8\n"
    found = desk.imported("t.csv", text, **PAIR)
    assert found.verdicts["winner"].to_list() == ["b", None]
    assert set(found.verdicts["protocol"]) == {"scores"} | {"choice"}


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("question_id,score\n1,2\n", {}, "model .*judge .*benchmark"),
        ("question,model,judge\nSay 1.,m,j\n", {}, "score .*winner"),
        ("question,winner,model_a,judge\nSay 1.,a,m,j\n", {}, "model_b"),
        ("a,b\n1,2\n", {"columns": {"score": "c"}}, "score=c, but the file has no such column"),
        ("score,score\n1,2\n", {}, "more than once"),
    ],
)
def test_a_csv_with_missing_columns_says_which(desk, text, options, said):
    with pytest.raises(VerdictFileError, match=said):
        desk.imported("t.csv", text, **options)


def test_a_multi_turn_question_needs_its_turn(desk, reasons):
    text = "question_id,model_a,model_b,winner,turn\n1,m,n,m,\n2,m,n,n,0\n3,m,n,tie,9\n"
    found = desk.imported("t.csv", text, benchmark="two", judge="gpt-4")
    assert reasons(found) == [(0, "unknown_turn"), (2, "unknown_turn")]
    assert found.verdicts["turn"].to_list() == [0]


@pytest.mark.parametrize("word", ["nonsense=x", "score", "score="])
def test_a_mapping_that_means_nothing(word):
    with pytest.raises(VerdictFileError):
        read_options(columns=[word])


def test_names_do_not_decide(desk, score_row):
    desk.take(desk.write("reviews.csv", [score_row()]), benchmark="two")
    desk.take(desk.write("model_judgment.jsonl", json.dumps([review()])), **PAIR)
    assert set(desk.read().verdicts["format"]) == {"fastchat_single", "two_scores"}


def test_a_question_that_two_benchmarks_ask_is_of_the_one_that_most_are_from(desk):
    own = desk.home / "benchmarks" / "aaa.jsonl"
    own.write_text(json.dumps({"prompt": "Say 1."}))
    found = desk.imported(
        "a.json", json.dumps([annotation(1), annotation(2, instruction="Say  2.")])
    )
    assert set(found.verdicts["benchmark"]) == {"one"}
    assert found.verdicts["question_id"].to_list() == ["s1", "s2"]


def test_a_question_asked_twice_is_told_apart(published_desk):
    # WizardLM's questions 20 and 27 are the same.
    lines = (published_desk.home / "benchmarks" / "wizardlm_test_set.jsonl").read_text()
    rows = [json.loads(line) for line in lines.splitlines()]
    twice = next(row["Instruction"] for row in rows if row["idx"] == 20)
    reviews = [
        {"Instruction": twice, "review": f"{score} 5\nx", "scores": [score, 5]} for score in (7, 8)
    ]
    found = published_desk.imported("w.json", json.dumps(reviews), **PAIR)
    assert found.verdicts["question_id"].to_list() == ["20", "27"]
    assert set(found.verdicts["state"]) == {"used"}
