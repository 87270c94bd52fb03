"""What each setting of a recipe does to a real training, and what it must not do."""

import json
import math
from pathlib import Path

import pytest

from opencs_assets.answers.asking import AnswerPrompt
from opencs_assets.answers.local import LocalModel
from opencs_assets.checkpoints.encoding import IGNORED
from opencs_assets.checkpoints.train import prepare, work
from opencs_assets.config.recipes import Recipe
from resources.launcher.job import Channel, JobError
from resources.settings import TrainingSettings
from tests.integration.training.conftest import maker, step_reached, stopped_at

pytestmark = pytest.mark.train
QUIET = {"steps": 4, "neftune_alpha": 0}
LORA = {"adapter": {"r": 4, "alpha": 8}, "learning_rate": 1e-2}


def losses(result) -> list[float]:
    return [row["loss"] for row in result["log"]]


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(Path(folder) / "model.safetensors")


@pytest.fixture(scope="module")
def plain(tiny_model, samples, tmp_path_factory):
    """The result of four steps of which nothing special is asked."""
    _, content = maker(tiny_model, samples, tmp_path_factory.mktemp("plain"))(**QUIET)
    return work(content, Channel())


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def test_noise_changes_the_training_and_not_what_the_model_says(make_job):
    """With a learning rate that moves nothing, the loss on held-out samples stays the base's."""
    still = {"steps": 2, "learning_rate": 1e-12, "held_out": 0.3}
    _, quiet = make_job(**still, neftune_alpha=0)
    _, noisy = make_job(**still, neftune_alpha=300)
    without, having = work(quiet, Channel()), work(noisy, Channel())
    assert losses(without) != losses(having)
    assert without["held_out_loss"] == pytest.approx(having["held_out_loss"], abs=1e-6)


def test_held_out_samples_are_counted_evaluated_and_not_trained_on(
    make_job, samples, tiny_tokenizer
):
    _, content = make_job(epochs=2, held_out=0.35)
    result = work(content, Channel())
    assert (result["samples"], result["held_out_samples"]) == (7, 3)
    # 7 samples, 4 a step.
    assert result["steps"] == 4
    assert 0 < result["held_out_loss"] < 20
    recipe = Recipe.model_validate(content["recipe"])
    prepared = prepare(samples, tiny_tokenizer, recipe)
    assert result["tokens"] == 2 * sum(len(each.input_ids) for each in prepared.encoded)


def test_a_budget_in_tokens_is_reached_by_whole_steps(make_job, samples_of):
    rows = samples_of([(f"Say number {at}.", f"It is {at}.") for at in range(8)])
    _, content = make_job(rows, tokens=700)
    result = work(content, Channel())
    a_step = result["tokens"] / result["steps"]
    assert 700 <= result["tokens"] < 700 + 2 * a_step
    assert not {"epochs", "steps"} & content["fields"]["recipe"].keys()

    # Half of the subset is dropped: the steps follow from the half that is trained on.
    long = samples_of(
        [(f"Say number {at}.", f"It is {at}." if at % 2 else "word " * 300) for at in range(16)]
    )
    _, dropping = make_job(long, tokens=700, overlong="drop", where="d/dropped")
    result = work(dropping, Channel())
    assert (result["samples"], result["dropped_samples"]) == (8, 8)
    assert 700 <= result["tokens"] < 700 + 2 * a_step


def test_recomputed_activations_change_nothing(make_job, plain):
    _, content = make_job(**QUIET, gradient_checkpointing=True)
    assert losses(work(content, Channel())) == pytest.approx(losses(plain), abs=1e-5)


def test_packed_samples_give_the_loss_of_padded_ones(make_job, plain):
    _, content = make_job(**QUIET, packing=True)
    result = work(content, Channel())
    assert (plain["packed"], result["packed"]) == (False, True)
    assert losses(result) == pytest.approx(losses(plain), abs=1e-4)
    assert result["tokens"] == plain["tokens"]


def test_packing_is_off_where_samples_would_see_each_other(make_job, tiny_model, tmp_path, heard):
    """Bloom has no positions, only distances, so that it can't see where a sample begins."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    folder = tmp_path / "bloom"
    vocabulary = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    bloom = BloomForCausalLM(
        BloomConfig(vocab_size=vocabulary, hidden_size=32, n_layer=2, n_head=4)
    )
    # Random weights are small, and hardly look at what stands before.
    bloom.transformer.word_embeddings.weight.data.mul_(30)
    bloom.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    values = {**QUIET, "steps": 1, "packing": True}
    _, content = make_job(model=folder, **values)
    with pytest.raises(JobError, match="can't be trained with the recipe's attention sdpa"):
        work(content, Channel())
    _, content = make_job(model=folder, **values, attention="eager")
    result = work(content, heard)
    assert result["packed"] is False
    assert any(line.startswith("packing is off: ") for line in heard.lines)


def test_an_adapter_is_merged_and_answers(make_job, tiny_model, plain):
    import torch

    job, content = make_job(**QUIET | LORA)
    result = work(content, Channel())
    assert losses(result)[0] == pytest.approx(losses(plain)[0], abs=1e-4)
    found, base = tensors(job.output), tensors(tiny_model)
    assert found.keys() == base.keys()
    changed = {name for name, each in base.items() if not torch.equal(found[name], each)}
    # Every linear layer, and nothing else: no embedding, no norm.
    assert changed == {name for name in base if "_proj" in name}
    assert not list(Path(job.output).glob("adapter*"))
    _answers(Path(job.output))


def _answers(folder: Path) -> None:
    model = LocalModel(folder, 2)
    ids = model.tokens([{"role": "user", "content": "Say number 3."}])
    asked = AnswerPrompt({"question_id": "1", "temperature": 0.0, "seed": 0}, ids)
    ((_, reply),) = next(iter(model.answer([asked], 4, lambda _: None)))
    assert reply.finish_reason in {"stop", "length"}


@pytest.mark.soak
def test_a_stopped_adapter_goes_on(make_job):
    import torch

    values = {**QUIET, **LORA, "steps": 20}
    whole, content = make_job(**values, where="d/whole")
    expected = work(content, Channel())
    job, content = make_job(**values, settings=TrainingSettings(save_every_steps=2))
    stopped_at(job, 4, lambda: work(content, Channel()))
    reached = step_reached(job)
    result = work(content, Channel())
    assert result["resumed_from_step"] == reached
    assert losses(result) == losses(expected)
    found = tensors(job.output)
    for name, each in tensors(whole.output).items():
        assert torch.equal(found[name], each), name


def test_an_adapter_on_four_bits_is_merged_into_the_whole_weights(make_job, tiny_model, plain):
    pytest.importorskip("bitsandbytes", reason="qlora needs bitsandbytes")
    import torch

    adapter = {**LORA["adapter"], "kind": "qlora"}
    job, content = make_job(**{**QUIET, **LORA, "adapter": adapter})
    result = work(content, Channel())
    # The base in 4 bits is another model, a little.
    assert losses(result)[0] == pytest.approx(losses(plain)[0], rel=0.05)
    found, base = tensors(job.output), tensors(tiny_model)
    assert {name: each.dtype for name, each in found.items()} == {
        name: each.dtype for name, each in base.items()
    }
    changed = {name for name, each in base.items() if not torch.equal(found[name], each)}
    assert changed == {name for name in base if "_proj" in name}
    for name in changed:
        # The adapter is added to the base itself, not to what 4 bits leave of it.
        assert torch.linalg.matrix_rank(found[name] - base[name], rtol=1e-3) <= 4
    config = json.loads((Path(job.output) / "config.json").read_text())
    assert "quantization_config" not in config
    _answers(Path(job.output))


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("linear", lambda left: left),
        ("cosine", lambda left: (1 - math.cos(math.pi * left)) / 2),
        ("constant", lambda left: 1.0),
    ],
)
def test_a_training_is_the_loop_that_the_recipe_describes(
    make_job, samples, tiny_model, tiny_tokenizer, schedule, share
):
    """AdamW by hand on all tokens of the responses of a step, whatever it is divided into."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    steps, warm_up, rate = 6, 2, 5e-3
    rows = samples.head(4)
    job, content = make_job(
        rows,
        steps=steps,
        learning_rate=rate,
        lr_schedule=schedule,
        warmup_ratio=warm_up / steps,
        weight_decay=0.3,
        adam_beta1=0.7,
        adam_beta2=0.8,
        max_grad_norm=0.5,
        neftune_alpha=0,
    )
    found = work(content, Channel())["log"]

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    decayed = [each for each in model.parameters() if each.dim() > 1]
    plain = [each for each in model.parameters() if each.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.7, 0.8))
    encoded = prepare(rows, tiny_tokenizer, job.recipe).encoded
    count = sum(label != IGNORED for sample in encoded for label in sample.labels)
    for at, row in enumerate(found):
        now = rate * (at / warm_up if at < warm_up else share((steps - at) / (steps - warm_up)))
        for group in optimizer.param_groups:
            group["lr"] = now
        optimizer.zero_grad()
        loss = sum(
            cross_entropy(
                model(torch.tensor([sample.input_ids])).logits[0, :-1],
                torch.tensor(sample.labels[1:]),
                reduction="sum",
            )
            / count
            for sample in encoded
        )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        expected = {"loss": loss.item(), "learning_rate": now, "grad_norm": norm.item()}
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    weights = tensors(job.output)
    for name, each in model.state_dict().items():
        if name in weights:
            assert torch.allclose(weights[name], each, atol=1e-4), name
