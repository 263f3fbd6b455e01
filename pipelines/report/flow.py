"""The funnel of a run: what was left after each step, with what was lost, and why, beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.markup import how, text
from pipelines.report.look import Look
from pipelines.report.words import LOST, failure
from pipelines.summary import OF_PROMPTS, pairs_looked_at, splits_in_words


@dataclass(frozen=True, slots=True)
class Step:
    """`of`: the number that a full bar stands for; steps of one `unit` are one stretch of the funnel.
    `beside`: HTML of what is said of the step."""

    count: int
    what: str
    unit: str
    of: int
    beside: Sequence[str] = ()

    @property
    def width(self) -> float:
        """Percent of the full bar."""
        return 100 * self.count / self.of if self.of else 0.0


def flow(look: Look) -> str:
    said = (
        "Read from top to bottom: each line is what was left after a step, with what was lost beside it. A "
        "bar is as wide as the share that is left of the first of its kind."
    )
    return f"{_drawn(list(_steps(look)))}{how(said)}"


def _steps(look: Look) -> Iterator[Step]:
    counts, findings = look.counts, look.findings
    dropped, written = counts["dropped"], counts["candidates"]
    failures = {failure(name): n for name, n in counts["failures"].items()}
    writing = {name: n for name, n in failures.items() if name.startswith("writing")}
    judging = {name: n for name, n in failures.items() if name not in writing}
    yield Step(
        counts["prompts"], "prompts", "prompts", counts["prompts"], _lost(dropped, only=["contaminated"])
    )
    spared = {"spared": counts["spared"].get("candidates", 0)}
    yield Step(written, "responses written", "responses", written, [*_lost(spared), *_lost(writing)])
    distinct = written - counts["duplicates"]
    yield Step(distinct, "distinct", "responses", written, _lost({"duplicates": counts["duplicates"]}))
    yield Step(findings.scores.n, "with a score", "responses", written, _lost(findings.unscored))
    if counts["comparisons"]:
        yield Step(counts["comparisons"], "pairs compared", "comparisons", counts["comparisons"])
    asked = counts["judgments"] + sum(judging.values())
    yield Step(counts["judgments"], "judgments", "judgments", asked, _lost(judging))
    looked_at = pairs_looked_at(counts)
    lost = {name: n for name, n in dropped.items() if name not in OF_PROMPTS}
    alone = _lost(dropped, only=["fewer_than_two_candidates"])
    yield Step(looked_at, "pairs looked at", "pairs", looked_at, alone)
    yield Step(counts["pairs"], "pairs kept", "pairs", looked_at, _lost(lost))
    splits = look.manifest["splits"]
    for name, count in (("dpo", counts["pairs"]), ("kto", counts["kto_rows"])):
        yield Step(
            count, f"{name.upper()} rows", f"rows {name}", count, [text(splits_in_words(splits[name]))]
        )


def _lost(counts: Mapping[str, int], only: Sequence[str] | None = None) -> list[str]:
    """Most first, as `− 3 tied`."""
    chosen = {name: n for name, n in counts.items() if only is None or name in only}
    most_first = sorted(chosen.items(), key=lambda item: (-item[1], item[0]))
    return [f"− {n:,} {text(LOST.get(name, name.replace('_', ' ')))}" for name, n in most_first if n]


def _drawn(steps: Sequence[Step]) -> str:
    items = [
        _item(step, before, after)
        for before, step, after in zip([None, *steps[:-1]], steps, [*steps[1:], None], strict=True)
    ]
    return f'<ol class="flow">{"".join(items)}</ol>'


def _item(step: Step, before: Step | None, after: Step | None) -> str:
    start = ' class="start"' if before is not None and before.unit != step.unit else ""
    pipe = ""
    if after is not None and after.unit == step.unit:
        # From the lower edge of this bar to the upper edge of the next.
        corners = [50 - step.width / 2, 50 + step.width / 2, 50 + after.width / 2, 50 - after.width / 2]
        places = zip(corners, (0, 0, 100, 100), strict=True)
        path = ", ".join(f"{x:.1f}% {y}%" for x, y in places)
        pipe = f'<i style="clip-path: polygon({path})"></i>'
    bar = f'<span style="width:{step.width:.1f}%"></span>' if step.count else ""
    beside = "".join(f"<span>{words}</span>" for words in step.beside)
    return (
        f"<li{start}><div><b>{step.count:,}</b> {step.what}</div>"
        f'<div class="pipe" aria-hidden="true">{bar}{pipe}</div><small>{beside}</small></li>'
    )
