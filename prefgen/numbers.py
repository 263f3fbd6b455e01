"""Numbers as files hold them."""

from __future__ import annotations

import math

from prefgen.messages import Json


def as_number(value: Json) -> float | None:
    """A finite number, also where it is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
