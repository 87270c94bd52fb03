from pathlib import Path
from typing import Any

import pytest

from resources.models import embedded_base_model


@pytest.fixture(scope="session")
def base_model(models_dir: Path) -> Path:
    return embedded_base_model(models_dir)


@pytest.fixture(scope="session")
def tokenizer(base_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model)
