import math

import polars as pl
import pytest

from opencs_assets.benchmarks.questions import PACKAGED, find_benchmarks, read_benchmark
from opencs_assets.config.experiments import load_experiments
from opencs_assets.planning.sample_size import SampleSizeError, sample_size
from opencs_assets.planning.stage_calls import assumed_answers
from opencs_assets.statistics.power import questions_needed
from opencs_assets.tables.answers import MODEL_ANSWERS
from opencs_assets.tables.imports import IMPORTED_VERDICTS
from opencs_assets.tables.lake import Lake
from opencs_assets.tables.verdicts import PAIRWISE_VERDICTS, SINGLE_VERDICTS
from resources.llm.resource import LLMResource
from resources.settings import load_settings
from tests.unit.rows import filled

PAIR = "opencs_vs_random@smollm2-135m"
SIDES = ("opencs@smollm2-135m", "random@smollm2-135m")
JUDGE = '[roles.judge]\nbase_url = "https://api.openai.com/v1"\nmodel = "gpt-4"\n'


def ask(home, **given):
    llm = LLMResource(home=str(home))
    return sample_size(
        load_settings(home),
        load_experiments(home),
        llm.planned(),
        **given,
    )


@pytest.fixture
def lake(tmp_path):
    (tmp_path / "settings.toml").write_text(JUDGE)
    return Lake(load_settings(tmp_path).lake)


def put(lake, table, frame, **where):
    lake.write(table.name, filled(table, frame), where)


def verdicts(winners):
    """Both orders of each question; ``ab``: the orders name different winners."""
    rows = [
        {
            "benchmark": "smoke",
            "question_id": str(number),
            "turn": 0,
            "shown_first": order,
            "winner": winner if winner in ("a", "b", "tie") else None,
            "score_a": None,
            "score_b": None,
            "status": "ok" if winner != "?" else "unparsable",
            "reading": "generated",
            "protocol": "scores",
        }
        for number, both in enumerate(winners)
        for order, winner in zip("ab", both, strict=True)
    ]
    schema = {name: PAIRWISE_VERDICTS.columns[name].dtype for name in rows[0]}
    return pl.DataFrame(rows, schema=schema)


def test_without_verdicts_the_assumed_noise_is_told(tmp_path, lake):
    found = ask(tmp_path, effects=[5, 10])
    assert "assumed: the two orders disagree on 15.8% of the questions" in found.noise.source
    assert found.noise.deviation == pytest.approx(math.sqrt(0.25 - 380 / 2400 / 4))
    five, ten = found.needed
    assert five["questions"] == questions_needed(0.05, found.noise.deviation)
    assert ten["questions"] == questions_needed(0.10, found.noise.deviation)
    assert five["effect"] == "55.0 % or 45.0 % won"
    # The package's benchmark has twelve questions, each asked in both orders.
    assert five["enough"] == "none here"
    assert five["calls"] == pytest.approx(2 * five["questions"], abs=1)
    (smoke,) = found.benchmarks
    assert (smoke["benchmark"], smoke["questions"], smoke["calls"]) == ("smoke", 12, 24)
    assert five["dollars"] == pytest.approx(smoke["dollars"] * five["questions"] / 12, rel=0.01)
    assert smoke["dollars"] > 0
    assert smoke["shows"].startswith("87.1 %")
    assert not list(tmp_path.glob("lake/pairwise_verdicts/*"))


def test_noise_of_kept_verdicts_is_measured(tmp_path, lake):
    winners = [("a", "a"), ("b", "b"), ("a", "b"), ("tie", "tie"), ("a", "a"), ("?", "a")]
    put(lake, PAIRWISE_VERDICTS, verdicts(winners), dataset="d", matchup=PAIR)
    found = ask(tmp_path, matchup=PAIR, effects=[10])
    assert found.noise.source == f"measured on 5 questions of {PAIR}"
    assert found.noise.lost == pytest.approx(1 / 6)
    # 1, 0, 0.5, 0.5, 1
    assert found.noise.deviation == pytest.approx(math.sqrt(0.7 / 4))
    assert found.needed[0]["questions"] == questions_needed(
        0.1, found.noise.deviation, lost=found.noise.lost
    )
    put(lake, PAIRWISE_VERDICTS, verdicts(winners), dataset="e", matchup=PAIR)
    with pytest.raises(SampleSizeError, match="several datasets; say which: d, e"):
        ask(tmp_path, matchup=PAIR)
    assert "measured on" in ask(tmp_path, matchup=PAIR, dataset="e").noise.source


def test_verdicts_that_show_no_noise_are_not_believed(tmp_path, lake):
    put(lake, PAIRWISE_VERDICTS, verdicts([("tie", "tie")] * 4), dataset="d", matchup=PAIR)
    assert ask(tmp_path, matchup=PAIR).noise.source.startswith("assumed")


def test_calls_of_the_matchups_answers_are_priced_as_new_ones(tmp_path, lake):
    before = ask(tmp_path, matchup=PAIR, effects=[10])
    assert "Answers are taken to have 1,000 characters." in before.notes
    questions = read_benchmark(find_benchmarks(PACKAGED.parent)["smoke"])
    for side in SIDES:
        given = assumed_answers(questions, side).with_columns(answer=pl.lit(f"I am {side}."))
        put(lake, MODEL_ANSWERS, given, dataset="d", experiment=side)
    after = ask(tmp_path, matchup=PAIR, effects=[10])
    assert not any("1,000 characters" in note for note in after.notes)
    assert after.needed[0]["calls"] == before.needed[0]["calls"]
    assert after.needed[0]["dollars"] < before.needed[0]["dollars"]
    assert any("as those of smoke are on average" in note for note in after.notes)


def test_scores_are_compared_question_by_question(tmp_path, lake):
    found = ask(tmp_path, kind="single", effects=[0.5])
    assert found.noise.deviation == 1.82
    assert found.needed[0]["questions"] == questions_needed(0.5, 1.82)
    # Both turns of both models.
    assert found.benchmarks[0]["calls"] == 48
    for side, scores in zip(SIDES, ([8.0, 6.0, 4.0], [5.0, 5.0, None]), strict=True):
        frame = pl.DataFrame(
            {
                "benchmark": "smoke",
                "question_id": ["1", "2", "3"],
                "turn": 1,
                "score": pl.Series(scores, dtype=pl.Float64),
            },
            schema_overrides={"turn": pl.Int64},
        )
        put(lake, SINGLE_VERDICTS, frame, dataset="d", experiment=side)
    found = ask(tmp_path, kind="single", matchup=PAIR)
    assert found.noise.source == f"measured on 2 questions of {PAIR}"
    assert found.noise.deviation == pytest.approx(math.sqrt(2))
    assert found.noise.lost == pytest.approx(1 / 3)


def test_noise_of_imported_verdicts_is_measured(tmp_path, lake):
    frame = verdicts([("a", "a"), ("b", "b"), ("a", "b")]).with_columns(
        kind=pl.lit("pair"),
        model_a=pl.lit("one"),
        model_b=pl.lit("two"),
        is_human=pl.lit(False),
        state=pl.lit("used"),
        row=pl.int_range(pl.len(), dtype=pl.Int64),
    )
    put(lake, IMPORTED_VERDICTS, frame.drop("reading"))
    for name in ("one vs two", "two vs one"):
        found = ask(tmp_path, matchup=name)
        assert found.noise.source == f"measured on 3 questions of {name}"
        assert found.noise.deviation == pytest.approx(0.5)
    with pytest.raises(SampleSizeError, match="no verdicts of 'one vs three' have been imported"):
        ask(tmp_path, matchup="one vs three")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"effects": [0]}, "an effect of 0 can't be: give points of the win rate"),
        ({"effects": [51]}, "at most 50"),
        ({"effects": [10], "kind": "single"}, "points of the score, more than 0 and at most 9"),
        ({"power": 1.0}, "power 1 must be between 0 and 1"),
        ({"level": 0.0}, "level 0 and power"),
        ({"matchup": "nothing"}, "there is no matchup 'nothing'; known: opencs_vs_random"),
        ({"matchup": "a vs b", "kind": "single"}, "only pairs are measured"),
    ],
)
def test_a_question_that_can_not_be_answered_says_what_to_give(tmp_path, lake, given, says):
    with pytest.raises(SampleSizeError, match=says):
        ask(tmp_path, **given)
