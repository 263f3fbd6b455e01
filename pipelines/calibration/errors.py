"""The pairs on which a judge is surest and people say otherwise, to be read."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest

from judges.items import Item
from pipelines.calibration.words import Found
from pipelines.markup import clipped, how, many, percent, text
from prefgen.judgment import sigmoid

_SHOWN = 5


def against(found: Found, items: Sequence[Item] | None) -> str:
    """The items on which the calibrated judge is surest of the side that people did not prefer."""
    if items is None:
        return how("The labels or verdicts are not where they were, or not what they were: nothing to read.")
    told, by_id = found["selective_items"], {item.pair.id: item for item in items}
    if found["cascade"] is not None:
        return how("Calibrate the judges of a cascade one by one to read their errors.")
    if told is None:
        return how("Too few labels decide between a and b.")
    judged = zip(told["ids"], told["confidence"], told["correct"], strict=True)
    wrong = [
        (sure, by_id[name])
        for name, sure, correct in judged
        if not correct and "tie" not in (by_id[name].human, by_id[name].verdict)
    ]
    if not wrong:
        return how("Nowhere: it is on the side of the majority wherever both decide.")
    worst = nlargest(_SHOWN, wrong, key=lambda pair: pair[0])
    said = how(
        f"It is against the majority on {many(len(wrong), 'pair')}. Reading the ones it is surest of tells "
        "most about what it misses, or the labels."
    )
    return said + "".join(_article(sure, item) for sure, item in worst)


def _article(sure: float, item: Item) -> str:
    votes = ", ".join(label if name is None else f"{name}: {label}" for name, label in item.votes)
    wrong = "b" if item.human == "a" else "a"
    told = f"Pair {item.pair.id}: {percent(sure)} sure of {wrong}{_stated(item, wrong)}; people: {votes}"
    sides = _side("a", item.pair.a.text, item) + _side("b", item.pair.b.text, item)
    prompt = f'<p class="tag">Prompt</p>{clipped(item.pair.prompt.text)}'
    return f'<article><h3>{text(told)}</h3>{prompt}<div class="grid">{sides}</div></article>'


def _stated(item: Item, wrong: str) -> str:
    if item.margin is None or not item.stated:
        return ""
    return f" ({percent(sigmoid(item.margin if wrong == 'a' else -item.margin))} before calibration)"


def _side(name: str, response: str, item: Item) -> str:
    won = item.human == name
    tag = f"Response {name}{', preferred by people' if won else ', preferred by the judge'}"
    return f'<div class="side{" won" if won else ""}"><p class="tag">{tag}</p>{clipped(response)}</div>'
