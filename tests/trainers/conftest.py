from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# This folder cannot be a package: it would stand for the one it tests.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model; tests must not write into its folder."""
    from tiny import make_model

    return make_model(tmp_path_factory.mktemp("models") / "start")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """On a busy machine threads wait for each other far longer than a tiny model computes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer(model: Path):  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)
