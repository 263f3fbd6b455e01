"""Which prompts are test: whole groups of near-duplicates, so that none straddles the split.

Near-duplicates are found by MinHash (Broder 1997, by datasketch) over character 5-grams: 64 permutations in
16 bands of 4, a collision counts where the estimated Jaccard similarity is at least 0.8. The buckets are our
own: in those of datasketch's MinHashLSH each text is held against all of its bucket, one by one, which takes
time with the square of the number of prompts that are made from one template.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prefgen.messages import content_hash

_PERMUTATIONS, _BANDS = 64, 16
_JACCARD = 0.8
_REACH = 1000
"""Within one bucket of a band each text is held against this many that follow; buckets are rarely larger."""

Signature = npt.NDArray[np.uint32]


def signature(text: str) -> Signature:
    """The MinHash of a text, 64 values; case and white space do not count."""
    from datasketch import MinHash

    folded = " ".join(text.lower().split())
    shingles = {folded[start : start + 5] for start in range(max(1, len(folded) - 4))}
    sketch = MinHash(_PERMUTATIONS, hashfunc=zlib.crc32)
    sketch.update_batch(item.encode() for item in shingles)
    smallest: Signature = sketch.hashvalues.astype(np.uint32)
    return smallest


class NearDuplicates:
    """Groups prompts as they come; 256 bytes a prompt are kept."""

    def __init__(self) -> None:
        self._signatures: list[bytes] = []

    def add(self, text: str) -> None:
        self._signatures.append(signature(text).tobytes())

    def groups(self) -> list[int]:
        """For each text in order, the smallest index of its group."""
        count = len(self._signatures)
        matrix = np.frombuffer(b"".join(self._signatures), np.uint32).reshape(count, _PERMUTATIONS)
        parent = list(range(count))
        rows = _PERMUTATIONS // _BANDS
        _join_alike(parent, matrix, _buckets(matrix))  # Equal texts first: there may be very many.
        for band in range(_BANDS):
            _join_alike(parent, matrix, _buckets(matrix[:, band * rows : (band + 1) * rows]))
        return [_root(parent, index) for index in range(count)]


def _buckets(part: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """A number for each row, the same for equal rows."""
    part = np.ascontiguousarray(part)
    keys = part.view(np.dtype((np.void, part.dtype.itemsize * part.shape[1]))).ravel()
    return np.unique(keys, return_inverse=True)[1]


def _join_alike(parent: list[int], matrix: npt.NDArray[np.uint32], buckets: npt.NDArray[np.intp]) -> None:
    """Joins the texts of one bucket that are alike. Those joined already are not compared again."""
    order = np.argsort(buckets, kind="stable")
    roots = np.array([_root(parent, index) for index in range(len(parent))])
    for distance in range(1, _REACH + 1):
        first, second = order[:-distance], order[distance:]
        together = buckets[first] == buckets[second]
        if not together.any():
            return
        apart = together & (roots[first] != roots[second])
        first, second = first[apart], second[apart]
        alike = (matrix[first] == matrix[second]).mean(axis=1) >= _JACCARD
        for one, other in zip(first[alike].tolist(), second[alike].tolist(), strict=True):
            _join(parent, one, other)
        if alike.any():
            roots = np.array([_root(parent, index) for index in range(len(parent))])


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index


def _join(parent: list[int], first: int, second: int) -> None:
    low, high = sorted((_root(parent, first), _root(parent, second)))
    parent[high] = low


def held_out(sizes: dict[int, int], ids: Sequence[str], share: float) -> set[int]:
    """The groups that are test: in an order fixed by the hash of their first prompt's id, as many as
    fit into `share` of all rows; never all of them. `sizes`: rows by group; `ids`: prompt ids by index."""
    budget = share * sum(sizes.values())
    chosen: set[int] = set()
    for group in sorted(sizes, key=lambda group: content_hash(ids[group])):
        if sizes[group] <= budget + 0.5 and len(chosen) + 1 < len(sizes):
            chosen.add(group)
            budget -= sizes[group]
        if budget < 0.5:
            break
    return chosen
