"""report.html of a loop: what the rounds came to. Needs no network and runs no script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.curves import Axes
from pipelines.markup import beside, capital, facts, figure, how, many, number, table, text
from pipelines.page import page, section
from pipelines.rlaif.table import labels, labels_in_words, rate
from prefgen.run import RunDirectory

Record = Mapping[str, Any]


def write_page(run: RunDirectory, manifest: Mapping[str, Any]) -> None:
    """Writes `report.html`. `manifest`: as it is about to be written."""
    rounds: Sequence[Record] = manifest["rounds"]
    best = manifest["best"]["round"]
    told = [section("From round to round", _plots(rounds) + _table(rounds, best, run))]
    # An alarm is what to read first.
    told.insert(0 if any(item["alarms"] for item in rounds) else 1, section("Alarms", _alarms(manifest)))
    run.write_text(
        "report.html",
        page(
            "prefgen rlaif",
            f"{many(len(rounds), 'round')}, the best is {'the start' if not best else f'round {best}'}",
            _lead(manifest),
            _numbers(manifest),
            (
                *told,
                section("What people say of the labels", _human(rounds)),
                section("How it was made", _making(manifest)),
            ),
            "manifest.json has the same numbers; lineage.parquet leads from pairs to models and back.",
        ),
    )


def _lead(manifest: Mapping[str, Any]) -> str:
    models, config = manifest["models"], manifest["config"]
    return (
        f"{text(models['policy'])}, trained by {text(config['train']['stage'])} on pairs that "
        f"{text(models['judge'])} judged. A round is worth what the held-out judge, "
        f"{text(models['held_out_judge'])}, makes of its answers to prompts that nothing was trained on."
    )


def _numbers(manifest: Mapping[str, Any]) -> str:
    rounds, best = manifest["rounds"], manifest["best"]["round"]
    shown = {
        "rounds": number(len(rounds)),
        "pairs": number(sum(item["counts"]["pairs"] for item in rounds)),
        "held-out prompts": number(rounds[-1]["evaluation"]["n"]),
        "calls paid": number(manifest["usage"]["requests"]),
    }
    if best:
        shown["win rate of the best"] = f"{rounds[best - 1]['evaluation']['win_rate']:.0f}%"
    return facts(shown, "figures")


def _plots(rounds: Sequence[Record]) -> str:
    told = [item["evaluation"] for item in rounds]
    training = [item["training_judge"] for item in told]
    names = ("held-out judge", "training judge")
    over_start = _plot("Win rate over round 0", "as good as round 0", (told, training), start=[50.0])
    over_last = _plot("Win rate over the round before", "no gain", ([item["last"] for item in told],))
    words = "Where only the training judge goes up, the model games the judge it is trained with."
    return beside(
        figure("Two judges’ view of each round", over_start, words, names),
        figure(
            "What each round gained", over_last, "Bars are 95% intervals over held-out prompts.", names[:1]
        ),
    )


def _plot(title: str, level: str, views: Sequence[Sequence[Record]], start: Sequence[float] = ()) -> str:
    """Win rates by round, one line a judge, the first with intervals. `start`: round 0's, if it has one."""
    count = len(views[0])
    marks = tuple((place / count, str(place)) for place in range(1 - len(start), count + 1))
    axes = Axes(title, "round", title.lower(), marks=marks)
    parts = [axes.across(0.5, level)]
    parts += [
        axes.whisker(place / count, (item["ci"][0] / 100, item["ci"][1] / 100))
        for place, item in enumerate(views[0], 1)
    ]
    for series, view in reversed(list(enumerate(views))):
        values = [*start, *(item["win_rate"] for item in view)]
        points = [(place / count, value / 100) for place, value in enumerate(values, 1 - len(start))]
        parts.append(axes.line(points, series))
        parts += [axes.dot((x, y), f"round {round(x * count)}: {100 * y:.1f}%", series) for x, y in points]
    rates = "; ".join(", ".join(rate(item) for item in view) for view in views)
    return axes.drawn(f"{title} by round: {rates}", *parts)


def _table(rounds: Sequence[Record], best: int, run: RunDirectory) -> str:
    rows = [
        [
            f'<a href="{text(item["run"])}/report.html">round {text(item["round"])}</a>'
            + (" <small>best</small>" if item["round"] == best else ""),
            number(item["counts"]["pairs"]),
            labels(item),
            _unbroken(rate(item["evaluation"])),
            _unbroken(rate(item["evaluation"]["last"])),
            f"{item['evaluation']['training_judge']['win_rate']:.0f}%",
            f"×{item['evaluation']['length_ratio']:.2f}",
            _training_report(run, item),
        ]
        for item in rounds
    ]
    head = ("", "pairs", "labels", "over round 0", "over last", "training judge", "length", "training")
    words = (
        f"Labels: {labels_in_words(rounds)}. Over round 0 and over the last round: win rate by the held-out "
        "judge, with its 95% interval. Training judge: its win rate over round 0. Length: mean length of the "
        "answers, over round 0’s. Each round leads to the report of its pairs."
    )
    return table("Rounds", head, rows) + how(words)


def _unbroken(words: str) -> str:
    return words.replace(" ", "\u00a0")


def _training_report(run: RunDirectory, item: Record) -> str:
    """A link to the stage's own report where it wrote one."""
    told = text(f"{item['training']['steps']} steps")
    report = f"rounds/{item['round']}/model/report.html"
    return f'<a href="{text(report)}">{told}</a>' if (run.path / report).exists() else told


def _alarms(manifest: Mapping[str, Any]) -> str:
    found = [alarm for item in manifest["rounds"] for alarm in item["alarms"]]
    if not found:
        return "<p>None was raised.</p>"
    end = "The loop stopped itself." if manifest["stopped"] else "The loop went on, as it was told to."
    items = "".join(
        f"<li><strong>Round {text(alarm['round'])}.</strong> {text(_sentence(alarm['text']))} "
        f"<em>{text(_sentence(alarm['remedy']))}</em></li>"
        for alarm in found
    )
    return f'<ul class="said">{items}</ul>{how(end)}'


def _sentence(words: str) -> str:
    """With a capital, a full stop and true minus signs."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", capital(words) + ".")


def _human(rounds: Sequence[Record]) -> str:
    checked = [item for item in rounds if item["human_check"] is not None]
    rows = [
        [
            text(f"round {item['round']}"),
            number(told["n"]),
            "–" if told["agreement"] is None else f"{told['agreement']:.0%}",
            "–" if told["ci"] is None else f"{told['ci'][0]:.0%} to {told['ci'][1]:.0%}",
            number(told["n_ties"]),
        ]
        for item in checked
        for told in [item["human_check"]]
    ]
    head = ("", "pairs", "agreement", "95% interval", "ties left out")
    return table("Blinded pairs labelled by people", head, rows) if rows else ""


def _making(manifest: Mapping[str, Any]) -> str:
    usage, config = manifest["usage"], manifest["config"]
    cost = usage["cost_usd"]
    loaded = ", ".join(
        f"round {item['round']} {item['policy']['after']['loaded'] or 'by an earlier process'}"
        for item in manifest["rounds"]
    )
    start = manifest["start"]
    shown = {
        "policy": text(manifest["models"]["policy"]),
        "judge": text(manifest["models"]["judge"]),
        "held-out judge": text(manifest["models"]["held_out_judge"]),
        "stage": text(config["train"]["stage"]),
        "seed": text(manifest["seed"]),
        "weights into the engine": text(loaded),
        "calls paid": number(usage["requests"]),
        "calls answered by the ledger": number(usage["cached_requests"]),
        "cost": "unknown" if cost is None else f"${number(cost, 4 if cost else 2)}",
    }
    if start is not None:
        shown["fine-tuned on revisions, over the policy as given"] = rate(start)
    return facts(shown)
