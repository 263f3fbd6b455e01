"""Hashes that show whether weights stayed what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prefgen.files import file_hash

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def hash_files(path: Path) -> str | None:
    """SHA-256 over the files directly in a model's folder, or of one file; None where there is neither.

    Sub-folders (older checkpoints of a training run) are no part of the model.
    """
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(entry for entry in path.iterdir() if entry.is_file()):
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def hash_weights(model: Module) -> str:
    """SHA-256 over all parameters: their names, types, shapes and bytes."""
    return _hash_tensors(model.named_parameters())


def hash_frozen(model: Module) -> str:
    """SHA-256 over the parameters that are not trained: their names, types, shapes and bytes."""
    return _hash_tensors((name, value) for name, value in model.named_parameters() if not value.requires_grad)


def _hash_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # NumPy has no bfloat16, so the bytes are read as integers.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
