"""From open tags to a subset, through the platform's own assets; no language model is asked."""

import dagster as dg
import polars as pl
import pytest

from tests.integration.tagged import QUESTION, Platform

TOPICS = ("cooking", "poetry", "algebra", "travel", "history")


def facts():
    rows = [
        {
            "instruction": f"Tell me fact {row} of {TOPICS[row % 5]}",
            "output": f"Fact {row} is " + "long " * row,
        }
        for row in range(50)
    ]
    rows[7]["instruction"] = QUESTION.upper()
    return rows


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    built = Platform(tmp_path_factory.mktemp("home") / "h", facts())
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
    with pytest.raises(AssertionError, match="stands twice"):
        platform.run("normalized_tags")
    settings.unlink()
