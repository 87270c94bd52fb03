"""Published judgments of MT-Bench as a lake's imported verdicts."""

import json
import os
from pathlib import Path

import polars as pl

from opencs_assets.tables.lake import Lake
from tests.conftest import ROOT
from tests.integration.warehouse.conftest import add, imported, table

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


def write(lake: Lake) -> None:
    """Write all of them where this machine has them."""
    data = Path(os.environ.get("OPENCS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        return
    folder = data / "judgments"
    asked = [
        {
            "question_id": str(row["question_id"]),
            "category": row["category"],
            "turns": row["turns"],
            "references": [],
        }
        for row in lines(data / "benchmarks/mt_bench/question.jsonl")
    ]
    add(lake, "benchmark_questions", table("benchmark_questions", asked, benchmark=BENCHMARK))
    frames = [
        *singles(folder),
        pair(folder),
        votes(folder / "human/human.jsonl", is_human=True),
        votes(folder / "human/gpt4_pair.jsonl", is_human=False),
    ]
    verdicts = pl.concat(frames).with_columns(benchmark=pl.lit(BENCHMARK))
    add(lake, "imported_verdicts", verdicts)
