"""report.html of a sweep over β: how far each moved the policy, and what that was worth. Runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.forest import Rate, forest
from pipelines.markup import beside, facts, figure, give_or_take, how, many, number, signed, table, text
from pipelines.page import page, section
from pipelines.report.words import model_name
from pipelines.training_report.page import options_of, write_training_report
from prefgen.files import write_whole

Entry = Mapping[str, Any]


def write_sweep_page(folder: Path, result: Mapping[str, Any]) -> None:
    """Writes the page, and that of every training. `result`: what sweep.json holds."""
    entries = result["betas"]
    for entry in entries:
        if (_training(folder, entry) / "training.json").is_file():
            write_training_report(_training(folder, entry))
    whole = page(
        "prefgen dpo-sweep",
        f"DPO with {len(entries)} values of β",
        text(_lead(result)),
        facts({f"β = {entry['beta']:g}, KL in nats": number(entry["kl"], 2) for entry in entries}, "figures"),
        (
            section("What each β is worth", _worth(result)),
            section("How far each went", _table(folder, entries)),
            section("How it was made", facts(options_of(result["config"]))),
        ),
        "The best β is the one people prefer, not the one with the largest margin.",
    )
    write_whole(folder / "report.html", whole)


def _training(folder: Path, entry: Entry) -> Path:
    """Wherever the sweep lies now."""
    return folder / Path(entry["folder"]).name


def _lead(result: Mapping[str, Any]) -> str:
    config, judge = result["config"], result["judge"]
    judged = f"; win rates by {model_name(judge)}" if judge else ""
    return (
        f"{model_name(config['model'])} trained on {config['data']}, once for each β, and asked "
        f"{many(result['n_prompts'], 'held-out prompt')}{judged}."
    )


def _worth(result: Mapping[str, Any]) -> str:
    rates = [
        Rate(f"β = {entry['beta']:g}, KL {number(entry['kl'], 2)}", entry["win_rate"], entry["win_rate_ci"])
        for entry in result["betas"]
        if entry["win_rate"] is not None
    ]
    if not rates:
        return how(f"Not known: {result['note']}.")
    said = "With 95% intervals over prompts. Of two that are alike, the one with the smaller KL is safer."
    return beside(figure("Win rate over the start", forest("Win rate over the start", rates), said))


def _table(folder: Path, entries: list[Entry]) -> str:
    rows = []
    for entry in entries:
        name, error = f"β = {entry['beta']:g}", entry["kl_standard_error"]
        report = _training(folder, entry)
        linked = f'<a href="{text(report.name)}/report.html">{name}</a>'
        rows.append(
            [
                linked if (report / "report.html").is_file() else name,
                number(entry["loss"], 3),
                signed(entry["margin"], 3),
                signed(entry["margin_nats"]),
                f"{100 * entry['accuracy']:.0f}%",
                give_or_take(number(entry["kl"], 2), error, 2),
            ]
        )
    head = ("", "loss", "margin", "in nats", "ranked right", "KL, nats an answer")
    said = (
        "Loss, margin and accuracy on held-out pairs. The margin is β times the nats, so that only the nats "
        "can be compared. KL (± one standard error) is how far the answers went from the start."
    )
    return table("On held-out pairs and prompts", head, rows) + how(said)
