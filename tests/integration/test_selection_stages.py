"""From clusters to refined and exported subsets, with a scorer over a real socket."""

import json

import dagster as dg
import httpx
import polars as pl
import pytest

from resources.warehouse import query
from tests.integration.servers.started import started
from tests.integration.tagged import TOPICS, Platform

KEY = "sk-testkey-not-a-real-one-0123456789"
ROWS = 50
FREE_SELECTORS = [
    "opencs",
    "no_contrast",
    "full",
    "random",
    "longest",
    "alpagasus",
    "k_center",
]


class Judge:
    """The running scorer."""

    def __init__(self, url):
        self.url = url

    def calls(self):
        return len(self.prompts())

    def prompts(self):
        asked = httpx.get(f"{self.url}/asked", trust_env=False).json()
        return [body["messages"][-1]["content"] for body in asked]

    def be(self, mode):
        """Judge in a mode, and forget what was asked."""
        httpx.post(f"{self.url}/configure", json={"mode": mode}, trust_env=False)


@pytest.fixture(scope="module")
def running():
    with started("judge_server.py") as url:
        yield Judge(url)


@pytest.fixture
def judge(running, monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    running.be("honest")
    return running


def quality(row):
    """Planted quality of a row, 1 to 97, in no order."""
    return (row * 37) % 97 + 1


def rows():
    found = [
        {
            "instruction": f"Tell me fact {row} of {TOPICS[row % 5]}",
            "output": f"Fact {row}, quality={quality(row)}",
        }
        for row in range(ROWS)
    ]
    found[11]["output"] += " never=refine"
    found[12]["output"] += " long=yes"
    return found


def configure(platform, judge, method="", k=10):
    role = (
        f'base_url = "{judge.url}/v1"\nmodel = "gpt-4o"\napi_key_env = "TEST_API_KEY"\n'
        "max_tokens = 100\n"
    )
    (platform.home / "prices.toml").write_text("[models]\ngpt-4o = { input = 2.5, output = 10 }\n")
    (platform.home / "settings.toml").write_text(
        f"[roles.scorer]\n{role}\n[roles.refiner]\n{role}\n[method]\nalpha = 5\nk = {k}\n{method}\n"
    )


@pytest.fixture(scope="module")
def clustered(tmp_path_factory, running):
    """A home whose dataset is clustered already."""
    built = Platform(tmp_path_factory.mktemp("clustered") / "h", rows())
    configure(built, running)
    for name in ("contaminated_samples", "normalized_tags", "sample_clusters"):
        built.run(name)
    return built


@pytest.fixture
def platform(clustered, tmp_path, judge):
    return clustered.copy(tmp_path / "h")


def chosen_quality(platform, selector):
    samples = platform.read("raw_dataset")
    subset = platform.read("selected_subset", selector=selector)
    joined = subset.join(samples, on="sample_id")
    return joined["response"].str.extract(r"quality=(\d+)").cast(pl.Int64).to_list()


def select(platform, *selectors):
    platform.run("selected_subset", selectors=list(selectors))


@pytest.mark.soak
def test_every_declared_selector_refinement_and_export_materialize(tmp_path, judge):
    home = tmp_path / "h"
    home.mkdir()
    elsewhere = [{"instruction": "Name a fruit.", "output": "Pear."}, *rows()[3:6]]
    (home / "set.json").write_text(json.dumps(elsewhere))
    (home / "experiments.yaml").write_text(
        "selectors:\n  elsewhere: {method: fixed, file: set.json}\n"
        "  faithful: {method: opencs, profile: faithful, k: 3, quota: 1}\n"
    )
    platform = Platform(home, rows())
    configure(platform, judge)
    steps = (
        "contaminated_samples normalized_tags sample_embeddings sample_clusters "
        "contrastive_scores single_scores whole_set_scores"
    )
    for name in steps.split():
        platform.run(name)
    for name in ("selected_subset", "refined_samples", "subset_exports"):
        platform.run(name, everything=True)
    platform.run("stability_samples")
    platform.run("group:evaluation")
    found = query(
        platform.home / "warehouse.duckdb",
        "select selector, count(*) as n from selected_samples group by all order by all",
    )
    sizes = dict(found.iter_rows())
    assert sizes.pop("full") == ROWS
    assert sizes.pop("elsewhere") == 4
    assert sizes.pop("faithful") == 3
    assert set(sizes) == {*FREE_SELECTORS, "no_clusters", "opencs_refined", "longest_refined"} - {
        "full"
    }
    assert set(sizes.values()) == {10}
    assert platform.check("selected_subset", "sound_subset").passed
    _why_this_sample(platform)
    _exports(platform)


def _why_this_sample(platform):
    """One query answers for any row of the dataset."""
    warehouse = platform.home / "warehouse.duckdb"
    chosen = query(
        warehouse, "select * from selected_samples where selector = 'opencs' order by rank"
    )
    rejected = query(warehouse, "select * from rejected_samples where selector = 'opencs'")
    assert chosen.height + rejected.height == ROWS
    first = chosen.to_dicts()[0]
    assert first["tags"]
    assert first["compared_with"]
    assert {"opponent", "score", "reply_id", "prompt_version"} <= set(first["compared_with"][0])
    assert all(rejected["reason"])
    overlap = query(
        warehouse,
        "select jaccard from subset_overlap where selector = 'opencs' and "
        "other_selector = 'opencs_refined'",
    )
    assert overlap["jaccard"].to_list() == [1.0]
    stability = query(warehouse, "select * from selection_stability")
    assert stability["inclusion"].is_between(0, 1).all()


def _exports(platform):
    folder = platform.home / "exports" / "facts" / "opencs_refined"
    alpaca = json.loads((folder / "alpaca.json").read_text())
    assert len(alpaca) == 10
    assert all(row["output"].startswith("better response") for row in alpaca)
    outside = json.loads(
        (platform.home / "exports" / "facts" / "elsewhere" / "alpaca.json").read_text()
    )
    assert outside[0]["output"] == "Pear."


def test_the_best_of_each_cluster_are_found(platform, judge):
    platform.run("contrastive_scores")
    select(platform, "opencs", "random")
    best = chosen_quality(platform, "opencs")
    assert sum(best) / 10 > sum(chosen_quality(platform, "random")) / 10 + 15
    scores = platform.read("contrastive_scores").join(
        platform.read("raw_dataset").select("sample_id", "response"), on="sample_id"
    )
    planted = scores["response"].str.extract(r"quality=(\d+)").cast(pl.Float64)
    for _, members in scores.with_columns(planted=planted).group_by("cluster"):
        if members.height > 4:
            assert members.select(pl.corr("score", "planted", method="spearman")).item() > 0.7


def test_other_settings_cost_nothing_where_the_same_pairs_are_needed(platform, judge):
    platform.run("contrastive_scores")
    select(platform, "opencs")
    before = judge.calls()
    assert before == platform.read("score_comparisons").height
    subsets = [set(platform.read("selected_subset", selector="opencs")["sample_id"])]
    for method in ("quota = 1", "aggregate = 'mean'", "cluster_size = 'members'", ""):
        configure(platform, judge, method, k=20)
        platform.run("contrastive_scores")
        select(platform, "opencs")
        assert judge.calls() == before, method
        subsets.append(set(platform.read("selected_subset", selector="opencs")["sample_id"]))
    assert [len(subset) for subset in subsets] == [10, 20, 20, 20, 20]
    # Another seed may cluster otherwise; what was asked already is not paid for again.
    configure(platform, judge, "seed = 5")
    platform.run("sample_clusters")
    platform.run("contrastive_scores")
    asked = judge.prompts()
    assert len(asked) == len(set(asked))


def test_stability_asks_nobody(platform, judge):
    platform.run("contrastive_scores")
    before = judge.calls()
    platform.run("stability_samples")
    assert judge.calls() == before
    runs = platform.read("stability_runs")
    assert runs.height == 100
    assert set(runs["factor"]) == {"seed", "clusters", "alpha", "quota"}
    assert runs["jaccard"].drop_nulls().is_between(0, 1).all()
    samples = platform.read("stability_samples")
    assert samples.filter("chosen").height == 10
    assert samples["inclusion"].is_between(0, 1).all()


@pytest.mark.parametrize("mode", ["refuse", "foreign"])
def test_a_scorer_that_gives_no_scores_leaves_them_missing_and_fails_the_check(
    platform, judge, mode
):
    judge.be(mode)
    with pytest.raises(AssertionError, match=r"few_unread|could not be read|blocking"):
        platform.run("contrastive_scores")
    table = platform.read("score_comparisons")
    assert table["score_a"].null_count() == table.height
    assert set(table["status"]) <= {"unparsable", "refused"}
    scores = platform.read("contrastive_scores")
    assert scores["score"].null_count() == scores.height
    assert (scores["missing"] > 0).any()
    # Each was asked again with the reason before it was given up.
    assert judge.calls() >= table.height


def test_a_scorer_that_always_answers_the_first_is_seen(platform, judge):
    judge.be("first")
    platform.run("contrastive_scores")
    assert not platform.check("score_comparisons", "decided_by_quality").passed
    scores = platform.read("contrastive_scores")
    assert scores["score"].drop_nulls().to_list() == pytest.approx(
        [scores["score"].drop_nulls()[0]] * scores["score"].count(), abs=0.5
    )


def test_a_budget_of_calls_is_kept_and_a_rerun_asks_nobody(platform, judge):
    candidates = platform.read("sample_clusters").filter("is_candidate").height
    configure(platform, judge, f"comparisons = {candidates * 2}")
    platform.run("contrastive_scores")
    table = platform.read("score_comparisons")
    assert judge.calls() == table.height <= candidates * 2
    assert table["round"].max() > 0
    platform.run("contrastive_scores")
    assert judge.calls() == table.height
    assert platform.read("score_comparisons").equals(table)
    configure(platform, judge, "comparisons = 3")
    with pytest.raises(AssertionError, match=r"method.comparisons = 3 is less than the first"):
        platform.run("contrastive_scores")


def test_refinement_is_whole(platform, judge):
    platform.run("contrastive_scores")
    kept = platform.read("raw_dataset").filter(pl.col("row").is_in([11, 12]))["sample_id"]
    pins = "\n".join(f"{sample},keep,to see" for sample in kept)
    (platform.home / "pins.csv").write_text(f"sample,action,reason\n{pins}\n")
    select(platform, "opencs_refined")
    platform.run("refined_samples", selectors=["opencs_refined"])
    refined = platform.read("refined_samples", refined="opencs_refined")
    subset = platform.read("selected_subset", selector="opencs_refined")
    assert refined["sample_id"].to_list() == subset["sample_id"].to_list(), "all, in their order"
    stubborn, long, *others = refined.to_dicts()
    # Nothing was made of it, and it is as it was, with the reason.
    assert stubborn["response"] == stubborn["response_before"]
    assert stubborn["response_status"] == stubborn["instruction_status"] == "unparsable"
    assert "<better> is missing" in stubborn["response_detail"]
    # Cut at the limit, it was had whole with more room; the half is nowhere.
    assert long["response_status"] == "ok"
    assert long["response"].startswith("better response")
    assert "cut in the mid" not in long["response"] + long["instruction"]
    for row in others:
        assert row["response"].startswith("better response, having seen: Fact")
        # The response came first: the instruction was made for the better one.
        assert row["instruction"].startswith("better instruction, having seen: better response")
        assert row["instruction_before"].startswith("Tell me fact")
    event = platform.instance.get_latest_materialization_event(dg.AssetKey("refined_samples"))
    left = event.asset_materialization.metadata["left_as_they_were"].value
    assert left == {"response: unparsable": 1, "instruction: unparsable": 1}
    before = judge.calls()
    platform.run("refined_samples", selectors=["opencs_refined"])
    assert judge.calls() == before
    platform.run("subset_exports", selectors=["opencs_refined"])
    card = (platform.home / "exports/facts/opencs_refined/README.md").read_text()
    assert "Refined by: model `gpt-4o`" in card


def test_what_if_says_before_what_a_run_then_does(platform, judge, monkeypatch):
    from opencs_assets.planning.what_if import what_if
    from resources.embedder import EmbedderResource
    from resources.llm.resource import LLMResource
    from resources.settings import load_settings

    def asked(**change):
        home = str(platform.home)
        return what_if(
            "facts",
            load_settings(platform.home),
            change,
            EmbedderResource(home=home).embed,
            LLMResource(home=home).planned("facts"),
        )

    nothing_yet = asked().row()
    assert nothing_yet["new_calls"] == nothing_yet["comparisons"] > 0
    assert nothing_yet["uncompared"] == nothing_yet["candidates"]
    assert judge.calls() == 0
    platform.run("contrastive_scores")
    select(platform, "opencs")
    made = judge.calls()
    assert made == nothing_yet["new_calls"]
    same = asked()
    assert same.row()["new_calls"] == 0
    assert same.now == set(platform.read("selected_subset", selector="opencs")["sample_id"])
    told = asked(clusters=3, k=15)
    assert (told.row()["dollars"] > 0) == (told.row()["new_calls"] > 0)
    assert judge.calls() == made
    configure(platform, judge, "clusters = 3", k=15)
    platform.run("sample_clusters")
    platform.run("contrastive_scores")
    assert judge.calls() == made + told.row()["new_calls"]
    if not told.row()["new_calls"]:
        select(platform, "opencs")
        assert told.then == set(platform.read("selected_subset", selector="opencs")["sample_id"])
