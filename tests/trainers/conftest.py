from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model; tests must not write into its folder."""
    from tiny import make_model

    return make_model(tmp_path_factory.mktemp("models") / "start")


@pytest.fixture(scope="session")
def tokenizer(model: Path):  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)
