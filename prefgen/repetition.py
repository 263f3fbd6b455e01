"""How often texts say the same thing again, counted in runs of n words."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+|[^\w\s]")


def repetition(text: str, n: int = 4) -> float:
    """Share of a text's n-grams of words that stood in it before: 1 - distinct / all; 0 where it has none.

    Marks count as words, case does not. Known as rep-n or seq-rep-n (Welleck et al. 2020, arXiv 1908.04319).
    """
    grams = _grams(text, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Iterable[str], n: int = 2) -> float:
    """distinct-n: different n-grams of all texts together over all n-grams (Li et al. 2016, arXiv
    1510.03055); 1 where there are none. It falls with the amount of text, so compare like with like."""
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
