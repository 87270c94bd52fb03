import pytest

from opencs_assets.experiments import ExperimentsError, load_experiments


def own(home, text):
    (home / "experiments.yaml").write_text(text)
    return home


def test_packaged_entries_load(tmp_path):
    found = load_experiments(tmp_path)
    assert "opencs@smollm2-135m" in found.experiments
    recipes = {found.experiments[name].recipe for name in found.experiments}
    assert recipes == {"demo"}


def test_own_entries_are_laid_over(tmp_path):
    own(
        tmp_path,
        "selectors: {short: {method: longest, k: 3}}\n"
        "recipes: {demo: {epochs: 1}}\n"
        "experiments: {short@smollm2-135m: "
        "{selector: short, base_model: smollm2-135m, recipe: demo}}\n",
    )
    found = load_experiments(tmp_path)
    assert found.selectors["short"].k == 3
    assert found.recipes["demo"].epochs == 1
    assert {"opencs@smollm2-135m", "short@smollm2-135m"} <= set(found.experiments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: {e: {selector: none, base_model: b, recipe: r}}", "there is no 'none'"),
        ("recipes: {demo: {epoch: 3}}", "recipes.demo.epoch"),
        ("recipes: {demo: {learning_rate: -1}}", "recipes.demo.learning_rate"),
        ("selectors: {'a|b': {method: random}}", "selectors.a|b"),
        ("selectors: [random]", "must be selectors"),
        ("selectors: {x: {method: random}", "not valid YAML"),
        (
            "matchups: {m: {model_a: random@smollm2-135m, model_b: random@smollm2-135m}}",
            "both sides are",
        ),
        ("nonsense: {x: {}}", "nonsense"),
    ],
)
def test_bad_entries_name_file_and_entry(tmp_path, text, message):
    with pytest.raises(ExperimentsError) as error:
        load_experiments(own(tmp_path, text))
    assert message in str(error.value)
    assert "experiments.yaml" in str(error.value)


def test_two_selectors_may_not_be_exported_to_one_folder(tmp_path):
    own(tmp_path, "selectors:\n  mine: {method: random, export: longest}\n")
    with pytest.raises(
        ExperimentsError, match=r"selectors.mine and selectors.longest .* exported to 'longest'"
    ):
        load_experiments(tmp_path)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{method: fixed}", "needs the file of the set"),
        ("{method: random, file: a.json}", "only method fixed reads a file"),
        ("{method: random, export: ../up}", "export"),
        ("{method: random, profile: other}", "profile"),
        ("{method: longest, length: lines}", "length"),
        ("{method: alpagasus, criterion: style}", "criterion"),
    ],
)
def test_a_selector_that_can_not_be_used_is_named(tmp_path, entry, says):
    own(tmp_path, f"selectors:\n  mine: {entry}\n")
    with pytest.raises(ExperimentsError, match=says) as caught:
        load_experiments(tmp_path)
    assert "mine" in str(caught.value)
