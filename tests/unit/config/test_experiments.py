import re

import pytest

from opencs_assets.config.experiments import ExperimentsError, load_experiments


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


GRID = (
    "matrix:\n"
    "  m: {selectors: [opencs, random, longest], base_models: [llama2-7b, mistral-7b]}\n"
    "outside_models: {gpt-4: {}, other: {}}\n"
)


def of_blocks(home, blocks, more=""):
    """Matchups that blocks make, by name."""
    found = load_experiments(own(home, f"{GRID}{more}\nmatchup_blocks:\n  {blocks}\n"))
    return {
        name: (entry.model_a, entry.model_b, entry.benchmark, entry.parity)
        for name, entry in found.matchups.items()
        if entry.block
    }


def test_a_block_compares_each_experiment_with_each_baseline_of_its_base_model(tmp_path):
    found = of_blocks(
        tmp_path,
        "b: {experiments: ['opencs@*-7b'], baselines: [random@*, longest@*, gpt-4],"
        " benchmarks: [koala, mt_bench], parity: declared}",
    )
    assert found == {
        f"opencs_vs_{other}@{model}.{benchmark}": (
            f"opencs@{model}",
            "gpt-4" if other == "gpt-4" else f"{other}@{model}",
            benchmark,
            "declared",
        )
        for model in ("llama2-7b", "mistral-7b")
        for other in ("random", "longest", "gpt-4")
        for benchmark in ("koala", "mt_bench")
    }


def test_a_baseline_that_is_the_experiment_itself_is_passed_over(tmp_path):
    found = of_blocks(
        tmp_path,
        "b: {experiments: [opencs@llama2-7b, random@llama2-7b],"
        " baselines: ['*@llama2-7b'], benchmarks: [koala]}",
    )
    # The second of random's would be the first of opencs's, turned round.
    assert list(found) == [
        "opencs_vs_random@llama2-7b.koala",
        "opencs_vs_longest@llama2-7b.koala",
        "random_vs_longest@llama2-7b.koala",
    ]


def test_a_round_robin_compares_all_with_all(tmp_path):
    found = of_blocks(
        tmp_path,
        "b: {round_robin: [gpt-4, '*@mistral-7b', other], benchmarks: [mt_bench]}",
    )
    assert list(found) == [
        "opencs_vs_random@mistral-7b.mt_bench",
        "opencs_vs_longest@mistral-7b.mt_bench",
        "opencs_vs_gpt-4@mistral-7b.mt_bench",
        "opencs_vs_other@mistral-7b.mt_bench",
        "random_vs_longest@mistral-7b.mt_bench",
        "random_vs_gpt-4@mistral-7b.mt_bench",
        "random_vs_other@mistral-7b.mt_bench",
        "longest_vs_gpt-4@mistral-7b.mt_bench",
        "longest_vs_other@mistral-7b.mt_bench",
    ]


def test_a_block_may_reach_across_base_models(tmp_path):
    block = "b: {round_robin: [opencs@llama2-7b, opencs@mistral-7b], benchmarks: [koala]%s}"
    found = of_blocks(tmp_path, block % ", across_base_models: true")
    assert found == {
        "opencs@llama2-7b_vs_opencs@mistral-7b.koala": (
            "opencs@llama2-7b",
            "opencs@mistral-7b",
            "koala",
            "epochs",
        )
    }
    with pytest.raises(ExperimentsError, match="no other side has its base model"):
        of_blocks(tmp_path, block % "")


def test_experiments_of_other_names_keep_them_whole_in_a_matchups_name(tmp_path):
    found = of_blocks(
        tmp_path,
        "b: {experiments: [by_hand], baselines: [random@llama2-7b, gpt-4], benchmarks: [koala]}",
        "experiments: {by_hand: {selector: opencs, base_model: llama2-7b}}",
    )
    assert list(found) == ["by_hand_vs_random@llama2-7b.koala", "by_hand_vs_gpt-4.koala"]


def test_a_declared_matchup_wins_over_one_of_a_block(tmp_path):
    blocks = (
        "b: {experiments: ['opencs@*'], baselines: [random@*, longest@*],"
        " benchmarks: [smoke, koala]}"
    )
    found = of_blocks(
        tmp_path,
        blocks,
        "matchups:\n"
        # By its name, whatever it compares.
        "  opencs_vs_longest@llama2-7b.koala:"
        " {model_a: longest@llama2-7b, model_b: gpt-4, benchmark: koala}\n"
        # By what it compares, whichever side is which.
        "  mine: {model_a: random@mistral-7b, model_b: opencs@mistral-7b, benchmark: koala}\n",
    )
    assert set(found) == {
        "opencs_vs_random@llama2-7b.smoke",
        "opencs_vs_random@llama2-7b.koala",
        "opencs_vs_longest@llama2-7b.smoke",
        "opencs_vs_random@mistral-7b.smoke",
        "opencs_vs_longest@mistral-7b.smoke",
        "opencs_vs_longest@mistral-7b.koala",
        # The package declares it on `smoke`.
        "opencs_vs_random@smollm2-135m.koala",
    }
    declared = load_experiments(tmp_path).matchups
    assert declared["opencs_vs_longest@llama2-7b.koala"].model_b == "gpt-4"
    assert declared["mine"].block is None


def test_two_blocks_may_make_the_same_matchup_by_the_same_parity_only(tmp_path):
    blocks = (
        "b: {experiments: [opencs@llama2-7b], baselines: [random@llama2-7b], benchmarks: [koala]}\n"
        "  c: {round_robin: ['*@llama2-7b'], benchmarks: [koala], parity: %s}"
    )
    assert len(of_blocks(tmp_path, blocks % "epochs")) == 3
    with pytest.raises(
        ExperimentsError,
        match=r"matchup_blocks\.c and matchup_blocks\.b both compare opencs@llama2-7b with "
        "random@llama2-7b on koala, by parity declared and epochs",
    ):
        of_blocks(tmp_path, blocks % "declared")


def test_a_blocks_benchmark_need_not_be_there_yet(tmp_path):
    found = of_blocks(tmp_path, "b: {round_robin: ['*@llama2-7b'], benchmarks: [not_here_yet]}")
    assert len(found) == 3
    assert not (tmp_path / "benchmarks").exists()


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("{benchmarks: [koala]}", "give `experiments` and `baselines`, or `round_robin`"),
        (
            "{experiments: [opencs@llama2-7b], benchmarks: [koala]}",
            "give `experiments` and `baselines`, or `round_robin`",
        ),
        (
            "{experiments: [opencs@llama2-7b], baselines: [random@llama2-7b],"
            " round_robin: ['*'], benchmarks: [koala]}",
            "give `experiments` and `baselines`, or `round_robin`",
        ),
        ("{round_robin: ['*@llama2-7b']}", "matchup_blocks.b.benchmarks: Field required"),
        ("{round_robin: ['*@llama2-7b'], benchmarks: []}", "matchup_blocks.b.benchmarks"),
        ("{round_robin: ['*@llama2-7b'], benchmarks: [k], parity: hours}", "matchup_blocks.b.par"),
        ("{round_robin: ['*'], benchmarks: [k], colour: red}", "matchup_blocks.b.colour"),
        (
            "{round_robin: [opencs@llama2-7b], benchmarks: [koala]}",
            "matchup_blocks.b.round_robin: 'opencs@llama2-7b' alone has nobody",
        ),
        (
            "{round_robin: [opencs@llama2-7b, opencs@llama2-7b], benchmarks: [koala]}",
            "alone has nobody",
        ),
        (
            "{experiments: [opencs@nothing], baselines: ['*'], benchmarks: [koala]}",
            "matchup_blocks.b.experiments: 'opencs@nothing' is not there; known: ",
        ),
        (
            "{experiments: [opencs@llama2-7b], baselines: [best@*], benchmarks: [koala]}",
            "matchup_blocks.b.baselines: 'best@*' fits no experiment; known: ",
        ),
        (
            "{experiments: [gpt-4], baselines: ['*'], benchmarks: [koala]}",
            "matchup_blocks.b.experiments: 'gpt-4' is an outside model; name it among",
        ),
        (
            "{experiments: [opencs@llama2-7b], baselines: [opencs@*], benchmarks: [koala]}",
            "matchup_blocks.b.experiments: 'opencs@llama2-7b' has nobody to be compared with",
        ),
        (
            "{experiments: ['opencs@ll*'], baselines: ['opencs@*'], benchmarks: [koala]}",
            "matchup_blocks.b makes no matchup",
        ),
        (
            "{round_robin: ['*@llama2-7b'], benchmarks: [koala], parity: steps}",
            "matchup_blocks.b (opencs_vs_random@llama2-7b.koala): parity steps needs recipes",
        ),
        ("{round_robin: ['*@llama2-7b'], benchmarks: [Up]}", "opencs_vs_random@llama2-7b.Up: a na"),
        ("[a]", "matchup_blocks.b"),
    ],
)
def test_a_block_that_can_not_be_used_is_one_clear_error(tmp_path, block, says):
    with pytest.raises(ExperimentsError) as error:
        of_blocks(tmp_path, f"b: {block}")
    said = str(error.value)
    assert says in said
    assert "experiments.yaml" in said
    assert len(said.splitlines()) == 2, said


def test_which_block_made_a_matchup_is_not_for_people_to_say(tmp_path):
    text = "matchups: {m: {model_a: random@smollm2-135m, model_b: opencs@smollm2-135m, block: b}}"
    with pytest.raises(ExperimentsError, match=r"matchups\.m\.block can't be set"):
        load_experiments(own(tmp_path, text))


def test_files_of_experiments_d_are_laid_between_the_packages_and_the_homes_own(tmp_path):
    folder = tmp_path / "experiments.d"
    folder.mkdir()
    (folder / "b.yaml").write_text("selectors: {x: {method: random, k: 2}, y: {method: full}}")
    (folder / "a.yaml").write_text("selectors: {x: {method: random, k: 1}, z: {method: full}}")
    own(tmp_path, "selectors: {y: {method: random, k: 3}}")
    found = load_experiments(tmp_path).selectors
    assert (found["x"].k, found["y"].k, "z" in found) == (2, 3, True)
    # A file that is not in the folder yet, and one that stands for one there.
    further = tmp_path / "b.yaml"
    further.write_text("selectors: {x: {method: random, k: 7}}")
    assert load_experiments(tmp_path, [further]).selectors["x"].k == 7
    (folder / "b.yaml").write_text("selectors: {x: {method: random, k: 0}}")
    with pytest.raises(ExperimentsError, match=re.escape(str(folder / "b.yaml"))):
        load_experiments(tmp_path)


def test_an_entry_with_nothing_after_its_name_is_removed(tmp_path):
    name = "opencs_vs_random@smollm2-135m"
    own(tmp_path, f"matchups:\n  {name}:\nbenchmarks: [koala]\n")
    assert name not in load_experiments(tmp_path).matchups
    own(tmp_path, "matchups: {other: }\n")
    with pytest.raises(ExperimentsError, match=r"matchups\.other is empty, which removes an entry"):
        load_experiments(tmp_path)
