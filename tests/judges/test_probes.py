"""Variants of a response: same words, other form."""

from __future__ import annotations

import re

import pytest

from judges.probes import Probed, probed, sentences, variants

TEXT = "Call the shop first. They know **your** order! Then ask for a refund?\n- Keep the receipt"


def bare(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_variants_by_hand() -> None:
    markdown, padding, truncation = variants(TEXT)
    plain = "Call the shop first. They know your order! Then ask for a refund? Keep the receipt"
    assert {markdown.original, padding.original, truncation.original} == {plain}
    assert markdown.changed.splitlines()[:2] == ["- **Call the shop** first.", "- **They know your** order!"]
    assert padding.changed == f"{plain}\n\nTo say it once more: {plain}"
    assert truncation.changed == "Call the shop first. They know your order!"


def test_markdown_changes_no_word() -> None:
    markdown = variants("One.  Two words. 三つの文。 A much longer sentence, with commas.")[0]
    assert bare(markdown.changed) == bare(markdown.original)


@pytest.mark.parametrize(
    "text", ["", "One. Two.", "One. Two. Three.\n```\ncode\n```", "One. Two. Three.\n| a | b |"]
)
def test_no_variants_of_what_would_break(text: str) -> None:
    assert variants(text) == []


def test_sentences_lose_their_markdown() -> None:
    text = "# Title\n\n1. **First** point. More.\n* second\n> quoted\n2024 is 3.5 years"
    assert sentences(text) == ["Title", "First point.", "More.", "second", "quoted", "2024 is 3.5 years"]


def test_failures_and_ties_are_neither_side() -> None:
    (found,) = probed({"markdown": [1.0, -2.0, 0.5, 0.0, None]}).values()
    assert found == Probed(n=3, preferred=2, ties=1, failed=1)
    assert found.share == pytest.approx(2 / 3)
    assert found.ci == pytest.approx((0.0943, 0.9916), abs=1e-4)  # Clopper and Pearson's for 2 of 3.
    assert Probed(0, 0, 0, 2).share is None
