from __future__ import annotations

import pytest

from prefgen.refusal import is_refusal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m  sorry,\nbut I cannot do this.", True),
        ("As an AI, I have no opinion.", True),
        ("Thank you for asking. I cannot help with that.", True),
        ("I am sorry to hear that your parcel is late. We will send another.", False),
        ("Hawaii can't be reached by train.", False),
        ("Sure. " + "Here is how it goes. " * 5 + "I cannot say more.", False),
        ("", False),
    ],
)
def test_a_refusal_is_told_by_its_opening(text: str, expected: bool) -> None:
    assert is_refusal(text) is expected
