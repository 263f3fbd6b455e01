"""Which prompts are test: whole groups of near-duplicates, so that none straddles the split.

Near-duplicates are found by MinHash (Broder 1997, by datasketch) over character 5-grams: 64 permutations in
16 bands of 4, a collision counts where the estimated Jaccard similarity is at least 0.8. The buckets are our
own: in those of datasketch's MinHashLSH each text is held against all of its bucket, one by one, which takes
time with the square of the number of prompts that are made from one template.

A prompt takes 256 bytes on disk and about 60 in memory while the groups are made.
"""

from __future__ import annotations

import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefgen.messages import content_hash

if TYPE_CHECKING:
    from datasketch import MinHash

_PERMUTATIONS, _BANDS = 64, 16
_JACCARD = 0.8
_COMPARED = 1 << 13
"""Pairs whose signatures are in memory at once."""
_REACH = 1000
"""Within one bucket of a band each text is held against this many that follow; buckets are rarely larger."""

Signature = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]


def signature(text: str) -> Signature:
    """The MinHash of a text, 64 values; case and white space do not count."""
    folded = " ".join(text.lower().split())
    shingles = {folded[start : start + 5] for start in range(max(1, len(folded) - 4))}
    sketch = _empty().copy()
    sketch.update_batch(item.encode() for item in shingles)
    smallest: Signature = sketch.hashvalues.astype(np.uint32)
    return smallest


@cache
def _empty() -> MinHash:
    """Drawing the permutations takes longer than using them once."""
    from datasketch import MinHash

    return MinHash(_PERMUTATIONS, hashfunc=zlib.crc32)


class NearDuplicates:
    """Groups prompts as they come. Their signatures wait in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this object lives
        weakref.finalize(self, self._file.close)
        self._count = 0

    def add(self, text: str) -> None:
        self._file.write(signature(text).tobytes())
        self._count += 1

    def groups(self) -> Indices:
        """For each text in order, the smallest index of its group."""
        parent = np.arange(self._count)
        self._file.flush()
        rows = _PERMUTATIONS // _BANDS
        bands = [slice(start, start + rows) for start in range(0, _PERMUTATIONS, rows)]
        for columns in (slice(None), *bands):  # Equal texts first: there may be very many.
            _join_alike(parent, self._matrix, self._buckets(columns))
        return _roots(parent)

    def _matrix(self) -> npt.NDArray[np.uint32]:
        """All signatures, as long as it is held: what is looked at stays in memory till then."""
        return np.memmap(self._file, np.uint32, "r", shape=(self._count, _PERMUTATIONS))

    def _buckets(self, columns: slice) -> npt.NDArray[np.uint64]:
        """A number for each signature: where these columns differ another, but once in 2^64."""
        buckets = np.empty(self._count, np.uint64)
        self._file.seek(0)
        for start in range(0, self._count, _COMPARED):
            part = np.frombuffer(self._file.read(_COMPARED * _PERMUTATIONS * 4), np.uint32)
            buckets[start : start + _COMPARED] = _mixed(part.reshape(-1, _PERMUTATIONS)[:, columns])
        return buckets


def _mixed(part: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    weights = np.random.default_rng(0).integers(1, 2**63, part.shape[1], np.uint64) | np.uint64(1)
    mixed = np.zeros(len(part), np.uint64)
    for column, weight in enumerate(weights):
        mixed = (mixed ^ part[:, column]) * weight
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _join_alike(
    parent: Indices, signatures: Callable[[], npt.NDArray[np.uint32]], buckets: npt.NDArray[np.uint64]
) -> None:
    """Joins the texts of one bucket that are alike. Those joined already are not compared again."""
    order = np.argsort(buckets, kind="stable")
    roots = _roots(parent)
    for distance in range(1, _REACH + 1):
        first, second = order[:-distance], order[distance:]
        together = buckets[first] == buckets[second]
        if not together.any():
            return
        apart = together & (roots[first] != roots[second])
        first, second = first[apart], second[apart]
        joined = False
        for start in range(0, len(first), _COMPARED):
            one, other = first[start : start + _COMPARED], second[start : start + _COMPARED]
            matrix = signatures()
            alike = (matrix[one] == matrix[other]).mean(axis=1) >= _JACCARD
            del matrix
            for left, right in zip(one[alike].tolist(), other[alike].tolist(), strict=True):
                _join(parent, left, right)
            joined |= bool(alike.any())
        if joined:
            roots = _roots(parent)


def _roots(parent: Indices) -> Indices:
    """Where each chain of parents ends."""
    while True:
        above = parent[parent]
        if (above == parent).all():
            return above
        parent = above


def _root(parent: Indices, index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = int(parent[index])
    return index


def _join(parent: Indices, first: int, second: int) -> None:
    low, high = sorted((_root(parent, first), _root(parent, second)))
    parent[high] = low


def id_hash(name: str) -> int:
    """64 bits that order ids at random, in the same way everywhere."""
    return int(content_hash(name), 16)


def held_out(groups: Indices, ids: Iterable[int], share: float) -> npt.NDArray[np.bool_]:
    """Which prompts are test: whole groups, in an order fixed by the hash of their first prompt's id, as many
    as fit into `share` of all prompts; never all of them. `ids`: `id_hash` of each."""
    test = np.zeros(len(groups), np.bool_)
    first, sizes = np.unique(groups, return_counts=True)
    hashes = np.fromiter(ids, np.uint64, len(groups))[first]
    budget, chosen = share * len(groups), list[int]()
    for place in np.argsort(hashes, kind="stable").tolist():
        if budget < 0.5:
            break
        if sizes[place] <= budget + 0.5 and len(chosen) + 1 < len(first):
            chosen.append(int(first[place]))
            budget -= int(sizes[place])
    test[np.isin(groups, chosen)] = True
    return test
