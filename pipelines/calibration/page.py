"""report.html of a calibration: may this judge be trusted? Needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from judges.agreement import VERDICTS
from judges.items import Item
from pipelines.calibration.bias import bias
from pipelines.calibration.errors import against
from pipelines.calibration.figures import kept, probability
from pipelines.calibration.watch import watch
from pipelines.calibration.words import (
    Found,
    alternative,
    ceiling,
    headline,
    interval_of,
    judge_name,
    places,
    plan,
    value_of,
)
from pipelines.markup import beside, facts, how, many, percent, table, text
from pipelines.page import page, section
from prefgen.files import write_whole

_MOST_KAPPAS = 12
_NAMES = {"a": "response a", "b": "response b", "tie": "tie"}


def write_page(path: Path, found: Found, items: Sequence[Item] | None) -> None:
    """Writes the page. `found`: what becomes calibration.json; `items`: what it was measured on, None where
    that is gone."""
    whole = page(
        "prefgen calibration",
        text(headline(found)),
        _lead(found),
        _numbers(found),
        (
            section("What to watch", _watch(found)),
            section("Does it agree with people?", _agreement(found)),
            section("Are its probabilities honest?", probability(found)),
            section("How much may be kept?", kept(found, path.with_name("calibration.json"))),
            section("What moves it besides quality?", bias(found)),
            _principles(found["principles"]) + _jurors(found["jurors"]),
            section("Where it is surest and people say otherwise", against(found, items)),
            section("More labels", _list(plan(found))),
        ),
        "A calibration holds for prompts and responses like the labelled ones: label some of every new kind.",
    )
    write_whole(path, whole)


def _list(sentences: Iterable[str]) -> str:
    return f'<ul class="said">{"".join(f"<li>{text(sentence)}</li>" for sentence in sentences)}</ul>'


def _lead(found: Found) -> str:
    people = many(found["annotators"]["n"], "annotator")
    pairs = many(found["n_items"], "pair")
    return text(f"{judge_name(found)}, held against the labels of {people} on {pairs}. {ceiling(found)}")


def _numbers(found: Found) -> str:
    among, n = found["annotators"]["human_agreement"], found["n"]
    shown = {
        f"kappa ({interval_of(found['kappa'], n, places)})": value_of(found["kappa"], places),
        f"agreement ({interval_of(found['agreement'], n)})": value_of(found["agreement"]),
    }
    if among is not None:
        shown["annotators among themselves"] = percent(among)
    shown[f"pairs, {found['n_failed']:,} without verdict"] = f"{found['n_items']:,}"
    return facts(shown, "figures")


def _watch(found: Found) -> str:
    worries = watch(found)
    return _list(worries) if worries else how("Nothing that these labels can show.")


def _agreement(found: Found) -> str:
    said = how(
        "Kappa is the agreement that is left when chance is taken out; agreement alone flatters a judge. The "
        "intervals are 95%, over resampled prompts. Macro means count a, b and tie alike."
    )
    left = table("Judge and people", ("", "value", "95% interval"), _measures(found)) + said
    counts = [
        [f"people: {_NAMES[ours]}", *(f"{found['confusion'][ours][theirs]:,}" for theirs in VERDICTS)]
        for ours in VERDICTS
    ]
    right = table("Who said what, in pairs", ("", "judge: a", "b", "tie"), counts)
    return beside(f"<div>{left}</div>", f"<div>{right}{_annotators(found['annotators'])}</div>")


def _measures(found: Found) -> list[list[str]]:
    people, n, several = found["annotators"], found["n"], found["annotators"]["n_items_with_several"]
    rows = {
        "kappa": (found["kappa"], n, places),
        "agreement, ties counted": (found["agreement"], n, percent),
        "agreement where both decide": (found["agreement_no_ties"], n, percent),
        "agreement of one verdict alone": (found["agreement_single"], n, percent),
    }
    if several:
        among = {"value": people["human_agreement"], "ci": people["human_agreement_ci"]}
        rows["judge with one annotator"] = (people["judge_agreement"], several, percent)
        rows["annotators among themselves"] = (among, several, percent)
    shown = [
        [name, value_of(told, show), interval_of(told, count, show)]
        for name, (told, count, show) in rows.items()
    ]
    macro = {name: f"{name}, macro" for name in ("precision", "recall")} | {"f1": "F1, macro"}
    return [*shown, *([label, percent(found[f"{name}_macro"]), "–"] for name, label in macro.items())]


def _annotators(people: Found) -> str:
    alpha = people["krippendorff_alpha"]
    said = how(alternative(people))
    if alpha is not None:
        said = how(f"Krippendorff’s alpha of the annotators: {places(alpha)}.") + said
    return _kappas(people["pairwise_kappa"]) + said


def _kappas(pairs: Mapping[str, float]) -> str:
    if not pairs:
        return ""
    lowest = sorted(pairs.items(), key=lambda pair: pair[1])[:_MOST_KAPPAS]
    rows = [[text(names.replace("|", " and ")), places(value)] for names, value in lowest]
    more = len(pairs) - len(lowest)
    left_out = how(f"The lowest; {many(more, 'more pair')} of annotators not shown.") if more else ""
    return table("Annotators among themselves", ("two annotators", "kappa"), rows) + left_out


def _principles(principles: Mapping[str, Any] | None) -> str:
    said = (
        "How often each principle alone names the side that people prefer, and its weight in the verdict, "
        "fitted on these labels from equal shares. A weight of 0 says that the others do without it."
    )
    return section("Which principles earn their place?", _weights("principle", principles, percent, said))


def _jurors(jurors: Mapping[str, Any] | None) -> str:
    said = "How often each judge alone names the side that people prefer, and what its log-odds count for."
    return section("Which judges carry the jury?", _weights("judge", jurors, places, said))


def _weights(what: str, weighed: Mapping[str, Any] | None, show: Callable[[float], str], said: str) -> str:
    if weighed is None:
        return ""
    heaviest = sorted(weighed.items(), key=lambda item: -item[1]["weight"])
    rows = [[text(name), percent(told["agreement"]), show(told["weight"])] for name, told in heaviest]
    return table(f"By {what}", (what, "agreement alone", "weight"), rows) + how(said)
