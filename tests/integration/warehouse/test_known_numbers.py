"""Published judgments give their known numbers, to the last printed digit, through the real dbt."""

import json
from pathlib import Path

import polars as pl
import pytest

from opencs_assets.tables.lake import Lake
from resources.warehouse import Warehouse
from tests.integration.warehouse.conftest import build_in, imported, table

BENCHMARK = "mt_bench"
LABELS = {"model_1": "a", "model_2": "b", "model_a": "a", "model_b": "b"}
HALVED = "halved"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(row: dict) -> dict:
    return {"question_id": str(row["question_id"]), "turn": row["turn"]}


def singles(folder: Path) -> list[pl.DataFrame]:
    """The three files, and the first one halved: its 80 first judgments are of first turns."""
    frames = []
    for path in sorted((folder / "mt_bench_single").glob("*.jsonl")):
        rows = [
            {
                **names(row),
                "score_a": None if row["score"] == -1 else float(row["score"]),
                "status": "unparsable" if row["score"] == -1 else "ok",
            }
            for row in lines(path)
        ]
        of_file = {"kind": "single", "protocol": "single", "judge": "gpt-4", "file": path.name}
        frames.append(imported(rows, **of_file, model_a=path.stem))
        if len(frames) == 1:
            rows = sorted(rows, key=lambda row: row["turn"])[:80]
            frames.append(imported(rows, **{**of_file, "file": HALVED}, model_a=HALVED))
    return frames


def pair(folder: Path) -> pl.DataFrame:
    path = folder / "mt_bench_pair/WHATMAKESGOOD_1k_sharegpt-score.jsonl"
    rows = [
        {
            **names(row),
            "row": place,
            "model_a": row["model_1"],
            "model_b": row["model_2"],
            "shown_first": side,
            "winner": LABELS.get(row[f"{game}_winner"], "tie"),
        }
        for place, row in enumerate(lines(path))
        for side, game in (("a", "g1"), ("b", "g2"))
    ]
    return imported(rows, kind="pair", protocol="choice", judge="gpt-4", file=path.name)


def votes(path: Path, *, is_human: bool) -> pl.DataFrame:
    rows = []
    for row in lines(path):
        turned = row["model_a"] > row["model_b"]
        winner = LABELS.get(row["winner"], "tie")
        swapped = {"a": "b", "b": "a", "tie": "tie"}
        rows.append(
            {
                **names(row),
                "model_a": row["model_b"] if turned else row["model_a"],
                "model_b": row["model_a"] if turned else row["model_b"],
                "winner": swapped[winner] if turned else winner,
                "orders_disagree": None if is_human else row["winner"] == "tie (inconsistent)",
                "judge": row["judge"],
                "judge_group": row["judge"].split("_")[0],
            }
        )
    shown = "unknown" if is_human else "merged"
    return imported(
        rows, kind="pair", protocol="choice", file=path.name, is_human=is_human, shown_first=shown
    )


@pytest.fixture(scope="module")
def public(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    home = tmp_path_factory.mktemp("public")
    lake, folder = Lake(str(home / "lake")), shared_data / "judgments"
    questions = [
        {
            "question_id": str(row["question_id"]),
            "category": row["category"],
            "turns": row["turns"],
            "references": [],
        }
        for row in lines(shared_data / "benchmarks/mt_bench/question.jsonl")
    ]
    lake.write(
        "benchmark_questions", table("benchmark_questions", questions, benchmark=BENCHMARK), {}
    )
    frames = [
        *singles(folder),
        pair(folder),
        votes(folder / "human/human.jsonl", is_human=True),
        votes(folder / "human/gpt4_pair.jsonl", is_human=False),
    ]
    verdicts = pl.concat(frames).with_columns(benchmark=pl.lit(BENCHMARK))
    lake.write("imported_verdicts", verdicts, {})
    return build_in(home)


def test_single_judgments_and_their_means(public: Warehouse):
    scores = public.query("from answer_scores order by model")
    means = ("turn_1", "turn_2", "score")
    assert [
        (row["judged"], row["unparsable"], row["complete"], *(f"{row[name]:.4f}" for name in means))
        for row in scores.iter_rows(named=True)
    ] == [
        (160, 1, True, "6.3537", "4.5848", "5.4748"),
        (160, 0, True, "6.0213", "4.9162", "5.4688"),
        (160, 1, True, "2.3125", "2.2025", "2.2579"),
    ]
    assert all(
        row["ci_low"] < row["score"] < row["ci_high"] and row["ci_high"] - row["ci_low"] < 1.5
        for row in scores.iter_rows(named=True)
    )


def test_half_of_a_file_is_badged_and_kept_out(public: Warehouse):
    assert HALVED not in public.query("select model from answer_scores")["model"]
    assert HALVED not in public.query("select model from answer_scores_by_category")["model"]
    (row,) = public.query(f"from answer_scores_all where model = '{HALVED}'").to_dicts()
    assert (row["judged"], row["expected"], row["complete"]) == (80, 160, False)
    assert row["badge"] == "incomplete"
    assert row["reason"].startswith("80 of 160 judgments are missing: 80 of turn 2")
    assert f"{row['score']:.4f}" == "6.3537"


def test_categories_add_up_to_the_whole(public: Warehouse):
    for row in public.query(
        "select scores.score, sum(part.score * (part.judged - part.unparsable)) "
        "/ sum(part.judged - part.unparsable) as of_parts, count(*) as categories, "
        "sum(part.judged) as judged "
        "from answer_scores as scores join answer_scores_by_category as part using (result_id) "
        "group by result_id, scores.score"
    ).to_dicts():
        assert row["of_parts"] == pytest.approx(row["score"], rel=1e-12)
        assert (row["categories"], row["judged"]) == (8, 160)


def test_pair_judgments_by_fastchats_rule(public: Warehouse):
    (row,) = public.query(
        "from win_rates where is_default_rule and matchup like 'Llama-2-7b-hf-cluster%'"
    ).to_dicts()
    assert row["rule"] == "both_agree"
    assert (row["win"], row["lose"], row["tie"], row["complete"]) == (25, 50, 85, True)
    assert row["orders_disagree_pct"] == 26.25
    assert row["adjusted_win_pct"] == pytest.approx(100 * (25 + 85 / 2) / 160)
    # Without scores there is no sum of them.
    assert public.query(
        "select rule from win_rates where matchup like 'Llama-2-7b-hf-cluster%' order by rule"
    )["rule"].to_list() == ["both_agree", "win_or_tie"]


def test_gpt4_agrees_with_experts_as_published(public: Warehouse):
    found = public.query(
        "from judge_agreement where judge_a = 'gpt4' and judge_b = 'expert' and not with_ties "
        "order by turn"
    )
    whole, *turns = found.to_dicts()
    assert (whole["votes"], whole["agree"], whole["turn"]) == (1723, 1458, 0)
    assert f"{whole['agree_pct']:.1f}" == "84.6"
    assert sum(row["votes"] for row in turns) == 1723
    assert [row["turn"] for row in turns] == [1, 2]
    (tied,) = public.query(
        "from judge_agreement where judge_a = 'gpt4' and judge_b = 'expert' and with_ties "
        "and turn = 0"
    ).to_dicts()
    assert tied["votes"] > 1723
    assert tied["agree_pct"] < whole["agree_pct"]
    assert 0 < tied["kappa"] < whole["kappa"] < 1


def test_gpt4s_orders_disagree_as_published(public: Warehouse):
    (row,) = public.query("from position_bias where judge = 'gpt4' and category = 'all'").to_dicts()
    assert (row["pairs"], row["orders_disagree"]) == (2400, 380)
    assert f"{row['orders_disagree_pct']:.1f}" == "15.8"
    # Its file does not say which way they do; the pair file does.
    assert (row["full_flips"], row["toward_first_pct"]) == (None, None)
    (row,) = public.query(
        "from position_bias where judge = 'gpt-4' and category = 'all'"
    ).to_dicts()
    assert (row["pairs"], row["orders_disagree"]) == (160, 42)
    assert row["toward_first"] + row["toward_second"] == 42


def test_people_are_no_result_and_rank_nobody(public: Warehouse):
    judges = public.query("select distinct judge from win_rates_all")["judge"].to_list()
    assert sorted(judges) == ["gpt-4", "gpt4"]
    board = public.query("from leaderboard where judge = 'gpt4' order by rank")
    assert board["model"].to_list()[0] == "gpt-4"
    assert board["model"].to_list()[-1] == "llama-13b"
    assert board["rating"].mean() == pytest.approx(1000)
    assert (board["ci_low"] < board["rating"]).all()
