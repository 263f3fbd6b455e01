"""report.html of a training: one file that shows how it went. Needs no network and runs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.markup import beside, capital, clipped, facts, how, many, number, table, text
from pipelines.page import page, section
from pipelines.training_report.rewards import held_out, members_of
from pipelines.training_report.series import Plot, Point, Series, drawn
from prefgen.files import write_whole
from trainers.alarms import LONGER, Alarm
from trainers.report import TrainingReport, read_report

Line = Mapping[str, object]
_STAGES = {
    "sft": "Supervised fine-tuning",
    "reward": "Reward model",
    "dpo": "Direct preference optimization",
    "kto": "Kahneman-Tversky optimization",
    "orpo": "Odds-ratio preference optimization",
    "grpo": "Group relative policy optimization",
    "ppo": "Proximal policy optimization",
}
_ALARMS = {
    "over_optimised": "It games its reward",
    "length": "Answers grow longer",
    "chosen_falls": "Chosen responses become less likely",
    "reward_follows_length": "Reward follows length",
    "kl": "Too far from the start",
    "entropy": "Entropy collapses",
    "repetition": "Answers repeat themselves",
    "refusals": "More refusals",
}
_SAMPLES_SHOWN = 4


def write_training_report(folder: Path) -> None:
    """Writes `report.html` of a complete training. Raises InputError for a folder that is none."""
    report = read_report(folder)
    lines, samples = _read(folder / "metrics.jsonl"), _read(folder / "samples.jsonl")
    for member in members_of(folder):
        write_training_report(member)
    write_whole(folder / "report.html", training_page(report, lines, samples, held_out(folder)))


def _read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def training_page(
    report: TrainingReport, lines: Sequence[Line], samples: Sequence[Line], rewards: str = ""
) -> str:
    """The whole page. `lines` are those of `metrics.jsonl`, `samples` those of `samples.jsonl`; `rewards`:
    what a reward model is worth, as HTML."""
    return page(
        "prefgen training report",
        text(_STAGES.get(report.stage, report.stage)),
        _lead(report),
        _figures(report),
        (
            section("Alarms", _alarms(report)),
            section("Warnings", _listed(report.warnings)),
            section("What its rewards are worth", rewards),
            section("How it went", _curves(report, lines)),
            section("Before and after", _before_and_after(lines, report)),
            section("Answers to the same prompts", _answers(samples, report)),
            section("Rows", _rows(report.counts)),
            section("How it was made", _making(report)),
        ),
        "Read some answers yourself before you use the model.",
    )


def _lead(report: TrainingReport) -> str:
    config = report.config
    kind = "with LoRA" if config.get("lora") or config.get("qlora") else "in full"
    return (
        f"<b>{text(config['model'])}</b>, trained {kind} on {text(config['data'])}. The model is in "
        f"{text(config['out'])}."
    )


def _figures(report: TrainingReport) -> str:
    shown = {
        "rows trained on": f"{report.counts.get('train_used', 0):,}",
        "held-out rows": f"{report.counts.get('eval_used', 0):,}",
        "steps": f"{report.steps:,}",
        "alarms": f"{len(report.alarms):,}",
        "time": f"{number(report.seconds)} s"
        if report.seconds < 600
        else f"{number(report.seconds / 60)} min",
    }
    if report.kept_step not in (None, report.steps):
        shown["step kept"] = f"{report.kept_step:,}"
    return facts(shown, "figures")


def _alarms(report: TrainingReport) -> str:
    if not report.alarms:
        watched = report.config.get("watch_prompts")
        quiet = "No alarm was raised." if watched else "The answers were not watched (--watch-prompts 0)."
        return how(quiet)
    ended = ""
    if report.stopped_by_alarm is not None:
        kept = "no earlier checkpoint was left, so the last model was kept"
        if report.kept_step != report.steps:
            kept = f"the model of step {report.kept_step:,} was kept"
        ended = f"<p>The alarm ended the training at step {report.steps:,}; {kept}.</p>"
    return ended + "".join(map(_alarm, report.alarms))


def _alarm(alarm: Alarm) -> str:
    return (
        f'<article class="alarm"><h3>{text(_ALARMS[alarm.name])}, step {alarm.step:,}</h3>'
        f"<p>{text(capital(alarm.seen))}.</p><p>{text(alarm.meaning)}</p>"
        f"<p><b>What to do:</b> {text(alarm.remedy)}</p></article>"
    )


def _listed(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
    return f'<ul class="said">{items}</ul>' if items else ""


# ----------------------------------------------------------------------------------------------------- curves


def _curves(report: TrainingReport, lines: Sequence[Line]) -> str:
    plots = (drawn(plot, report.steps) for plot in _plots(report, lines))
    shown = [*filter(None, plots)]
    return beside(*shown) if shown else ""


def _plots(report: TrainingReport, lines: Sequence[Line]) -> list[Plot]:
    """Every curve there may be; those without values are not drawn."""

    def of(split: str, name: str, shown: str) -> Series:
        return Series(shown, _points(lines, split, name))

    def marks(*names: str) -> list[float]:
        return [float(alarm.step) for alarm in report.alarms if alarm.name in names]

    target = report.config.get("watch_kl")
    kl_level = (float(target), "target") if isinstance(target, int | float) else None
    kept = None if report.kept_step in (None, report.steps) else float(report.kept_step or 0)
    return [
        Plot("Loss", "Lower is better, but of grpo and ppo it says little; held-out rows teach nothing.",
             [of("train", "loss", "training"), of("eval", "loss", "held out")], kept=kept),
        Plot("Reward", "Mean reward of the sampled answers, in the reward’s own unit.",
             [of("train", "reward", "training"), of("eval", "reward", "held out"),
              of("train", "objective/scores", "training"), of("eval", "objective/scores", "held out")],
             marks=marks("over_optimised"), kept=kept),
        Plot("Held-out judge", "Score of a judge that teaches nothing, on the watched prompts.",
             [of("watch", "held_out", "score")], marks=marks("over_optimised"), kept=kept),
        Plot("Reward margin", "By how much the chosen response leads; for a policy, its implicit reward.",
             [of("train", "rewards/margins", "training"), of("eval", "rewards/margins", "held out"),
              of("train", "margin", "training"), of("eval", "margin", "held out")],
             marks=marks("over_optimised"), kept=kept),
        Plot("Accuracy", "Share of pairs whose chosen response leads.",
             [of("train", "rewards/accuracies", "training"), of("eval", "rewards/accuracies", "held out"),
              of("train", "accuracy", "training"), of("eval", "accuracy", "held out")], kept=kept),
        Plot("Divergence from the start", "KL(model ‖ start) on the model’s own answers, nats an answer.",
             [of("watch", "kl", "KL")], kl_level, marks("kl"), kept),
        Plot("Divergence from the start", "KL(start ‖ model) on the start’s answers (k3), nats an answer.",
             [of("watch", "kl_start", "KL")], kl_level, marks("kl"), kept),
        Plot("Length", "Tokens of an answer over those of the start for the same prompts.",
             [of("watch", "length_ratio", "ratio")], (LONGER, "alarm"), marks("length"), kept),
        Plot("Entropy", "Of the next token in the model’s answers, nats.",
             [of("watch", "entropy", "entropy")], marks=marks("entropy"), kept=kept),
        Plot("Log-probabilities", "Of the held-out responses, nats. Both falling is common; the chosen one "
             "should not fall far.",
             [of("eval", "logps/chosen", "chosen"), of("eval", "logps/rejected", "rejected")],
             marks=marks("chosen_falls"), kept=kept),
        Plot("Words", "Shares: repeated runs of four words, refusals, different word pairs (distinct-2).",
             [of("watch", "repetition", "repetition"), of("watch", "refusal", "refusals"),
              of("watch", "distinct_2", "distinct-2")], marks=marks("repetition", "refusals"), kept=kept),
        Plot("Formatting", "List items, headers, bold runs and code blocks for 100 words.",
             [of("watch", "formatting", "marks")], kept=kept),
        Plot("Reward and length", "Correlation of the two; above the level longer is simply better.",
             [of("watch", "reward_length_correlation", "held out"),
              of("train", "reward_length_correlation", "training")],
             (0.5, "alarm"), marks("reward_follows_length"), kept),
    ]  # fmt: skip


def _points(lines: Sequence[Line], split: str, name: str) -> list[Point]:
    found: list[Point] = []
    for line in lines:
        value, step = line.get(name), line["step"]
        if line["split"] == split and name in line and isinstance(step, int | float):
            found.append((float(step), float(value) if isinstance(value, int | float) else None))
    return found


# ---------------------------------------------------------------------------------------------------- numbers

_NUMBERS = {
    ("eval", "loss"): "loss",
    ("eval", "reward"): "reward",
    ("eval", "objective/scores"): "reward",
    ("eval", "rewards/accuracies"): "pairs ranked right",
    ("eval", "accuracy"): "pairs ranked right",
    ("eval", "rewards/margins"): "reward margin",
    ("eval", "logps/chosen"): "log-probability of chosen",
    ("watch", "held_out"): "held-out judge",
    ("watch", "kl"): "divergence from the start, nats",
    ("watch", "kl_start"): "divergence from the start, nats",
    ("watch", "entropy"): "entropy, nats a token",
    ("watch", "length"): "tokens of an answer",
    ("watch", "finished"): "share of answers that end by themselves",
    ("watch", "repetition"): "share repeated",
    ("watch", "distinct_2"): "distinct-2",
    ("watch", "refusal"): "share of refusals",
    ("watch", "formatting"): "marks for 100 words",
    ("watch", "reward_length_correlation"): "reward and length, correlation",
}


def _before_and_after(lines: Sequence[Line], report: TrainingReport) -> str:
    """Held-out rows and watched prompts at the first evaluation and at that of the model that was kept."""
    rows = []
    for (split, name), shown in _NUMBERS.items():
        points = [(step, value) for step, value in _points(lines, split, name) if value is not None]
        kept = [value for step, value in points if step == (report.kept_step or report.steps)]
        if points and kept:
            rows.append([shown, _shown(points[0][1]), _shown(kept[-1]), _shown(kept[-1] - points[0][1], "+")])
    return table("Held-out rows and watched prompts", ("", "before", "kept", "change"), rows) if rows else ""


def _shown(value: float, sign: str = "") -> str:
    return (
        f"{value:{sign}.3g}".replace("-", "−").replace("e−0", "e−").replace("+0", "0" if not value else "+0")
    )


def _answers(samples: Sequence[Line], report: TrainingReport) -> str:
    """A few watched prompts with the first answer and that of the model that was kept."""
    first = [line for line in samples if line["step"] == samples[0]["step"] and "completion" in line]
    kept = [line for line in samples if line["step"] == report.kept_step and "completion" in line]
    shown = list(zip(first, kept, strict=False))[:_SAMPLES_SHOWN]
    return "".join(_answer(before, after) for before, after in shown)


def _answer(before: Line, after: Line) -> str:
    turns = before["prompt"]
    last = turns[-1] if isinstance(turns, list) and turns else {}
    sides = "".join(
        f'<div class="side{won}"><p class="tag">{tag}{_judged(line)}</p>'
        f"{clipped(str(line['completion']))}</div>"
        for tag, line, won in (("before", before, ""), ("after", after, " won"))
    )
    return f'<article>{clipped(str(last.get("content", "")))}<div class="grid">{sides}</div></article>'


def _judged(line: Line) -> str:
    score = line.get("held_out")
    return f", held-out judge {_shown(score)}" if isinstance(score, int | float) else ""


def _rows(counts: Mapping[str, int]) -> str:
    told = {}
    for name, count in counts.items():
        side, _, fate = name.partition("_")
        kind = "dropped: " + fate.removeprefix("dropped_") if fate.startswith("dropped_") else fate
        if count or fate == "used":
            told[f"{'training' if side == 'train' else 'held out'}, {kind.replace('_', ' ')}"] = many(
                count, "row"
            )
    return facts(told)


def options_of(config: Mapping[str, object]) -> dict[str, str]:
    """The options of a training, but for those that were left empty or are off."""
    shown = {
        name: value for name, value in config.items() if value is not False and value not in (None, [], "")
    }
    return {f"--{name.replace('_', '-')}": text(value) for name, value in shown.items()}


def _making(report: TrainingReport) -> str:
    settings = {name.replace("_", " "): text(value) for name, value in report.settings.items()}
    checks = {
        "saved and loaded again, largest difference": f"{report.reload.max_difference:.2g}",
        "frozen weights": "unchanged" if report.frozen_sha256 else "none",
    }
    versions = {name: text(version) for name, version in report.versions.items()}
    return beside(
        f"<div><h3>Options</h3>{facts(options_of(report.config))}</div>",
        f"<div><h3>What they came to</h3>{facts(settings)}<h3>Checks</h3>{facts(checks)}"
        f"<h3>Versions</h3>{facts(versions)}</div>",
    )
