"""Which runs a selection takes: planned from the asset graph alone, without a home or Dagster."""

import pytest

from opencs_assets.config.experiments import load_experiments
from opencs_assets.planning.walk import plan
from opencs_assets.wiring import jobs
from opencs_assets.wiring.selected import PlanError, SelectedAssets

OURS, THEIRS = "opencs@smollm2-135m", "random@smollm2-135m"
FAMILY_OF = {
    "raw_dataset": jobs.DATASET,
    "single_scores": jobs.DATASET,
    "contrastive_scores": jobs.DATASET,
    "score_comparisons": jobs.DATASET,
    "whole_set_scores": jobs.WHOLE_SET,
    "selected_subset": jobs.SELECTOR,
    "unselected_samples": jobs.SELECTOR,
    "refined_samples": jobs.REFINED,
    "model_answers": jobs.EXPERIMENT,
    "outside_answers": jobs.OUTSIDE,
    "pairwise_verdicts": jobs.MATCHUP,
    "leaderboard": jobs.WAREHOUSE,
}
SCORES = ("single_scores", "contrastive_scores", "whole_set_scores")
TOGETHER = ({"score_comparisons", "contrastive_scores"}, {"selected_subset", "unselected_samples"})


def selected(*names):
    together = {name: frozenset({name}) for name in FAMILY_OF}
    together |= {name: frozenset(group) for group in TOGETHER for name in group}
    readers = dict.fromkeys(FAMILY_OF, frozenset())
    readers |= dict.fromkeys(SCORES, frozenset({"selected_subset", "leaderboard"}))
    families = tuple(
        (family, frozenset(name for name, own in FAMILY_OF.items() if own == family))
        for family in jobs.FAMILIES
    )
    return SelectedAssets(frozenset(names), families, together, readers)


@pytest.fixture
def planned(tmp_path):
    def runs(*names, known=("d",), **choice):
        steps = plan(selected(*names), known, load_experiments(tmp_path), **choice)
        return [(step.family, step.partition, step.assets) for step in steps]

    return runs


def test_families_run_in_the_order_of_data_each_by_its_partitions(planned):
    assert planned(
        "leaderboard", "model_answers", "selected_subset", "raw_dataset", chosen_experiments=[OURS]
    ) == [
        ("dataset", "d", ("raw_dataset",)),
        ("selector", "d|opencs", ("selected_subset",)),
        ("experiment", f"d|{OURS}", ("model_answers",)),
        ("warehouse", None, ("leaderboard",)),
    ]
    both = planned("raw_dataset", "leaderboard", known=("a", "b"), everything=True)
    assert [run[1] for run in both] == ["a", "b", None]


def test_scores_that_no_wanted_selector_reads_are_not_paid_for(planned):
    made = planned(*SCORES, "selected_subset", "leaderboard", selectors=["longest"])
    assert made == [
        ("selector", "d|longest", ("selected_subset",)),
        ("warehouse", None, ("leaderboard",)),
    ]
    made = planned(*SCORES, "selected_subset", selectors=["opencs"])
    assert made[0] == ("dataset", "d", ("contrastive_scores",))
    # Who names scores, and no subset, wants them.
    assert planned("single_scores")[0][2] == ("single_scores",)


def test_matchups_are_those_of_the_chosen_experiments(planned):
    pair = "opencs_vs_random@smollm2-135m"
    chosen = {"chosen_experiments": [OURS, THEIRS], "chosen_matchups": [pair]}
    assert planned("pairwise_verdicts", **chosen) == [
        ("matchup", f"d|{pair}", ("pairwise_verdicts",))
    ]
    with pytest.raises(PlanError, match="name the other side too, such as --experiment"):
        planned("pairwise_verdicts", chosen_experiments=[OURS])


@pytest.mark.parametrize(
    ("names", "choice", "says"),
    [
        (["raw_dataset"], {"known": ()}, "there is no dataset yet; add one with `opencs add FILE`"),
        (["raw_dataset"], {"known": ("a", "b")}, r"say which with --dataset \(a, b\), or --all"),
        (["raw_dataset"], {"datasets": ["x"]}, "there is no dataset 'x'; known: d; add it with"),
        (["raw_dataset"], {"selectors": ["x"]}, "there is no selector 'x'"),
        (["selected_subset"], {}, "selected_subset: say which with --selector, or --all"),
        (["refined_samples"], {}, "refined_samples: say which with --selector, or --all"),
        (["pairwise_verdicts"], {}, "pairwise_verdicts: say which with --experiment, or --all"),
        (["outside_answers"], {}, "say for which experiments' matchups with --experiment"),
    ],
)
def test_what_is_unclear_is_asked(planned, names, choice, says):
    with pytest.raises(PlanError, match=says):
        planned(*names, **choice)
