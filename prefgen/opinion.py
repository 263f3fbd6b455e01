"""Whether somebody liked a response, in the words, thumbs and numbers it is logged in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prefgen.messages import Json
from prefgen.numbers import as_number
from prefgen.ratings import RateBy

Zero = Literal["bad", "neutral"]
OPINIONS = ("label", "thumbs", "rating")
_GOOD = {"1", "+1", "true", "yes", "y", "up", "thumbsup", "like", "liked", "good", "positive"}
_GOOD |= {"desirable", "👍"}
_BAD = {"-1", "false", "no", "n", "down", "thumbsdown", "dislike", "disliked", "bad", "negative"}
_BAD |= {"undesirable", "👎"}
_ABSENT = {"", "none", "null", "nan"}
_NEUTRAL = {"neutral"}
_JOINT = re.compile(r"(?<=\w)[-_ ](?=\w)")
_SKIN_TONES = dict.fromkeys(range(0x1F3FB, 0x1F400)) | {0xFE0F: None}


@dataclass(frozen=True, slots=True)
class Reading:
    """How numbers are understood: ratings from `good_from` are good and up to `bad_to` bad; what 0 means."""

    good_from: float | None = None
    bad_to: float | None = None
    zero: Zero = "bad"
    rate_by: RateBy = "aspects"


def opinion(values: Mapping[str, Json], reading: Reading) -> bool | None:
    """True for good, False for bad, None for neither: of `label`, `thumbs`, `rating` the first that is given.

    Raises ValueError where it is none of the known spellings or no number.
    """
    given = next((name for name in OPINIONS if not _missing(values.get(name))), None)
    if given is None:
        return None
    value = values[given]
    return _rated(value, reading) if given == "rating" else _thumb(given, value, reading.zero)


def _missing(value: Json) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _ABSENT) or value != value


def _thumb(column: str, value: Json, zero: Zero) -> bool | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    word = str(value).strip().lower().translate(_SKIN_TONES) if isinstance(value, bool | int | str) else ""
    word = _JOINT.sub("", word).removesuffix(".0")
    if word == "0":
        return None if zero == "neutral" else False
    if word in _NEUTRAL:
        return None
    if word not in _GOOD | _BAD:
        raise ValueError(f"{column} {value!r} is not a known opinion (true, false, up, down, 1, -1 …)")
    return word in _GOOD


def _rated(value: Json, reading: Reading) -> bool | None:
    number = as_number(value)
    if number is None:
        raise ValueError(f"rating {value!r} is not a number")
    if reading.good_from is None or reading.bad_to is None:
        raise ValueError("a rating without limits")
    return True if number >= reading.good_from else False if number <= reading.bad_to else None
