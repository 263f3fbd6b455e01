"""report.html of a quickstart: what came out, with links to the run and the trainings. Runs no script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.forest import Rate, forest
from pipelines.markup import beside, clipped, facts, figure, how, many, percent, table, text
from pipelines.page import page, section
from prefgen.files import write_whole

Results = Mapping[str, Any]
_SHOWN = 3


def write_quickstart_page(out: Path, results: Results) -> None:
    """`results`: of `pipelines.quickstart.load_results`."""
    stages = results["rubric"]["stages"]
    named = " and ".join(name.upper() for name in stages)
    whole = page(
        "prefgen quickstart",
        text(
            f"{named}: {' and '.join(_won(told) for told in stages.values())} over the start, by the rubric"
        ),
        text(_lead(results)),
        facts(_numbers(results), "figures"),
        (
            section("What was made", _links(out, stages)),
            section("Win rates over the start", _rates(results)),
            section("Replies before and after", "".join(_replies(out / "samples.jsonl", list(stages)))),
        ),
        "A toy task with simulated labels: it shows that the machinery works, and nothing about your models.",
    )
    write_whole(out / "report.html", whole)


def _won(told: Results) -> str:
    return f"{told['win_rate']:.0f}%"


def _lead(results: Results) -> str:
    judge = results["judge"]
    return (
        "The rubric is code that the judge never sees; believe it where the two differ. The judge agrees "
        f"with {percent(judge['agreement'])} of {judge['n']:,} held-out labels of simulated annotators."
    )


def _numbers(results: Results) -> dict[str, str]:
    counts = results["counts"]
    shown = {
        "prompts": counts["prompts"],
        "responses": counts["candidates"],
        "judgments": counts["judgments"],
        "preference pairs": counts["pairs"],
        "held-out prompts": results["rubric"]["n"],
    }
    return {name: f"{count:,}" for name, count in shown.items()}


def _links(out: Path, stages: Results) -> str:
    found = {"run/report.html": "the preference pairs: how they were made, and some to read"}
    for name in stages:
        found[f"models/{name}/report.html"] = f"the {name.upper()} training: curves and answers"
    items = "".join(
        f'<li><a href="{text(path)}">{text(path)}</a>: {text(words)}</li>'
        for path, words in found.items()
        if (out / path).is_file()
    )
    return f'<ul class="said">{items}</ul>'


def _rates(results: Results) -> str:
    by_rubric, by_judge = results["rubric"]["stages"], results["evaluation"]["stages"]
    rates = [
        Rate(f"{name.upper()}, by the {who}", told[name]["win_rate"], told[name]["ci"])
        for name in by_rubric
        for who, told in (("rubric", by_rubric), ("judge", by_judge))
    ]
    rows = [
        [
            name.upper(),
            f"{told['pass_rate_before']:.0f}%",
            f"{told['pass_rate_after']:.0f}%",
            *_lengths(by_judge[name]),
        ]
        for name, told in by_rubric.items()
    ]
    n = results["rubric"]["n"]
    said = f"On {many(n, 'held-out prompt')}, with 95% intervals; the dashed line is an even match."
    head = ("", "pass all checks, before", "after", "characters, before", "after")
    words = how("Replies that pass every check of the rubric, and their mean length.")
    drawn = figure("Win rates", forest("Win rates over the start", rates), said)
    return beside(drawn, f"<div>{table('Replies', head, rows)}{words}</div>")


def _lengths(told: Results) -> Iterator[str]:
    yield from (f"{told[f'length_{side}_mean']:.0f}" for side in ("baseline", "model"))


def _replies(path: Path, stages: list[str]) -> Iterator[str]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in islice(lines, _SHOWN):
            row = json.loads(line)
            sides = "".join(
                f'<div class="side{" won" if name in stages else ""}"><p class="tag">{text(name.upper())}</p>'
                f"{clipped(row[name])}</div>"
                for name in ("sft", *stages)
                if name in row
            )
            prompt = f'<p class="tag">Prompt</p>{clipped(row["prompt"])}'
            yield f'<article>{prompt}<div class="grid">{sides}</div></article>'
