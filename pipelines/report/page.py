"""report.html: one file that shows what a run made. Needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.markup import facts, how, many, signed, table, text
from pipelines.page import outstanding, page, section
from pipelines.report.figures import by_kind, clarity, lengths, scores
from pipelines.report.findings import find
from pipelines.report.flow import flow
from pipelines.report.look import Look
from pipelines.report.making import making, spending
from pipelines.report.measures import Planted
from pipelines.report.reading import examples, failures, suspicious
from pipelines.report.trust import agreement, position
from pipelines.report.used_by import used_by
from pipelines.report.verdict import numbers_of, stands_out
from pipelines.report.words import model_name
from pipelines.summary import rule_in_words
from prefgen.planted import MUST_HOLD
from prefgen.run import RunDirectory


def write_report(run: RunDirectory, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `report.html` of a run whose tables are published; returns `found` of its manifest."""
    findings = find(run, manifest)
    found = numbers_of(findings)
    look = Look(run, {**manifest, "found": found}, findings)
    counts = look.counts
    run.write_text(
        "report.html",
        page(
            "prefgen report",
            f"{many(counts['pairs'], 'preference pair')} from {many(counts['prompts'], 'prompt')}",
            _lead(look),
            _numbers(look) + outstanding(stands_out(look.manifest)),
            (section(heading, body(look)) for heading, body in SECTIONS),
            "The labels are a model’s opinion: look at the examples before you train.",
        ),
    )
    return found


def _lead(look: Look) -> str:
    config = look.config
    judge = " + ".join(map(model_name, look.manifest["judge"].split(" + ")))
    written = ", ".join(map(model_name, config["policy"]))
    how_judged = "scored by the reward model" if config["reward_model"] else f"judged {config['judging']} by"
    return (
        f"Responses written by {text(written)}, {text(how_judged)} {text(judge)}. A pair says which "
        f"of two responses to one prompt is better. It is kept with {text(rule_in_words(look.manifest))}."
    )


def _numbers(look: Look) -> str:
    counts = look.counts
    shown = {
        "prompts": counts["prompts"],
        "responses": counts["candidates"],
        "judgments": counts["judgments"],
        "preference pairs": counts["pairs"],
        "KTO rows": counts["kto_rows"],
        "failed calls": sum(counts["failures"].values()),
    }
    return facts({name: f"{count:,}" for name, count in shown.items()}, "figures")


def _checks(look: Look) -> str:
    return _planted(look.findings.planted) + failures(look)


def _planted(planted: Mapping[str, Planted]) -> str:
    if not planted:
        return how("No pairs with a known answer were planted in this run.")
    rows = [
        [text(MUST_HOLD[kind]), f"{told.tried:,}", f"{told.held:,}", _mean_margin(told)]
        for kind, told in planted.items()
    ]
    said = "Pairs whose answer is known go the same way as all others; a single wrong one stops the run."
    head = ("what must hold", "tried", "held", "mean margin")
    return table("Planted pairs", head, rows) + how(said)


def _mean_margin(planted: Planted) -> str:
    return signed(planted.margins.mean) if planted.margins.n else "–"


SECTIONS: tuple[tuple[str, Callable[[Look], str]], ...] = (
    ("From prompts to pairs", flow),
    ("How clear the preferences are", clarity),
    ("Is the longer response the better one?", lengths),
    ("Do the judges agree?", agreement),
    ("Does the position of a response matter?", position),
    ("Scores", scores),
    ("By kind of prompt", by_kind),
    ("Pairs that look wrong", suspicious),
    ("Examples", examples),
    ("Checks and failures", _checks),
    ("Cost and time", spending),
    ("How it was made", making),
    ("Used by", lambda look: used_by(look.run.path)),
)
"""The page in its order; a section without a body is left out."""
