from __future__ import annotations

import sys
from pathlib import Path

import pytest

# This folder cannot be a package: it would stand for the one it tests.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model; tests must not write into its folder."""
    from tiny import make_model

    return make_model(tmp_path_factory.mktemp("models") / "start")


@pytest.fixture(scope="session")
def tokenizer(model: Path):  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)
