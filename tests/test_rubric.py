"""The quickstart's rubric on replies worked out by hand."""

from dataclasses import asdict

import pytest

from pipelines.rubric import score

ROW = {"intent": "broken", "name": "Quinn", "product": "keyboard", "order": "F33"}
GOOD = (
    "Hi Quinn! I am sorry about this. I see order F33 for the keyboard. "
    "We will replace the keyboard on Tuesday. Kind regards."
)


def failed(reply: str, row: dict[str, str] = ROW) -> set[str]:
    """Names of the checks that do not hold."""
    return {name for name, holds in asdict(score(row, reply)).items() if not holds}


def test_a_good_reply_passes_every_check() -> None:
    result = score(ROW, GOOD)
    assert result.passed
    assert result.share == 1.0


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("F33", "F34", {"accurate"}),
        ("order F33", "orders F33 and F34", {"accurate"}),
        ("Quinn", "Omar", {"accurate"}),
        ("Hi Quinn!", "Hello!", {"accurate"}),
        ("keyboard", "kettle", {"accurate", "concrete"}),
        ("I am sorry about this.", "Noted.", {"empathetic"}),
        ("I am sorry about this.", "We apologise.", set()),
        ("on Tuesday", "soon", {"concrete"}),
        ("on Tuesday", "by 3 May", set()),
        ("replace", "refund", {"concrete"}),
        ("the keyboard on", "it on", {"concrete"}),
        ("Kind regards.", "Next time, read the rules.", {"respectful"}),
        ("Kind regards.", "You should have checked this yourself.", {"respectful"}),
        ("Kind regards.", "Please send me your password.", {"private"}),
        ("Kind regards.", "My cat loves empty boxes.", {"concise"}),
        ("Kind regards.", "Thanks. " * 50, {"concise"}),
    ],
)
def test_each_fault_fails_its_own_check(old: str, new: str, missing: set[str]) -> None:
    assert failed(GOOD.replace(old, new)) == missing


def test_the_day_and_the_remedy_must_share_a_sentence() -> None:
    assert failed(
        GOOD.replace("We will replace the keyboard on Tuesday.", "We replace it. See you on Tuesday.")
    ) == {"concrete"}


def test_an_empty_reply_only_avoids_faults() -> None:
    result = score(ROW, "")
    assert failed("") == {"accurate", "empathetic", "concrete"}
    assert result.share == pytest.approx(0.5)
    assert not result.passed


@pytest.mark.parametrize(
    ("intent", "sentence"),
    [
        ("late", "The courier will bring your keyboard on Monday."),
        ("wrong_item", "I set up an exchange and you get the keyboard by Friday."),
        ("refund", "Your refund for the keyboard arrives on 12 June."),
        ("cancel", "I will cancel the keyboard by Sunday."),
        ("address", "The keyboard goes to the new address on Thursday."),
        ("charged_twice", "We reverse one charge for the keyboard by Saturday."),
        ("faulty", "A technician will look at your keyboard on Wednesday."),
    ],
)
def test_every_intent_has_its_remedy(intent: str, sentence: str) -> None:
    assert score({**ROW, "intent": intent}, sentence).concrete
