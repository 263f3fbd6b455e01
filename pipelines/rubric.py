"""The quickstart's rubric: what code alone can tell of a support reply. No judge ever sees it."""

import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass

MAX_WORDS = 60
"""The longest reply, in words, that still counts as brief."""

_APOLOGIES = re.compile(r"\b(?:sorry|apolog(?:y|ies|ise|ize))\b", re.IGNORECASE)
_ORDER = re.compile(r"\b[A-Z]\d{2}\b")
_NAME = re.compile(r"(?i:hi|hello|dear|good day|thank you for writing),? ([A-Z][a-z]+)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_DAY = re.compile(
    r"\b(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|today|tomorrow"
    r"|\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December))\b"
)
_REMEDIES = {
    "late": ("courier", "deliver"),
    "broken": ("replace",),
    "wrong_item": ("exchange", "swap"),
    "refund": ("refund",),
    "cancel": ("cancel",),
    "address": ("address",),
    "charged_twice": ("charge",),
    "faulty": ("repair", "technician"),
}
_PREACHING = ("you should", "you must", "careful customer", "own fault", "next time")
_SECRETS = ("password", "card number", "security code", "login", "bank pin")
_IDLE_TALK = ("by the way", "weather", "my cat", "lunch", "new plant", "football", "my aunt", "choir")


@dataclass(frozen=True)
class RubricScore:
    """What one reply got right."""

    accurate: bool
    """The customer's order number, product and name, and no other order number or name in the greeting."""
    empathetic: bool
    """An apology."""
    concrete: bool
    """One sentence with the intent's remedy, the product and a day."""
    respectful: bool
    """No preaching."""
    private: bool
    """No request for a secret."""
    concise: bool
    """At most `MAX_WORDS` words and no idle talk."""

    @property
    def share(self) -> float:
        """Share of the checks that hold, from 0 to 1."""
        checks: tuple[bool, ...] = astuple(self)
        return sum(checks) / len(checks)

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(astuple(self))


def score(row: Mapping[str, str], reply: str) -> RubricScore:
    """Check a reply against its prompt's row, which names `intent`, `name`, `product` and `order`."""
    lowered = reply.lower()
    return RubricScore(
        accurate=_is_accurate(row, reply),
        empathetic=_APOLOGIES.search(reply) is not None,
        concrete=any(_is_concrete(row, sentence) for sentence in _SENTENCE_END.split(reply)),
        respectful=not any(phrase in lowered for phrase in _PREACHING),
        private=not any(phrase in lowered for phrase in _SECRETS),
        concise=len(reply.split()) <= MAX_WORDS and not any(phrase in lowered for phrase in _IDLE_TALK),
    )


def _is_accurate(row: Mapping[str, str], reply: str) -> bool:
    greeted = _NAME.match(reply.strip())
    return (
        set(_ORDER.findall(reply)) == {row["order"]}
        and _has_word(row["product"], reply)
        and greeted is not None
        and greeted[1] == row["name"]
    )


def _is_concrete(row: Mapping[str, str], sentence: str) -> bool:
    remedies = _REMEDIES[row["intent"]]
    return (
        any(remedy in sentence.lower() for remedy in remedies)
        and _has_word(row["product"], sentence)
        and _DAY.search(sentence) is not None
    )


def _has_word(word: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None
