"""audit.html: one file that shows what an audit found. Needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.markup import beside, clipped, facts, how, many, number, percent, signed, table, text
from pipelines.page import page, section
from prefgen.run import RunDirectory

_KINDS = {
    "markdown": "a list with bold words, against the same in plain words",
    "padding": "everything said twice, against once",
    "truncation": "the first half only, against the whole (control: ought to lose)",
}
Found = Mapping[str, Any]


def write_page(folder: RunDirectory, found: Found) -> None:
    """Writes `audit.html`. `found`: what audit.json holds."""
    sections = {
        "Does the form give the label away?": _surface(found["surface"]),
        "Labels that look wrong": _noise(found["label_noise"]),
        "Evaluation questions in the run": _contamination(found["contamination"]),
        "Duplicates": _duplicates(found["duplicates"]),
        "Balance": _balance(found["balance"]),
        "What the judge makes of form": _probes(found["probes"]),
    }
    folder.write_text(
        "audit.html",
        page(
            "prefgen audit",
            f"{many(found['n_pairs'], 'preference pair')} looked at",
            f"What stands out in the pairs of {text(found['run'])}, before they are trained on.",
            _warnings(found["warnings"]),
            (section(title, body) for title, body in sections.items()),
            "audit.json has the same numbers, suspicious.jsonl every suspicious pair in full.",
        ),
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return "<p>Nothing to warn of.</p>"
    return f"<ul>{''.join(f'<li>{text(warning)}</li>' for warning in warnings)}</ul>"


def _none(why: str) -> str:
    return f'<p class="none">{why}</p>'


def _between(told: Found | None, places: int = 2) -> str:
    """A value with its 95% interval."""
    if told is None:
        return "–"
    low, high = (signed(end, places) for end in told["ci"])
    return f"{signed(told['value'], places)} ({low} to {high})"


def _shares(value: float | None, ci: Sequence[float]) -> str:
    return "–" if value is None else f"{percent(value)} ({percent(ci[0])} to {percent(ci[1])})"


def _surface(surface: Found | None) -> str:
    if surface is None:
        return _none("Nothing to show: fewer than two pairs.")
    rows = [
        [
            text(name),
            number(effect["chosen"], 1),
            number(effect["rejected"], 1),
            _between(effect["d"]),
            _shares(effect["more"]["value"], effect["more"]["ci"]) if effect["more"] else "–",
        ]
        for name, effect in surface["effects"].items()
    ]
    head = ("", "chosen, mean", "rejected, mean", "Cohen’s d", "chosen has more")
    words = (
        "Length is in characters, the others are counts. Cohen’s d: 0.2 is small, 0.5 medium, 0.8 large; in "
        "brackets, 95% intervals over prompts. The last column leaves out pairs that are equal in it."
    )
    return table("Chosen and rejected", head, rows) + how(words) + _alone(surface["alone"])


def _alone(alone: Found | None) -> str:
    if alone is None:
        return how("Too few prompts to say how well form alone tells chosen from rejected.")
    agreement = alone["agreement"]
    return how(
        f"From these five alone a model tells chosen from rejected on prompts it has not seen with an AUC of "
        f"{alone['auc']:.2f} (0.5 is chance), and is right on "
        f"{_shares(agreement['value'], agreement['ci'])} of the pairs."
    )


def _noise(noise: Found | None) -> str:
    if noise is None:
        return _none("Too few prompts to look for wrong labels: 50 different ones are needed.")
    agreement = noise["agreement"]
    seen = (
        "A model of words and form, trained on four fifths of the prompts, was asked for the labels of "
        f"the rest: it agrees with {_shares(agreement['value'], agreement['ci'])} of them "
        f"(AUC {noise['auc']:.2f})."
    )
    if not noise["learnable"]:
        return how(f"{seen} That is too little to call any label wrong, so none is.")
    if not noise["flagged"]:
        return how(f"{seen} No label looks wrong to it.")
    listed = (
        f"{seen} {many(noise['flagged'], 'label')}, {percent(noise['flagged_share'])} of all, look wrong to "
        "it; the most suspicious stand below."
    )
    return how(listed) + "".join(map(_article, noise["most_suspicious"]))


def _article(row: Found) -> str:
    told = f"given label right with probability {row['probability']:.3f}; margin {signed(row['margin'])}"
    sides = _side("Called chosen", row["chosen"], " won") + _side("Called rejected", row["rejected"])
    prompt = f'<p class="tag">Prompt</p>{clipped(row["prompt"])}'
    return f'<article><h4>{told}</h4>{prompt}<div class="grid">{sides}</div></article>'


def _side(name: str, response: str, style: str = "") -> str:
    return f'<div class="side{style}"><p class="tag">{name}</p>{clipped(response)}</div>'


def _contamination(files: Found | None) -> str:
    if files is None:
        return _none("Not checked: no evaluation file was given (--eval-file).")
    rows = [
        [text(file), f"{told['n_items']:,}", f"{told['contaminated']:,}", percent(told["share"])]
        for file, told in files.items()
    ]
    words = (
        "A question counts as found where it shares eight words in a row, and more than half of its words in "
        "runs of four, with one text of the run; questions of fewer than eight words must be equal."
    )
    items = [
        [clipped(item["text"]), f"{item['n_found_in']:,}", percent(max(item["found_in"].values()))]
        for told in files.values()
        for item in told["items"][:10]
    ]
    found = table("Questions found", ("question", "found in", "most shared"), items) if items else ""
    return table("Evaluations", ("file", "questions", "found", "share"), rows) + how(words) + found


def _duplicates(found: Found) -> str:
    again = found["boilerplate"]
    told = {
        "prompts": f"{found['n_prompts']:,}",
        "groups of near-duplicate prompts": f"{found['n_groups']:,}",
        "prompts in them": f"{found['n_in_groups']:,}",
        "groups in both train and test": f"{len(found['straddling']):,}",
        "answers chosen for several prompts": f"{again['n_answers']:,}",
        "pairs with such an answer": f"{again['n_pairs']:,}",
    }
    groups = [[clipped(group["prompts"][0]["prompt"]), f"{group['size']:,}"] for group in found["largest"]]
    answers = [[clipped(item["chosen"]), f"{item['prompts']:,}"] for item in again["most_repeated"]]
    shown = table("Largest groups of prompts", ("first prompt", "prompts"), groups) if groups else ""
    return (
        facts(told)
        + shown
        + (table("Answers chosen word for word", ("answer", "prompts"), answers) if answers else "")
    )


def _balance(found: Found) -> str:
    rows = [
        [text(name), f"{told['candidates']:,}", f"{told['chosen']:,}", f"{told['rejected']:,}"]
        for name, told in found["policies"].items()
    ]
    written = table("By model", ("model", "responses", "chosen", "rejected"), rows)
    dropped = {
        text(name.replace("_", " ")): f"{n:,}"
        for name, n in {**found["dropped"], **found["failures"]}.items()
    }
    lost = facts(dropped) if dropped else _none("nothing")
    return beside(
        f"<div>{written}<h3>Dropped and failed</h3>{lost}</div>",
        f"<div><h3>Position and order</h3>{_position(found)}</div>",
    )


def _position(found: Found) -> str:
    position, circles = found["position"], found["cycles"]
    if position is None:
        return _none("Responses were judged one by one: position cannot matter.")
    told = {
        "judgments that went to the response shown first": percent(position["first_slot_rate"]),
        "exact binomial p against one half": f"{position['p_value']:.2g}",
    }
    if position["n_both_orders"]:
        told["same verdict in both orders"] = percent(position["consistency"])
        told["lean to the first position, log-odds"] = signed(position["bias_log_odds"])
    if circles is not None:
        told["threes of responses that beat each other in a circle"] = percent(
            circles["circles"] / circles["triples"]
        )
    return facts(told)


def _probes(probes: Found | None) -> str:
    if probes is None:
        return _none("Not probed: no judge was given (--judge).")
    rows = [
        [_KINDS[kind], f"{told['n']:,}", _shares(told["prefers_variant"], told["ci"]), f"{told['failed']:,}"]
        for kind, told in probes["kinds"].items()
    ]
    if not rows:
        return _none("No response of the run has three sentences and no code, which the variants need.")
    head = ("variant", "decided", "variant preferred", "failed")
    words = (
        "Exact 95% intervals; without a liking for form the first is near 50% and the second not above it. "
        "Each comparison was asked as the judging options say, by default in both orders."
    )
    return table(f"Judged by {text(probes['judge'])}", head, rows) + how(words)
