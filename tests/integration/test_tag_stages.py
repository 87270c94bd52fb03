"""From open tags to a subset, through the platform's own assets; no language model is asked."""

import json

import dagster as dg
import polars as pl
import pytest

from definitions import build_defs
from opencs_assets import walk
from opencs_assets.experiments import load_experiments
from opencs_assets.schemas import OPEN_TAGS
from resources.lake import Lake

TOPICS = ("cooking", "poetry", "algebra", "travel", "history")
QUESTION = "Please write a short poem about the sea in autumn."


class Platform:
    """A home with a dataset of fifty samples that is tagged already."""

    def __init__(self, home):
        self.home = home
        rows = [
            {
                "instruction": f"Tell me fact {row} of {TOPICS[row % 5]}",
                "output": f"Fact {row} is " + "long " * row,
            }
            for row in range(50)
        ]
        rows[7]["instruction"] = QUESTION.upper()
        (home / "benchmarks").mkdir(parents=True)
        (home / "benchmarks" / "poems.jsonl").write_text(
            json.dumps({"question_id": "p1", "turns": [QUESTION]}) + "\n"
        )
        self.file = home / "facts.json"
        self.file.write_text(json.dumps(rows))
        self.defs = build_defs(home)
        self.lake = Lake(str(home / "lake"))
        self.instance = dg.DagsterInstance.ephemeral()
        walk.register_dataset(self.instance, "facts")
        from opencs_assets.datasets import catalog

        catalog.add_source(home, self.file, "facts")
        self.run("raw_dataset")
        samples = self.read("raw_dataset")
        tags = [
            {
                "sample_id": sample,
                "tags": [
                    {"tag": topic.upper() if row % 2 else topic, "explanation": ""}
                    for topic in [TOPICS[row % 5], *(["facts"] if row % 3 else [])]
                    if row
                ],
                "status": "ok" if row else "unparsable",
                "detail": None,
                "attempts": 1,
                "reply_id": "r",
                "model": "m",
                "prompt_version": "v",
            }
            for row, sample in enumerate(samples["sample_id"])
        ]
        self.lake.write(
            "open_tags", pl.DataFrame(tags, schema=OPEN_TAGS.schema), {"dataset": "facts"}
        )
        self.matching = samples.filter(pl.col("row") == 7)["sample_id"][0]

    def run(self, selection, **given):
        """Materialize a selection; the results, whose runs must all have succeeded."""
        steps = walk.plan(self.defs, self.instance, load_experiments(self.home), selection, **given)
        results = [walk.run(self.defs, self.instance, step) for step in steps]
        assert [result.error for result in results] == [None] * len(results)
        return results

    def read(self, name, **partition):
        return self.lake.read(name, {"dataset": "facts", **partition})

    def check(self, asset, name):
        """The last evaluation of a check."""
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
        return record[key].event.dagster_event.event_specific_data


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    built = Platform(tmp_path_factory.mktemp("home") / "h")
    built.run("normalized_tags")
    built.run("sample_clusters")
    return built


def test_every_sample_has_a_cluster_or_a_reason(platform):
    samples = set(platform.read("raw_dataset")["sample_id"])
    clustered = set(platform.read("sample_clusters")["sample_id"])
    unclustered = platform.read("unclustered_samples")
    assert clustered | set(unclustered["sample_id"]) == samples
    assert unclustered["reason"].to_list() == ["not_tagged"]
    assert platform.check("sample_clusters", "every_sample_accounted_for").passed


def test_the_tables_agree(platform):
    lineage = platform.read("tag_lineage")
    assert set(lineage["normalized_tag"]) == {*TOPICS, "facts"}
    assert lineage["raw_tag"].n_unique() == 12
    representatives = platform.read("representatives")
    candidates = platform.read("sample_clusters").filter("is_candidate")
    assert set(representatives["sample_id"]) == set(candidates["sample_id"])
    named = platform.read("clusters").filter(pl.col("members") > 0)
    assert all(name for name in named["name"])


def test_near_duplicates_are_reported(platform):
    platform.run("near_duplicates")
    assert platform.read("near_duplicates").height == 0


def test_a_sample_that_matches_a_benchmark_is_left_out_unless_a_person_keeps_it(platform):
    with pytest.raises(AssertionError, match="materialize contaminated_samples --dataset facts"):
        platform.run("selected_subset", selectors=["longest"])
    platform.run("contaminated_samples")
    found = platform.read("contaminated_samples")
    assert found.select("sample_id", "benchmark", "question_id", "match").rows() == [
        (platform.matching, "poems", "p1", "equal")
    ]

    def chosen():
        platform.run("selected_subset", selectors=["longest"])
        return set(platform.read("selected_subset", selector="longest")["sample_id"])

    settings = platform.home / "settings.toml"
    settings.write_text("[method]\nk = 50\n")
    assert platform.matching not in chosen()
    assert platform.check("selected_subset", "not_contaminated").passed
    # One of fifty is missing, and the check says why.
    assert "1 samples that match a benchmark question are left out" in (
        platform.check("selected_subset", "size").description
    )
    pins = platform.home / "pins.csv"
    pins.write_text(f"sample,action,reason\n{platform.matching},keep,wanted\n")
    assert platform.matching in chosen()
    told = platform.check("selected_subset", "not_contaminated")
    assert not told.passed
    assert "1 of 50 chosen samples match a benchmark question, 1 of them kept" in told.description
    pins.unlink()
    settings.write_text("[method]\nk = 50\nexclude_contaminated = false\n")
    assert platform.matching in chosen()
    assert not platform.check("selected_subset", "not_contaminated").passed


def test_dbscan_and_an_automatic_number_of_clusters_by_setting(platform):
    settings = platform.home / "settings.toml"
    settings.write_text('[method]\nclusters = "auto"\n')
    platform.run("sample_clusters")
    event = platform.instance.get_latest_materialization_event(dg.AssetKey("sample_clusters"))
    assert "number_of_clusters" in event.asset_materialization.metadata
    settings.write_text(
        '[method]\nclustering = "dbscan"\ncluster_distance = 1.3\ncluster_neighbours = 2\n'
    )
    platform.run("sample_clusters")
    assert platform.read("sample_clusters")["cluster"].min() >= 0
    settings.write_text('[method]\nnormalization = ["rule", "rule"]\n')
    with pytest.raises(AssertionError, match="a step stands twice"):
        platform.run("normalized_tags")
    settings.unlink()
