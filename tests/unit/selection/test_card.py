"""The facts and caveats on an export's card."""

import polars as pl
import pytest

from opencs_assets.config.experiments import Selector
from opencs_assets.config.profiles import resolve_constants
from opencs_assets.selection.card import describe
from opencs_assets.selection.choice import SelectorOptions
from resources.settings import Method


def made_by(*models):
    return pl.DataFrame([(model, "v1") for model in models], schema=["model", "prompt_version"],
                        orient="row")  # fmt: skip


TABLES = {
    "open_tags": made_by("tagger", "tagger"),
    "score_comparisons": made_by("scorer-2", "scorer-1"),
    "single_scores": made_by("embedded:small"),
}
ALWAYS = ["From", "Selector", "Profile", "Seed"]
LICENSE = "The licence of `data` is not known here"
EMBEDDED = "An embedded model judged here."


@pytest.mark.parametrize(
    ("declared", "refined", "labels", "notes"),
    [
        ({"method": "longest"}, None, [], []),
        ({"method": "longest"}, made_by("r"), [("Refined by", "r")], []),
        (
            {"method": "opencs"},
            None,
            ["Quota", "Scores", ("Tags by", "tagger"), ("Comparisons by", "scorer-1"),
             ("Comparisons by", "scorer-2")],
            [],
        ),
        (
            {"method": "no_contrast"},
            None,
            ["Quota", "Scores", ("Tags by", "tagger"), ("Single scores by", "embedded:small")],
            [EMBEDDED],
        ),
        # There is no table of whole-set comparisons yet.
        ({"method": "no_clusters"}, None, [], []),
        ({"method": "fixed", "file": "sets/lima.jsonl"}, None, ["File of the set"], []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("license_name", ["mit", "unknown"])
def test_the_card_names_what_the_choice_rests_on(declared, refined, labels, notes, license_name):
    constants = resolve_constants("corrected", Method(), 52_000)
    card = describe(
        "data", "best", Selector(**declared), SelectorOptions(k=9, quota=4, seed=7), constants,
        52_000, TABLES.get, refined, license_name,
    )  # fmt: skip
    told = [*ALWAYS, *(each if isinstance(each, str) else each[0] for each in labels)]
    assert [label for label, _ in card.facts] == told
    facts = dict(card.facts)
    assert facts["From"] == "`data`, 52,000 samples"
    assert facts["Selector"] == f"`best` (method `{declared['method']}`)"
    assert (facts["Profile"], facts["Seed"]) == ("corrected", "7")
    assert facts.get("Quota", "4 samples from a cluster in its turn").startswith("4 samples")
    assert facts.get("Scores", "bradley_terry").endswith("bradley_terry")
    assert facts.get("File of the set", "`lima.jsonl`") == "`lima.jsonl`"
    models = [f"model `{each[1]}`, prompt `v1`" for each in labels if not isinstance(each, str)]
    assert [text for _, text in card.facts if text.startswith("model")] == models
    expected = [LICENSE, *notes] if license_name == "unknown" else notes
    assert [note.split(";")[0].split(" It is")[0] for note in card.notes] == expected
    assert (card.dataset, card.selector, card.license) == ("data", "best", license_name)
