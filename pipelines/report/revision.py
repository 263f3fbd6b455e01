"""report.html of `prefgen revise`: what became of the responses, and some to read. Runs no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.charts import Chart, histogram
from pipelines.markup import beside, clipped, facts, figure, how, many, number, percent, table, text
from pipelines.page import page, section
from pipelines.report.measures import Lengths
from pipelines.report.words import FAILURES, model_name, money, time_in_words
from prefgen.rows import as_text
from prefgen.run import RunDirectory
from prefgen.tables import read_table

Row = Mapping[str, Any]
_SHOWN = 3


@dataclass(slots=True)
class Revisions:
    """`principles`: rounds by principle. `lengths`: last revision and response. `shown`: the rounds of the
    first prompts with a revision; `stopped`: of one prompt of each cause without one."""

    principles: Counter[str] = field(default_factory=Counter)
    lengths: Lengths = field(default_factory=Lengths)
    shown: list[list[Row]] = field(default_factory=list)
    stopped: dict[str, list[Row]] = field(default_factory=dict)


def write_revision_page(run: RunDirectory, manifest: Row) -> None:
    """One pass over the rounds; the manifest has the counts."""
    counts, found = manifest["counts"], read_rounds(run.path / "rounds.parquet")
    asked = _prompts(run.path, [rows[0]["prompt_id"] for rows in found.shown])
    run.write_text(
        "report.html",
        page(
            "prefgen revise",
            f"{many(counts['sft_rows'], 'revised response')} to {many(counts['prompts'], 'prompt')}",
            text(_lead(manifest)),
            facts(_numbers(counts), "figures"),
            (
                section("Without a revision", _without(counts, found)),
                section("What was asked for", _principles(found.principles)),
                section("Are revisions longer?", _lengths(found.lengths)),
                section("Revisions to read", "".join(_article(asked, rows) for rows in found.shown)),
                section("How it was made", _making(manifest)),
            ),
            "A revision is not better because it is one: let a judge decide, then people.",
        ),
    )


def read_rounds(path: Path) -> Revisions:
    found = Revisions()
    for _, group in groupby(read_table(path), itemgetter("prompt_id")):
        rows: list[Row] = list(group)
        found.principles.update(row["principle"] for row in rows if row["principle"])
        last = rows[-1]
        if last["round"] and last["text"] and not last["stopped"]:
            found.lengths.add(len(last["text"]), len(rows[0]["text"] or ""))
            if len(found.shown) < _SHOWN:
                found.shown.append(rows)
        elif last["stopped"]:
            found.stopped.setdefault(last["stopped"], rows)
    return found


def _prompts(path: Path, ids: list[str]) -> dict[str, str]:
    if not ids:
        return {}
    wanted = pq.read_table(path / "pairs.parquet", columns=["id", "prompt"], filters=[("id", "in", ids)])
    return {row["id"]: as_text(row["prompt"]) for row in wanted.to_pylist()}


def _lead(manifest: Row) -> str:
    models, constitution = manifest["models"], manifest["constitution"]
    return (
        f"Written by {model_name(models['policy']['spec'])}, criticised and rewritten by the principles of "
        f"{constitution['id']}; critic: {model_name(models['critic']['spec'])}."
    )


def _numbers(counts: Row) -> dict[str, str]:
    shown = {
        "prompts": counts["prompts"],
        "rounds": counts["rounds"],
        "demonstrations": counts["sft_rows"],
        "pairs to be judged": counts["pairs"],
        "failed": sum(counts["failures"].values()),
    }
    return {name: f"{count:,}" for name, count in shown.items()}


def _without(counts: Row, found: Revisions) -> str:
    causes: Counter[str] = Counter(counts["dropped"]) + Counter(counts["failures"])
    if not causes:
        return how("Every prompt has one.")
    words = {name: text(FAILURES.get(name, name.replace("_", " "))) for name in causes}
    rows = [[words[name], f"{count:,}"] for name, count in causes.most_common()]
    shown = "".join(
        f"<article><h4>{words[name]}: one of them</h4>{clipped(told[-1]['text'] or told[0]['text'] or '')}"
        "</article>"
        for name, told in found.stopped.items()
        if name in words
    )
    return table("By cause", ("cause", "prompts"), rows) + shown


def _principles(counts: Counter[str]) -> str:
    rows = [[text(name), f"{count:,}"] for name, count in counts.most_common()]
    return table("Rounds by principle", ("principle", "rounds"), rows) if rows else ""


def _lengths(told: Lengths) -> str:
    last, first = told.sides
    if not last.n:
        return ""
    names = ("last revision", "response")
    chart = Chart("Length of the texts", "characters", names, beside=True)
    shown = {
        "last revision, mean length": number(last.mean),
        "response, mean length": number(first.mean),
        "the revision is the longer one": percent(told.longer / last.n),
    }
    said = "If nearly all are longer, a judge that likes length will like them for that."
    drawn = figure("Length, before and after", histogram(told.tally, chart), said, names)
    return beside(drawn, f"<div>{facts(shown)}</div>")


def _article(asked: Mapping[str, str], rows: list[Row]) -> str:
    prompt = f'<p class="tag">Prompt</p>{clipped(asked.get(rows[0]["prompt_id"], ""))}'
    return f"<article>{prompt}{''.join(_rounds(rows))}</article>"


def _rounds(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        name = f"Round {row['round']}, by {text(row['principle'])}" if row["round"] else "Response"
        said = row["critique"]
        critique = f'<div class="reason"><p class="tag">Critique</p>{clipped(said)}</div>' if said else ""
        won = " won" if row is rows[-1] else ""
        body = f'<p class="tag">{name}</p>{clipped(row["text"] or "")}'
        yield f'{critique}<div class="reason side{won}">{body}</div>'


def _making(manifest: Row) -> str:
    usage = manifest["usage"]
    told = {
        "constitution": text(manifest["constitution"]["id"]),
        "constitution, hash": text(manifest["constitution"]["hash"]),
        "seed": text(manifest["seed"]),
        "calls paid": number(usage["requests"]),
        "calls answered by the ledger": number(usage["cached_requests"]),
        "cost": money(usage["cost_usd"]),
    }
    for name, seconds in manifest["timings"].items():
        told[f"time, {name.replace('_', ' ')}"] = time_in_words(seconds)
    return facts(told)
