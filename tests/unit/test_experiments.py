import re

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


PUBLISHED = {
    "epochs": 15.0,
    "batch_size": 2 * 16 * 8,
    "per_device_batch_size": 2,
    "learning_rate": 1e-5,
    "lr_schedule": "linear",
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "neftune_alpha": 15.0,
    "zero": 3,
    "offload": True,
    "gradient_checkpointing": True,
    "bf16": True,
    "max_new_tokens": 512,
    "adapter": None,
    "held_out": 0.0,
}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("llama2-7b", {}),
        ("llama2-13b", {}),
        ("mistral-7b", {"learning_rate": 2e-6}),
        ("llama2-7b-full", {"epochs": 3.0}),
        ("llama2-13b-full", {"epochs": 3.0}),
        ("mistral-7b-full", {"epochs": 3.0, "learning_rate": 2e-6}),
    ],
)
def test_published_recipes_have_the_published_values(tmp_path, name, own):
    recipe = load_experiments(tmp_path).recipes[name].model_dump()
    assert {key: recipe[key] for key in PUBLISHED} == {**PUBLISHED, **own}


def test_published_base_models_name_template_and_recipe(tmp_path):
    found = load_experiments(tmp_path).base_models
    assert {
        name: (entry.source, entry.chat_template, entry.recipe)
        for name, entry in found.items()
        if name != "smollm2-135m"
    } == {
        "llama2-7b": ("meta-llama/Llama-2-7b-hf", "vicuna", "llama2-7b"),
        "llama2-13b": ("meta-llama/Llama-2-13b-hf", "vicuna", "llama2-13b"),
        "mistral-7b": ("mistralai/Mistral-7B-v0.1", "vicuna", "mistral-7b"),
    }


def test_a_recipe_like_another_has_its_values_but_its_own_budget(tmp_path):
    own(
        tmp_path,
        "recipes:\n"
        "  base: {epochs: 4, learning_rate: 0.5, seed: 7}\n"
        "  next: {like: base, seed: 8}\n"
        "  last: {like: next, steps: 30}\n",
    )
    recipes = load_experiments(tmp_path).recipes
    assert (recipes["next"].epochs, recipes["next"].learning_rate, recipes["next"].seed) == (
        4,
        0.5,
        8,
    )
    assert recipes["last"].budget == ("steps", 30.0)
    assert (recipes["last"].epochs, recipes["last"].learning_rate, recipes["last"].seed) == (
        None,
        0.5,
        8,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recipes: {a: {like: b}}", "recipes.a.like: 'b' is no recipe"),
        ("recipes: {a: {like: b}, b: {like: a}}", "is itself in the end"),
        ("recipes: {a: {like: a}}", "recipes.a.like: 'a' is itself in the end"),
        ("recipes: {a: {epochs: 1, steps: 2}}", "epochs and steps are both budgets; give one"),
        ("recipes: {a: {batch_size: 3, per_device_batch_size: 2}}", "3 is no multiple of"),
        ("recipes: {a: {offload: true}}", "offload is DeepSpeed's"),
        ("recipes: {a: {adapter: {}, zero: 3}}", "can't be merged into weights that ZeRO-3"),
        ("recipes: {a: {adapter: {rank: 3}}}", "recipes.a.adapter.rank"),
        ("matrix: {m: {selectors: [none], base_models: [llama2-7b]}}", "there is no 'none'"),
        ("matrix: {m: {selectors: [random], base_models: [none]}}", "none"),
        (
            "matrix: {m: {selectors: [random], base_models: [llama2-7b], recipe: nope}}",
            "experiments.random@llama2-7b.recipe: there is no 'nope'",
        ),
        ("matrix: {m: {selector: random}}", "matrix.m"),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path, text, says):
    with pytest.raises(ExperimentsError, match=re.escape(says)):
        load_experiments(own(tmp_path, text))


def test_a_matrix_makes_the_experiments_that_are_not_declared(tmp_path):
    own(
        tmp_path,
        "recipes: {mine: {steps: 3}}\n"
        "matrix:\n"
        "  published: {selectors: [opencs, longest], base_models: [llama2-7b, mistral-7b]}\n"
        "  whole: {selectors: [full], base_models: [llama2-7b], recipe: llama2-7b-full}\n"
        "experiments:\n"
        "  longest@llama2-7b: {selector: longest, base_model: llama2-7b, recipe: mine}\n"
        "  by_hand: {selector: random, base_model: mistral-7b}\n",
    )
    found = load_experiments(tmp_path).experiments
    assert {
        name: (entry.selector, entry.base_model, entry.recipe)
        for name, entry in found.items()
        if entry.base_model != "smollm2-135m"
    } == {
        "opencs@llama2-7b": ("opencs", "llama2-7b", "llama2-7b"),
        "opencs@mistral-7b": ("opencs", "mistral-7b", "mistral-7b"),
        "longest@llama2-7b": ("longest", "llama2-7b", "mine"),
        "longest@mistral-7b": ("longest", "mistral-7b", "mistral-7b"),
        "full@llama2-7b": ("full", "llama2-7b", "llama2-7b-full"),
        "by_hand": ("random", "mistral-7b", "mistral-7b"),
    }


MATCHUP = (
    "recipes: {{one: {{{one}}}, other: {{{other}}}}}\n"
    "experiments:\n"
    "  a: {{selector: random, base_model: smollm2-135m, recipe: one}}\n"
    "  b: {{selector: longest, base_model: smollm2-135m, recipe: other}}\n"
    "matchups: {{m: {{model_a: a, model_b: b, parity: {parity}}}}}\n"
)


@pytest.mark.parametrize(
    ("one", "other", "parity", "says"),
    [
        ("epochs: 3", "epochs: 3", "epochs", None),
        ("steps: 30", "steps: 30, seed: 1", "steps", None),
        ("tokens: 1000", "tokens: 1000", "tokens", None),
        ("seed: 0", "epochs: 15", "epochs", None),
        ("epochs: 15", "epochs: 3", "declared", None),
        ("epochs: 15", "steps: 3", "declared", None),
        ("epochs: 15", "epochs: 3", "epochs", "but they give 15 epochs and 3 epochs"),
        ("epochs: 15", "steps: 15", "epochs", "but they give 15 epochs and 15 steps"),
        ("epochs: 3", "epochs: 3", "steps", "parity steps needs recipes of the same number"),
        ("tokens: 1000", "tokens: 2000", "tokens", "but they give 1000 tokens and 2000 tokens"),
        ("epochs: 3", "epochs: 3", "hours", "matchups.m.parity"),
    ],
)
def test_a_matchup_compares_what_had_the_same_budget(tmp_path, one, other, parity, says):
    own(tmp_path, MATCHUP.format(one=one, other=other, parity=parity))
    if says is None:
        assert load_experiments(tmp_path).matchups["m"].parity == parity
        return
    with pytest.raises(ExperimentsError, match=re.escape(says)) as caught:
        load_experiments(tmp_path)
    assert "matchups.m" in str(caught.value)


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
