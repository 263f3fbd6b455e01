"""A training stage from the command line: its progress on the terminal, its outcome at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.serving import check_served
from trainers.config import StageConfig
from trainers.report import TrainingReport, read_report

_SHOWN = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "reward",
    "eval_reward",
    "kl",
    "rewards/margins",
    "learning_rate",
)


def train_stage(
    run: Callable[..., Path], config: StageConfig, console: Console, *, check_vllm: bool = False
) -> tuple[dict[str, Any], str]:
    """Runs a stage and returns its `training.json` and the same in a few lines.

    `check_vllm`: loads the model in vLLM as well and raises GateError where it answers otherwise.
    """

    def show(values: dict[str, float]) -> None:
        console.note("  ".join(f"{name} {values[name]:.4g}" for name in _SHOWN if name in values))

    folder = run(config, show)
    report = read_report(folder)
    for warning in report.warnings:
        console.warn(warning)
    result, text = report.model_dump(mode="json"), _summary(report, folder)
    if check_vllm:
        with console.step("comparing vLLM with transformers"):
            merged = folder / "merged"
            served = merged if merged.is_dir() else folder
            result["vllm"] = check_served(served, reward=report.stage == "reward")
        text += f"\nserved by vLLM, it differs by at most {result['vllm']['max_difference']:.2g}"
    return result, text


def _summary(report: TrainingReport, folder: Path) -> str:
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in report.counts.items() if count)
    lines = [f"{report.stage}: {report.steps} steps in {report.seconds:.0f} s; rows: {counts}"]
    if report.first_eval and report.last_eval:
        before, after = report.first_eval, report.last_eval
        shared = [
            name
            for name in ("loss", "reward", "rewards/accuracies", "accuracy")
            if name in before and name in after
        ]
        told = (f"{name} {before[name]:.4g} → {after[name]:.4g}" for name in shared)
        lines.append(f"on held-out rows: {'; '.join(told)}")
    if report.stopped_early:
        lines.append("stopped early: the loss on held-out rows no longer fell; the best model was kept")
    lines.append(
        f"written to {folder}; loaded again, its outputs differ by at most {report.reload.max_difference:.2g}"
    )
    return "\n".join(lines)
