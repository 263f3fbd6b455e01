"""How many votes a question needs: Wald's sequential probability ratio test.

Votes for the first answer come with probability p or 1 - p. Each vote moves the log likelihood ratio by
log(p / (1 - p)), and the question is decided once that ratio reaches log((1 - a) / a), with a the error
that is accepted (Wald 1945). With the defaults that is a lead of three votes. A tie moves nothing. It is
decided too when the votes that are left could not change who leads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

P_FIRST = 0.7
ERROR = 0.1
_ROUNDING = 1e-9


def lead_needed(p: float = P_FIRST, error: float = ERROR) -> int:
    """Votes by which one answer must lead. `p` in (.5, 1), `error` in (0, .5)."""
    return math.ceil(math.log((1 - error) / error) / math.log(p / (1 - p)) - _ROUNDING)


LEAD = lead_needed()


def votes_wanted(votes: Sequence[float | None], most: int, needed: int = LEAD) -> int:
    """How many votes to draw next after `votes`, of at most `most` in all; 0: it is decided.

    `votes`: 1, 0 or .5 (a tie), None for one that could not be read. `needed`: the lead that decides. As many
    are wanted as a decision takes at the least, so drawing them together stops exactly where drawing one by
    one would.
    """
    lead = abs(sum(2 * vote - 1 for vote in votes if vote is not None))
    left = most - len(votes)
    to_be_safe = (left - lead) // 2 + 1
    return max(0, min(left, math.ceil(needed - lead), math.floor(to_be_safe)))
