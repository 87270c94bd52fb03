"""Homes whose chain is short, each prepared up to one stage and copied for each round."""

import json
import shutil
from pathlib import Path

from tests.e2e.conftest import QUESTIONS, SAMPLE, SMOKE

DATASET = "small"
EXPERIMENTS = ("opencs@smollm2-135m", "random@smollm2-135m")
# A few calls at once, so that a kill hits some of them.
CONCURRENCY = 4

SETTINGS = """
models_dir = {models}
[method]
k = 6
clusters = 3
[landing]
settle_s = 0
on_new_data = "select"
[training]
save_every_steps = 4
"""
PAID = """
[budget]
max_cost_usd = 10.0
"""
ROLE = """
[roles.{role}]
base_url = "{url}/v1"
model = "gpt-4o-mini"
api_key_env = "HOME"
structured = "none"
concurrency = {concurrency}
"""
# One call at a time: what the embedded model says must not depend on what it says beside it.
EMBEDDED_ROLE = """
[roles.tagger]
concurrency = 1
"""
EXPERIMENTS_YAML = """
base_models:
  smollm2-135m: {{source: {base_model}, recipe: demo}}
recipes:
  demo: {{steps: 16, learning_rate: 1.0e-3, max_length: 512, per_device_batch_size: 2,
         batch_size: 2, neftune_alpha: 5, max_new_tokens: 8, deterministic: true}}
matchups:
  opencs_vs_random@smollm2-135m:
    {{model_a: opencs@smollm2-135m, model_b: random@smollm2-135m, benchmark: small, parity: steps}}
benchmarks: [small]
"""


def write_home(home: Path, models: Path, base_model: Path | str, url: str | None) -> Path:
    """Write the settings of a home.

    Args:
        home: Its folder.
        models: Folder of the embedded models.
        base_model: Folder of the model that is fine-tuned.
        url: Where the roles' model is; ``None``: the embedded server.
    """
    home.mkdir(parents=True)
    settings = SETTINGS.format(models=json.dumps(str(models)))
    if url is None:
        settings += EMBEDDED_ROLE
    else:
        settings += PAID + "".join(
            ROLE.format(role=role, url=url, concurrency=CONCURRENCY)
            for role in ("tagger", "scorer", "refiner", "judge")
        )
    (home / "settings.toml").write_text(settings)
    (home / "prices.toml").write_text('[models]\n"gpt-4o-mini" = { input = 0.15, output = 0.60 }\n')
    (home / "experiments.yaml").write_text(
        EXPERIMENTS_YAML.format(base_model=json.dumps(str(base_model)))
    )
    (home / "benchmarks").mkdir()
    questions = SMOKE.read_text(encoding="utf-8").splitlines()[:QUESTIONS]
    (home / "benchmarks" / "small.jsonl").write_text("\n".join(questions), encoding="utf-8")
    return home


def write_samples(file: Path, rows: int) -> Path:
    """Write the first rows of the sample dataset."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()[:rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def copy_home(home: Path, to: Path) -> Path:
    """Copy a home in which nothing runs, without what belongs to processes."""
    left_out = shutil.ignore_patterns("server", "*.lock", ".write-*", "command-*.log", "ui-*.log")
    shutil.copytree(home, to, ignore=left_out, symlinks=True)
    return to
