"""What a reward model, or each of an ensemble and all of them, is worth on held-out pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.forest import Rate, forest
from pipelines.markup import beside, figure, how, number, table, text
from prefgen.files import read_json

HELD_OUT, ENSEMBLE = "heldout.json", "ensemble.json"
_USES = {
    "mean": "all, their mean",
    "worst": "all, the lowest",
    "uncertainty": "all, the mean less the spread",
}


def members_of(folder: Path) -> list[Path]:
    """The trainings of an ensemble, in order; none of another training."""
    if not (folder / ENSEMBLE).is_file():
        return []
    found = folder.glob("member-*/training.json")
    return sorted((path.parent for path in found), key=lambda path: (len(path.name), path.name))


def held_out(folder: Path) -> str:
    """Nothing where it was not measured."""
    if not (folder / HELD_OUT).is_file():
        return ""
    told = read_json(folder / HELD_OUT)
    shown = [(name, quality) for name, quality in _named(folder, told) if quality["n"]]
    if not shown:
        return how("No held-out pairs: nothing is known of what the rewards are worth.")
    rates = [
        Rate(name, 100 * quality["accuracy"]["value"], [100 * end for end in quality["accuracy"]["ci"]])
        for name, quality in shown
    ]
    n = shown[0][1]["n"]
    said = f"How often the chosen one of {n:,} held-out pairs has the higher reward, with 95% intervals."
    drawn = figure("Pairs ranked right", forest("Pairs ranked right", rates), said)
    links = "".join(
        f'<li><a href="{text(path.name)}/report.html">{text(path.name)}</a></li>'
        for path in members_of(folder)
    )
    trainings = f'<h3>Trainings</h3><ul class="said">{links}</ul>' if links else ""
    return beside(drawn, f"<div>{trainings}</div>") + _table(shown)


def _named(folder: Path, told: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "members" not in told:
        yield "reward model", told
        return
    for name, words in _USES.items():
        if name in told:
            yield words, told[name]
    for number_, quality in enumerate(told["members"], 1):
        yield f"member {number_}", quality


def _table(shown: list[tuple[str, Mapping[str, Any]]]) -> str:
    rows = [
        [
            name,
            _short(quality["log_loss"]),
            f"{_short(quality['ece'])} ({_short(quality['ece_noise_floor'])})",
            _short(quality["temperature"]),
            _short(quality["length_correlation"]),
        ]
        for name, quality in shown
    ]
    head = ("", "log loss", "calibration error", "temperature", "reward and length")
    said = (
        "Log loss in nats: 0.693 is chance. Calibration error: how far the stated probability is from the "
        "share that is right; in brackets, what an honest model would show on as many pairs. A temperature "
        "above 1 says that the model is surer than right. The last column is the correlation of reward and "
        "characters: near 1, longer is simply better."
    )
    return table("On held-out pairs", head, rows) + how(said)


def _short(value: float | None) -> str:
    return "–" if value is None else number(value, 2)
