"""A training stage from the command line: its progress on the terminal, its outcome at the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.reward_models import REPORT as HELD_OUT
from pipelines.reward_models import held_out_pairs
from pipelines.serving import check_served
from pipelines.training_report.page import write_training_report
from pipelines.uses import record_training
from pipelines.watch_judge import train_watched
from trainers import processes
from trainers.alarms import TEXTS
from trainers.config import StageConfig
from trainers.monitor import OnLog
from trainers.report import TrainingReport, read_report
from trainers.reward import RewardConfig
from trainers.trackers import places

COMPARED = 32
"""Held-out responses on which a reward is compared in both engines."""
_SHOWN = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "reward",
    "eval_reward",
    "kl",
    "objective/scores",
    "eval_objective/scores",
    "objective/kl",
    "rewards/margins",
    "learning_rate",
    "watch_kl",
    "watch_kl_start",
    "watch_length_ratio",
    "watch_entropy",
    "watch_held_out",
    "watch_reward_length_correlation",
)


def train_stage(
    run: Callable[..., Path],
    config: StageConfig,
    console: Console,
    *,
    online: bool = False,
    check_vllm: bool = False,
    on_log: OnLog | None = None,
) -> tuple[dict[str, Any], str]:
    """Runs a stage and returns its `training.json` and the same in a few lines.

    `check_vllm`: loads the model in vLLM as well and raises GateError where it answers otherwise. `on_log`:
    hears the numbers first, and ends the training by raising.
    """

    def show(values: dict[str, float]) -> None:
        if on_log is not None:
            on_log(values)
        for name, text in TEXTS.items():
            if f"alarm_{name}" in values:
                console.warn(f"alarm at step {values['step']:.0f}: {text.meaning} {text.remedy}")
                return
        console.note("  ".join(f"{_short(name)} {values[name]:.4g}" for name in _SHOWN if name in values))

    # An online stage opens its judges itself.
    if config.watched_by is None or online:
        folder = run(config, show)
    else:
        folder = asyncio.run(train_watched(run, config, console, show))
    report = read_report(folder)
    if not processes.is_main():
        return report.model_dump(mode="json"), ""
    record_training(config.data, folder)
    write_training_report(folder)
    for warning in report.warnings:
        console.warn(warning)
    result, text = results_of(folder)
    if config.report_to:
        result["trackers"] = places(config.report_to, folder)
        told = (f"{name} ({place})" if place else name for name, place in result["trackers"].items())
        text += f"\nmetrics went to {', '.join(told)} too"
    if check_vllm:
        with console.step("comparing vLLM with transformers"):
            merged = folder / "merged"
            served = merged if merged.is_dir() else folder
            said = held_out_pairs(config)[0].said[:COMPARED] if isinstance(config, RewardConfig) else []
            result["vllm"] = check_served(served, reward=report.stage == "reward", said=said)
        text += f"\nserved by vLLM, it differs by at most {result['vllm']['max_difference']:.2g}"
    return result, text


def _reward_summary(found: dict[str, Any]) -> str:
    """What a reward model is worth; of an ensemble, the mean of its members."""
    told = found.get("mean", found)
    if not told["n"]:
        return "no held-out pairs: nothing is known of what the rewards are worth"
    low, high = told["accuracy"]["ci"]
    return (
        f"on {told['n']} held-out pairs: accuracy {told['accuracy']['value']:.3f} [{low:.3f}, {high:.3f}], "
        f"log loss {told['log_loss']:.3f}, calibration error {told['ece']:.3f} (noise "
        f"{told['ece_noise_floor']:.3f}), temperature {told['temperature']:.2f}, correlation of reward and "
        f"length {_or_none(told['length_correlation'])}"
    )


def _or_none(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def results_of(folder: Path) -> tuple[dict[str, Any], str]:
    """A complete training: its `training.json`, of a reward model with its worth; the same in a few lines."""
    report = read_report(folder)
    result, text = report.model_dump(mode="json"), _summary(report, folder)
    if (folder / HELD_OUT).is_file():
        result["held_out"] = json.loads((folder / HELD_OUT).read_text("utf-8"))
        text += f"\n{_reward_summary(result['held_out'])}"
    return result, text


def report_training(folder: Path) -> tuple[dict[str, Any], str]:
    """Writes `report.html` of a complete training anew; returns what `results_of` does."""
    write_training_report(folder)
    return results_of(folder)


def _short(name: str) -> str:
    return name.removeprefix("watch_").replace("reward_length_correlation", "reward-length correlation")


def _summary(report: TrainingReport, folder: Path) -> str:
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in report.counts.items() if count)
    lines = [f"{report.stage}: {report.steps} steps in {report.seconds:.0f} s; rows: {counts}"]
    if report.first_eval and report.last_eval:
        before, after = report.first_eval, report.last_eval
        shared = [
            name
            for name in ("loss", "reward", "objective/scores", "rewards/accuracies", "accuracy")
            if name in before and name in after and (name, report.stage) != ("loss", "grpo")
        ]
        told = (f"{name} {before[name]:.4g} → {after[name]:.4g}" for name in shared)
        lines.append(f"on held-out rows: {'; '.join(told)}")
    if report.stopped_early:
        lines.append("stopped early: the loss on held-out rows no longer fell; the best model was kept")
    lines += [f"alarm at step {alarm.step}: {alarm.seen}" for alarm in report.alarms]
    if report.stopped_by_alarm is not None:
        kept = "no earlier checkpoint was left, so the last model was kept"
        if report.kept_step != report.steps:
            kept = f"the model of step {report.kept_step} was kept"
        lines.append(f"stopped by the alarm; {kept}")
    lines.append(
        f"written to {folder}, with report.html; loaded again, its outputs differ by at most "
        f"{report.reload.max_difference:.2g}"
    )
    return "\n".join(lines)
