"""Answering a benchmark: tokens a second of the platform's decoding, of plain batches, one by one.

The embedded model answers greedily, so that all ways say the same. Where a GPU and vLLM are
present, vLLM answers the same prompts too; elsewhere its row is left out, and says so.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import side
from tests.benchmarks.tags import Row

PROMPTS = 24
TOKENS = 96
BATCH = 12
# More rows fill a GPU.
GPU_BATCH = 128
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "opencs_assets" / "datasets" / "sample_data" / "sample.jsonl"

Said = list[list[int]]


def all_rows() -> Iterator[Row]:
    """The rows, each measured when it is its turn."""
    ours = side.measure(__name__, "decoded", PROMPTS)
    plain = side.measure(__name__, "one_by_one", PROMPTS)
    static = side.measure(__name__, "plain_batches", PROMPTS)
    size = f"{PROMPTS} prompts, at most {TOKENS} tokens each"
    yield _row(f"answers, {_batch()} at once (one-by-one generate)", size, ours, plain, ">= 3x", 3)
    yield _row(f"the same (generate in batches of {_batch()})", size, ours, static, ">= 1x", 1)
    if _has_vllm():
        theirs = side.measure(__name__, "by_vllm", PROMPTS)
        yield _row("the same (vLLM)", size, ours, theirs, "", None)


def left_out() -> list[str]:
    """Rows that could not be measured here, and why."""
    return [] if _has_vllm() else ["vLLM is left out: it needs a GPU and the package vllm"]


def _row(
    name: str, size: str, ours: side.Side, plain: side.Side, target: str, least: float | None
) -> Row:
    equal = sum(one == other for one, other in zip(ours.result, plain.result, strict=True))
    tokens = [sum(map(len, each.result)) for each in (ours, plain)]
    rates = [count / each.seconds for count, each in zip(tokens, (ours, plain), strict=True)]
    # Batches round otherwise in the last bit, which may turn an even choice.
    same = "yes" if equal >= 0.9 * len(ours.result) else "NO"
    told = (
        f"{same}; {equal} of {len(ours.result)} equal, {rates[0]:.0f} and {rates[1]:.0f} tokens/s"
    )
    met = None if least is None else plain.seconds / ours.seconds >= least
    return Row(name, size, ours, plain, told, target, met)


def _batch() -> int:
    import torch

    return GPU_BATCH if torch.cuda.is_available() else BATCH


def _has_vllm() -> bool:
    import torch

    return torch.cuda.is_available() and importlib.util.find_spec("vllm") is not None


def _folder() -> Path:
    from resources.models import embedded_base_model

    models = os.environ.get("OPENCS_MODELS_DIR", ROOT / ".opencs" / "models")
    return embedded_base_model(Path(models).absolute())


def _prompts(count: int) -> list[list[int]]:
    """Instructions of the sample dataset, rendered by the model's template."""
    from opencs_assets.answers.asking import Renderer

    renderer = Renderer(_folder())
    rows = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    texts = [row["instruction"] for row in rows if row.get("instruction")]
    step = len(texts) // count
    return [renderer.tokens([{"role": "user", "content": text}]) for text in texts[::step][:count]]


def _model() -> tuple[Any, set[int], int]:
    from opencs_assets.answers.asking import Renderer
    from resources.cores import cores
    from resources.launcher.job import prepare_models

    # Before torch is imported, for both sides alike: it sets how waiting threads behave.
    prepare_models()
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(cores())
    renderer = Renderer(_folder())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(_folder(), dtype=dtype).to(device).eval()
    stops = renderer.stops(model.generation_config.eos_token_id)
    return model, stops, renderer.tokenizer.pad_token_id or 0


def decoded(count: int) -> Callable[[], Said]:
    """The platform's way."""
    model, stops, pad = _model()
    from opencs_assets.answers.decoding import Decoder, Sampler

    prompts = _prompts(count)
    order = sorted(range(count), key=lambda at: -len(prompts[at]))

    def work() -> Said:
        said: Said = [[] for _ in prompts]
        sampler = Sampler([0.0] * count, [0] * count)
        decoder = Decoder(model, stops, pad, _batch())
        for some in decoder.decode([prompts[at] for at in order], sampler, TOKENS):
            for each in some:
                said[order[each.place]] = each.tokens
        return said

    return work


def one_by_one(count: int) -> Callable[[], Said]:
    """``generate``, a prompt at a time."""
    return _generated(count, 1)


def plain_batches(count: int) -> Callable[[], Said]:
    """``generate`` in batches of prompts of like length."""
    return _generated(count, _batch())


def _generated(count: int, size: int) -> Callable[[], Said]:
    import torch
    from transformers import GenerationConfig

    model, stops, pad = _model()
    prompts = _prompts(count)
    order = sorted(range(count), key=lambda at: -len(prompts[at]))
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=TOKENS, eos_token_id=sorted(stops), pad_token_id=pad
    )

    @torch.inference_mode()
    def work() -> Said:
        said: Said = [[] for _ in prompts]
        for start in range(0, count, size):
            batch = order[start : start + size]
            width = max(len(prompts[at]) for at in batch)
            rows = [[pad] * (width - len(prompts[at])) + prompts[at] for at in batch]
            ids = torch.tensor(rows, device=model.device)
            mask = torch.tensor(
                [[0] * (width - len(prompts[at])) + [1] * len(prompts[at]) for at in batch],
                device=model.device,
            )
            made = model.generate(ids, attention_mask=mask)[:, width:].tolist()
            for at, tokens in zip(batch, made, strict=True):
                end = next((n for n, token in enumerate(tokens) if token in stops), None)
                said[at] = tokens[:end]
        return said

    return work


def by_vllm(count: int) -> Callable[[], Said]:
    """vLLM on the same GPU."""
    from vllm import LLM, SamplingParams, TokensPrompt

    _, stops, _ = _model()
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in _prompts(count)]
    engine = LLM(model=str(_folder()), dtype="bfloat16", gpu_memory_utilization=0.6)
    sampling = SamplingParams(temperature=0.0, max_tokens=TOKENS, stop_token_ids=sorted(stops))

    def work() -> Said:
        done = engine.generate(prompts, sampling, use_tqdm=False)
        said = [list(each.outputs[0].token_ids) for each in done]
        return [tokens[:-1] if tokens and tokens[-1] in stops else tokens for tokens in said]

    return work
