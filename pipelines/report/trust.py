"""Do the judges agree: with themselves in the other order, with each other, with people?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from pipelines.charts import Chart, histogram
from pipelines.markup import (
    beside,
    facts,
    figure,
    give_or_take,
    how,
    many,
    number,
    percent,
    signed,
    table,
    text,
)
from pipelines.report.look import Look
from pipelines.report.measures import Position
from pipelines.report.views import Between, Views
from pipelines.report.words import model_name
from prefgen.judgment import sigmoid

_MOST_IN_MATRIX, _MOST_ROWS = 8, 12


def position(look: Look) -> str:
    """Only where responses were shown side by side."""
    told = look.findings.position
    if not told.decided and not told.lean.n:
        return ""
    if not told.lean.n:
        return _position(told)
    chart = Chart("Lean to the first position", "lean (log-odds)", line=(0.0, "no lean"))
    said = "One for each question asked in both orders; right of the line the judge liked what it saw first."
    return beside(f"<div>{_position(told)}</div>", figure("Lean", histogram(told.leans, chart), said))


def _position(position: Position) -> str:
    lean = position.lean
    rate = percent(position.first / position.decided) if position.decided else "–"
    told = {"judgments that went to the response shown first": rate}
    said = "A judge without a liking for a position would be at 50%."
    if lean.n:
        told |= {
            "same verdict in both orders": percent(position.agree / lean.n),
            "lean to the first position, log-odds": give_or_take(signed(lean.mean), lean.sd, 2),
            "a toss-up would go to the response shown first": percent(sigmoid(lean.mean)),
        }
        said += (
            f" {many(lean.n, 'question')} asked in both orders: the mean of the two is what counts, which "
            "cancels the lean (its mean ± one standard deviation is shown)."
        )
    return f"{facts(told)}{how(said)}"


def agreement(look: Look) -> str:
    """Judges, principles and people, each where there is something to hold against another."""
    judges, principles = look.findings.judges, look.findings.principles
    return "".join((_people(look.manifest["calibration"]), _judges(judges), _principles(principles)))


def _people(calibrated: Mapping[str, Any] | None) -> str:
    if calibrated is None:
        return how("No label of a person was held against these judgments: prefgen calibrate does that.")
    told = {"labelled pairs": number(calibrated["n_labels"])}
    if calibrated.get("agreement"):
        told["the judge says what people say"] = _estimate(calibrated["agreement"], percent)
    if calibrated.get("kappa"):
        told["kappa"] = _estimate(calibrated["kappa"], lambda value: number(value, 2))
    said = f"Measured on the labels of {calibrated['file']}, with 95% intervals over prompts."
    return f"<h3>The judge and people</h3>{facts(told)}{how(said)}"


def _estimate(told: Mapping[str, Any], show: Callable[[float], str]) -> str:
    low, high = map(show, told["ci"])
    return f"{show(told['value'])} ({low} to {high})"


def _judges(views: Views) -> str:
    among = views.among()
    if not among:
        return ""
    least = among[0]
    said = (
        f"{model_name(least.one)} and {model_name(least.other)} agree least: one verdict on "
        f"{percent(least.same)} of {many(least.n, 'pair')}. Kappa is the agreement that is left when chance "
        "is taken out; judges that share their errors agree too, so people’s labels say more."
    )
    return _rows("Judges among themselves", views.all_between()) + how(said)


def _rows(caption: str, found: Sequence[Between]) -> str:
    rows = [
        [
            f"{text(model_name(item.one))} and {text(model_name(item.other))}",
            f"{item.n:,}",
            percent(item.same),
            "–" if item.opposed is None else percent(item.opposed),
            "–" if item.kappa is None else number(item.kappa, 2),
        ]
        for item in islice(found, _MOST_ROWS)
    ]
    more = len(found) - len(rows)
    left_out = how(f"Those that agree least; {many(more, 'more pair')} not shown.") if more else ""
    return table(caption, ("two views", "pairs", "same verdict", "opposite", "kappa"), rows) + left_out


def _principles(views: Views) -> str:
    decided = [item for item in views.among() if item.opposed is not None]
    if not decided:
        return ""
    if len(views.names) > _MOST_IN_MATRIX:
        return _rows("Principles among themselves", views.all_between())
    least = max(decided, key=lambda item: item.opposed or 0.0)
    said = "How often two principles prefer the same response, of the pairs on which both prefer one."
    if least.opposed:
        said += (
            f" “{least.one}” and “{least.other}” pull apart most: on {percent(least.opposed)} of "
            f"{many(least.decided, 'such pair')}. A principle against all others needs another wording or "
            "weight."
        )
    return _matrix(views) + how(said)


def _matrix(views: Views) -> str:
    """Numbered columns, so that it is no wider than a phone."""
    names = views.names
    rows = [
        [f"{place} {text(name)}", *(_cell(views, name, other) for other in names)]
        for place, name in enumerate(names, 1)
    ]
    return table(
        "Principles among themselves, % of pairs", ("", *map(str, range(1, len(names) + 1))), rows, short=True
    )


def _cell(views: Views, one: str, other: str) -> str:
    found = None if one == other else views.between(one, other)
    if found is None or found.opposed is None:
        return "–"
    return f"{100 * (1 - found.opposed):.0f}"
