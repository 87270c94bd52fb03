"""Each form's rows become verdicts of one form, and a form is told by content alone."""

import json

import pytest

from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.options import ImportOptions, read_options


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
    half = pair_row(m1_score=3, m2_score=-1, turn=2)
    verdicts = desk.imported("a.jsonl", [row, half], benchmark="two").verdicts
    assert set(verdicts["shown_first"]) == {"merged"}
    assert set(verdicts["protocol"]) == {"single"}
    assert verdicts.select("turn", "winner", "score_a", "score_b").rows() == [
        (1, "b", 3, 8),
        (2, None, None, None),
    ]


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
        ("Human", {}, ("Human", "human", True)),
        ("worker12", {}, ("worker12", "worker", True)),
        # Models whose names only begin or end like a person's.
        ("human-pref-7b", {}, ("human-pref-7b", "human-pref-7b", False)),
        ("expert-llm", {}, ("expert-llm", "expert-llm", False)),
        ("gpt-expert_1", {}, ("gpt-expert_1", "gpt-expert_1", False)),
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


@pytest.mark.parametrize(
    ("judge", "prompt", "version"),
    [
        (["gpt-4", "pair-math-v1"], "pair-math-v1", "fastchat-pair-v2"),
        (["gpt-4", 7], None, "votes"),
        (["expert_1", "form"], "form", "votes"),
    ],
)
def test_the_prompt_of_a_vote(desk, judge, prompt, version):
    row = one(desk.imported("v.jsonl", [vote(judge)], benchmark="two"))
    assert (row["prompt"], row["prompt_version"]) == (prompt, version)


@pytest.mark.parametrize(
    ("winner", "expected"), [("model_b", "b"), ("tie (bothbad)", "tie"), ("error", None)]
)
def test_who_won_a_vote(desk, winner, expected):
    row = one(desk.imported("v.jsonl", [vote("expert_1", winner)], benchmark="two"))
    assert (row["winner"], row["orders_disagree"]) == (expected, None)
    assert row["status"] == ("ok" if expected else "unparsable")


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


def test_a_row_that_tells_itself_is_believed_more_than_the_option(desk):
    found = desk.imported("r.json", json.dumps([review()]), **PAIR, reversed="swapped-back")
    assert found.verdicts.filter(shown_first="b")["score_a"].to_list() == [9]


def test_rows_that_tell_different_orders_tell_nothing_for_the_others(desk):
    both = [review(), review(2, reverse="[9.0, 7.0]")]
    equal = review(3, reverse="[7.0, 7.0]", said_reverse="Both are fine.")
    found = desk.imported("r.json", json.dumps([equal, *both]), **PAIR)
    assert found.verdicts.filter(shown_first="b")["score_a"].to_list() == [7, 9, 9]
    rows = json.dumps([equal, *both, review(4, said_reverse="Both are fine.")])
    with pytest.raises(VerdictFileError, match="--reversed as-shown"):
        desk.imported("s.json", rows, **PAIR)


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
    file = desk.write("r.json", json.dumps([review()]))
    with pytest.raises(VerdictFileError, match=f"--{missing}".replace("_", "-")):
        desk.take(file, **options)
    desk.take(file, **PAIR)
    # They hold until others are named.
    assert desk.take(file).state == "unchanged"


@pytest.mark.parametrize(
    ("preference", "expected"),
    [
        (1, ("a", 10, 1)),
        (2, ("b", 1, 10)),
        (1.5, ("tie", 5.5, 5.5)),
        (0, ("tie", 5.5, 5.5)),
        (1.75, ("b", 3.25, 7.75)),
        (None, (None, None, None)),
        (float("nan"), (None, None, None)),
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


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"preference": 0.99}, "score_out_of_range"),
        ({"preference": 2.01}, "score_out_of_range"),
        ({"preference": True}, "bad_score"),
        ({"preference": "1"}, "bad_score"),
        ({"generator_1": None}, "no_model"),
        ({"generator_2": " "}, "no_model"),
        ({"annotator": None}, "no_judge"),
        ({"annotator": " "}, "no_judge"),
        ({"instruction": None}, "unknown_question"),
    ],
)
def test_an_annotation_that_is_none(desk, reasons, changed, reason):
    found = desk.imported("a.json", json.dumps([annotation(1) | changed]))
    assert reasons(found) == [(0, reason)]


def test_an_annotation_without_outputs_and_with_another_name_of_the_judge(desk):
    found = desk.imported("a.json", json.dumps([annotation(1, output_1=None)]), judge="gpt-4")
    assert one(found)["judge"] == "gpt-4"
    assert found.answers.select("model", "answer").rows() == [("mine", "two")]


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
    options = read_options(ImportOptions(), mapping, ["winner=best", "shown_first = seen"])
    row = one(desk.imported("t.csv", text, columns=options.columns))
    assert (row["model_a"], row["model_b"], row["winner"]) == ("x y", "z/w", "b")
    assert (row["shown_first"], row["benchmark"], row["turn"]) == ("a", "one", 1)
    assert row["question_id"] == "s3"


def test_a_csv_of_two_scores_with_names_given(desk):
    found = desk.imported("t.csv", "question,score_a,score_b\nSay 3.,7,8\nSay 4.,-1,8\n", **PAIR)
    verdicts = found.verdicts.select("winner", "protocol", "score_a", "shown_first").rows()
    assert verdicts == [("b", "scores", 7, "unknown"), (None, "choice", None, "unknown")]


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("winner", "draw", {"winner": "tie", "orders_disagree": None}),
        ("winner", "tie (inconsistent)", {"winner": "tie", "orders_disagree": True}),
        ("winner", "tie (inconsistent)", {"shown_first": "merged"}),
        ("winner", "error", {"winner": None, "status": "unparsable"}),
        ("winner", "Model_B", {"winner": "b"}),
        # A model may be called as a side is.
        ("winner,model_a,model_b", "b,b,c", {"model_a": "b", "winner": "a"}),
        ("winner,score_a,score_b", "a,3,8", {"winner": "a", "score_b": 8, "protocol": "scores"}),
        ("winner,score_a,score_b", ",3,8", {"winner": None, "score_b": None}),
        ("winner,shown_first", "a,merged", {"shown_first": "merged"}),
        ("winner,shown_first", "a,unknown", {"shown_first": "unknown"}),
        ("winner,shown_first", "a,y", {"shown_first": "b"}),
        ("winner,prompt,reply", "a,p,why", {"prompt": "p", "prompt_version": "p", "reply": "why"}),
        ("winner,prompt,reply", "a,,", {"prompt": None, "prompt_version": "unknown"}),
        ("winner,judge", "a,expert_3", {"judge_group": "expert", "is_human": True}),
        ("Winner,turn", "a,1.0", {"winner": "a", "turn": 1}),
        ("score", "7", {"kind": "single", "model_a": "x", "score_a": 7, "turn": 1}),
        ("score,model", "-1,z", {"model_a": "z", "status": "unparsable"}),
    ],
)
def test_a_row_of_a_csv(desk, header, cells, expected):
    options = {name: PAIR[name] for name in PAIR if name not in header or "_" not in name}
    row = one(desk.imported("t.csv", f"question,{header}\nSay 3.,{cells}\n", **options))
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("header", "cells", "reason"),
    [
        ("winner", "c", "bad_winner"),
        ("winner,shown_first", "a,tie", "bad_winner"),
        ("winner,turn", "a,2", "unknown_turn"),
        ("winner,turn", "a,first", "unknown_turn"),
        ("score,turn", "7,0", "unknown_turn"),
    ],
)
def test_a_row_of_a_csv_that_is_no_verdict(desk, reasons, header, cells, reason):
    found = desk.imported("t.csv", f"question,{header}\nSay 3.,{cells}\n", **PAIR)
    assert reasons(found) == [(0, reason)]


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": ["nonsense=x"]}, "a mapping has no 'nonsense'"),
        ({"columns": ["score"]}, "write it as what=column"),
        ({"columns": ["score="]}, "must be a column's name"),
        *[({name: " "}, "is blank") for name in ("benchmark", "model_a", "model_b", "judge")],
        ({"model_a": "m", "model_b": "m"}, "are both 'm'"),
        ({"reversed": "sideways"}, "must be as-shown or swapped-back"),
        ({"mapping": "- score"}, "must map what a column holds"),
        ({"mapping": "score: ["}, "is no YAML or JSON"),
        ({"mapping": "score: 7"}, "must be a column's name, not 7"),
    ],
)
def test_options_that_mean_nothing(tmp_path, options, said):
    if "mapping" in options:
        (tmp_path / "mapping.yaml").write_text(options["mapping"])
        options = {"mapping": tmp_path / "mapping.yaml"}
    rest = {name: options.pop(name) for name in ("mapping", "columns") if name in options}
    with pytest.raises(VerdictFileError, match=said):
        read_options(ImportOptions(**options), **rest)


def test_columns_of_a_call_go_before_those_of_its_mapping(tmp_path):
    (tmp_path / "mapping.yaml").write_text("score: a\nmodel: m\n")
    options = read_options(ImportOptions(), tmp_path / "mapping.yaml", ["score = b=c"])
    assert options.columns == {"score": "b=c", "model": "m"}


def test_names_do_not_decide(desk, score_row):
    desk.take(desk.write("reviews.csv", [score_row()]), benchmark="two")
    desk.take(desk.write("model_judgment.jsonl", json.dumps([review()])), **PAIR)
    assert set(desk.read().verdicts["format"]) == {"fastchat_single", "two_scores"}
