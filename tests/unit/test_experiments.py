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
        (
            "outside_models: {gpt-4: {model: gpt-4, base_url: http://x, temperature: 1}}",
            "temperature can't be set: how it answers is the benchmark's",
        ),
        ("outside_models: {gpt-4: {model: gpt-4, url: http://x}}", "outside_models.gpt-4.url"),
        (
            "outside_models: {a: {}, b: {}}\nmatchups: {m: {model_a: a, model_b: b}}",
            "matchups.m: one side must be an experiment",
        ),
        ("outside_models: {random@smollm2-135m: {}}", "an experiment has this name"),
        ("matchups: {m: {model_a: random@smollm2-135m, model_b: gpt-4}}", "there is no 'gpt-4'"),
        ("endpoints: {e: {base_url: http://x}}", "endpoints.e: there is no 'e'"),
        ("endpoints: {random@smollm2-135m: {base_url: x}}", "endpoints.random@smollm2-135m.base"),
        ("benchmarks: {a: b}", "a list of names"),
        ("benchmarks: [mt_bench]", "'smoke' is not among `benchmarks` (mt_bench)"),
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


def test_the_benchmarks_to_answer_are_a_list_and_an_outside_model_answers_its_matchups(tmp_path):
    assert load_experiments(tmp_path).benchmarks is None
    own(
        tmp_path,
        "benchmarks: [smoke, mt_bench]\n"
        "outside_models: {gpt-4: {}, other: {}}\n"
        "matchups: {m: {model_a: gpt-4, model_b: random@smollm2-135m, benchmark: mt_bench}}\n",
    )
    found = load_experiments(tmp_path)
    assert found.benchmarks == ("smoke", "mt_bench")
    assert found.asked_of("gpt-4") == ("mt_bench",)
    assert found.asked_of("other") == ("smoke", "mt_bench")
    assert {"gpt-4", "random@smollm2-135m"} <= set(found.sides)


@pytest.mark.parametrize(
    ("demo", "other", "parity", "says"),
    [
        (
            "{steps: 2}",
            "{steps: 2}",
            "epochs",
            "they give 2 steps and 2 steps; write `parity: steps`",
        ),
        ("{tokens: 900}", "{tokens: 900}", "steps", "write `parity: tokens`"),
        ("{steps: 2}", "{steps: 3}", "steps", "give both the same budget, or write `parity: decl"),
        (
            "{steps: 2}",
            "{epochs: 2}",
            "steps",
            "they give 2 steps and 2 epochs; give both the same",
        ),
        ("{steps: 2}", "{steps: 2}", "steps", None),
        ("{steps: 2}", "{epochs: 3}", "declared", None),
    ],
)
def test_parity_that_does_not_hold_says_what_to_write(tmp_path, demo, other, parity, says):
    own(
        tmp_path,
        f"recipes: {{demo: {demo}, other: {other}}}\n"
        "experiments:\n"
        "  x: {selector: opencs, base_model: smollm2-135m, recipe: demo}\n"
        "  y: {selector: random, base_model: smollm2-135m, recipe: other}\n"
        f"matchups:\n  m: {{model_a: x, model_b: y, parity: {parity}}}\n"
        f"  opencs_vs_random@smollm2-135m: {{model_a: x, model_b: y, parity: declared}}\n",
    )
    if says is None:
        assert load_experiments(tmp_path).matchups["m"].parity == parity
        return
    with pytest.raises(ExperimentsError) as error:
        load_experiments(tmp_path)
    assert f"matchups.m: parity {parity} needs" in str(error.value)
    assert says in str(error.value)
