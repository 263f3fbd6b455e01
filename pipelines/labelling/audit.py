"""How many of a run's labels people would not give: the audit of emitted pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from judges.intervals import Estimate, clopper_pearson
from pipelines.labelling.item import Item
from pipelines.markup import many
from prefgen.labels import LabelledPair


def audit(
    labelled: Sequence[tuple[Item, LabelledPair]], expected: float | None, n_pairs: int
) -> dict[str, Any]:
    """What people say of pairs whose label the judge gave, drawn at random from the `n_pairs` of the run.

    `mislabelled`: the share that people decide the other way, of those they decide. `not_confirmed`: the
    share that they do not decide in the judge's way, ties included; this is what 1 - `expected` speaks of,
    the precision a calibration promised. Both with the exact 95% interval (Clopper and Pearson 1934), None
    where nothing was labelled.
    """
    said = [(told.majority, item.judged) for item, told in labelled]
    ties = sum(label == "tie" for label, _ in said)
    wrong = sum(label not in ("tie", judged) for label, judged in said)
    return {
        "n_pairs": n_pairs,
        "n": len(said),
        "n_ties": ties,
        "n_mislabelled": wrong,
        "mislabelled": _rate(wrong, len(said) - ties),
        "not_confirmed": _rate(wrong + ties, len(said)),
        "expected_label_precision": expected,
    }


def _rate(count: int, n: int) -> dict[str, Any] | None:
    return Estimate(count / n, clopper_pearson(count, n)).as_json() if n else None


def audit_lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    if not found["n"]:
        return ["audit: no pair is labelled yet"]
    decided = found["n"] - found["n_ties"]
    rate = f", {_shown(found['mislabelled'])} of the labels are wrong" if decided else ""
    return [
        f"audit of {found['n']} of {found['n_pairs']} emitted pairs: people decide {decided} of them, "
        f"{found['n_mislabelled']} the other way{rate}",
        f"counting {many(found['n_ties'], 'tie')} too: {_shown(found['not_confirmed'])} of the labels are "
        f"not confirmed, {_promise(found)}",
    ]


def _promise(found: Mapping[str, Any]) -> str:
    expected = found["expected_label_precision"]
    if expected is None:
        return "and the run promised nothing: it was not calibrated"
    low, high = found["not_confirmed"]["ci"]
    share = 1 - expected
    words = "more than" if share < low else "fewer than" if share > high else "in keeping with"
    return f"{words} the {share:.1%} that the run's calibration leaves open"


def _shown(rate: Mapping[str, Any]) -> str:
    low, high = rate["ci"]
    return f"{rate['value']:.1%} [{low:.1%}, {high:.1%}]"
