"""How every stage runs: check, begin, load, train, verify, save, report.

With several processes all of them check, load and train; the main one alone writes, saves and reports.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prefgen.errors import GateError, RunDirectoryError, UsageError
from prefgen.messages import Json
from trainers import folder, guards, loading, processes
from trainers.arguments import device_arguments, trl_arguments
from trainers.config import StageConfig
from trainers.fingerprint import hash_files, hash_frozen
from trainers.monitor import Monitor, OnLog
from trainers.prepare import Prepared, prepare
from trainers.quiet import quiet
from trainers.report import ReloadCheck, TrainingReport, versions
from trainers.rewards import Score
from trainers.rows import find_files
from trainers.saving import save_and_check
from trainers.stage import Goal, Setup, Stage, Trainer
from trainers.trackers import logging_folder
from trainers.watching import make_watcher

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback


@dataclass
class Outcome:
    """What a training run left behind. `model`: whole; None in the further processes of a run whose weights
    are in shares."""

    model: PreTrainedModel | None
    steps: int
    stopped_early: bool
    kept_step: int
    frozen: str | None
    settings: dict[str, Json] = field(default_factory=dict)


def run_stage(
    config: StageConfig, stage: Stage, on_log: OnLog | None = None, held_out: Score | None = None
) -> Path:
    """Trains one stage and returns `config.out` with the model and `training.json`.

    `on_log` gets step, epoch and the trainer's numbers at each log; of what is watched the names begin with
    `watch_` and `alarm_`. `held_out` judges the watched answers (--watch-prompts) and teaches nothing. Raises
    UsageError (and its kinds) for wrong options, data or folders, before anything is written; GateError where
    the result may not be trusted.
    """
    started = time.monotonic()
    if config.watched_by is not None and held_out is None:
        raise UsageError(
            f"{config.watched_by} is to watch: the command line asks it, in Python give held_out"
        )
    loading.check_machine(config)
    folder.check_place(config)
    files = find_files(config.data, stage.folder, config.eval_data)
    processes.join()
    beginning = processes.from_main(lambda: _beginning(config, stage, files))
    folder.check_free(config, beginning)
    if config.resume and folder.is_complete(config.out):
        return config.out
    with quiet(), logging_folder(config.out, config.report_to):
        prepared = prepare(config, stage, files)
        start = _load_start(config, stage)
        prepared.warnings.extend(_warnings(config, stage, start, prepared))
        # All have looked at the folder before the main one writes into it.
        processes.wait()
        with folder.held(config.out) if processes.is_main() else nullcontext():
            checkpoint = processes.from_main(lambda: folder.begin(config, beginning))
            monitor = Monitor(
                config.out / "metrics.jsonl",
                stage.first_loss,
                on_log,
                stop_on_alarm=config.on_alarm == "stop",
                kl_target=config.watch_kl,
                every=config.evaluation_interval,
                writes=processes.is_main(),
            )
            # Without a checkpoint all begins anew, the evaluation before the first step too.
            monitor.rewind(folder.step_of(checkpoint) if checkpoint else -1)
            setup = _set_up(config, stage, prepared, start, monitor, beginning, checkpoint is not None)
            del start
            outcome = _train(config, stage, prepared, setup, monitor, checkpoint, held_out)
            if processes.is_main():
                report = _finish(config, stage, beginning, prepared, monitor, outcome)
                report.seconds = round(time.monotonic() - started, 2)
                folder.write_json(config.out / "training.json", report)
            processes.wait()
    return config.out


def _run(trainer: Trainer, checkpoint: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:
        # By its name, since nothing here may unpickle: torch read a checkpoint and met more than data.
        if checkpoint is None or type(error).__name__ != "UnpicklingError":
            raise
        raise RunDirectoryError(
            f"{checkpoint} holds a file that is no data of a checkpoint; delete that folder, and --resume "
            "goes on from the one before"
        ) from error


def _finish(
    config: StageConfig,
    stage: Stage,
    beginning: folder.Beginning,
    prepared: Prepared,
    monitor: Monitor,
    outcome: Outcome,
) -> TrainingReport:
    """Saves the model and checks what was saved and what was started from."""
    assert outcome.model is not None
    probes = prepared.eval.probes or prepared.train.probes
    check = save_and_check(outcome.model, prepared.tokenizer, config, stage.head, probes)
    if hash_files(Path(config.model)) != beginning.inputs["model"]:
        raise GateError(f"the files of the starting model {config.model} changed while it was trained from")
    return _report(beginning, stage, prepared, monitor, outcome, check)


def _beginning(config: StageConfig, stage: Stage, files: tuple[Path, Path | None]) -> folder.Beginning:
    inputs = {"model": hash_files(Path(config.model)), "train": hash_files(files[0])}
    if files[1]:
        inputs["eval"] = hash_files(files[1])
    inputs |= stage.inputs
    return folder.Beginning(
        stage=stage.name, processes=processes.count(), config=config.model_dump(mode="json"), inputs=inputs
    )


def _load_start(config: StageConfig, stage: Stage) -> PreTrainedModel:
    from transformers import set_seed

    # A new reward head is random, so the seed stands before the model.
    set_seed(config.seed)
    model = loading.load_model(config.model, stage.head, config.load_dtype, config.qlora)
    if stage.name != "sft":
        # TRL's own switch reaches the modules, and not the rate that attention layers hand to a function.
        loading.disable_dropout(model)
    return model


def _warnings(config: StageConfig, stage: Stage, start: PreTrainedModel, prepared: Prepared) -> list[str]:
    """Raises UsageError for a raw base model."""
    rows, weights = prepared.train.rows, sum(weight.numel() for weight in start.parameters())
    notes = [
        guards.check_start(config, stage, start, prepared.tokenizer, rows),
        guards.check_epochs(stage.name, guards.planned_epochs(config, len(rows))),
        guards.check_rate(stage.name, config.rate, config.adapter, weights),
        guards.check_judge(config),
    ]
    if config.watch_prompts and not prepared.eval.rows:
        notes.append("there are no held-out rows, so the prompts that are watched are trained on as well")
    there = len({row.prompt_hash for row in prepared.eval.rows or rows})
    if there < config.watch_prompts and stage.head == "language":
        notes.append(
            f"only {there} prompts are watched, not {config.watch_prompts}: alarms are late or never come; "
            "hold out more with --eval-share or --eval-data"
        )
    return [note for note in notes if note]


# --------------------------------------------------------------------------------------------------- training


def _train(
    config: StageConfig,
    stage: Stage,
    prepared: Prepared,
    setup: Setup,
    monitor: Monitor,
    checkpoint: Path | None,
    held_out: Score | None,
) -> Outcome:
    """Trains and gives the model back on its own, so that optimizer and reference are freed."""
    trainer, settings = stage.build(setup)
    _silence(trainer)
    # GRPO loads its reference itself.
    reference = setup.reference or getattr(trainer, "ref_model", None)
    # No process could write an answer by itself with a share of the weights.
    if not processes.sharded():
        monitor.watcher = make_watcher(config, stage, prepared, reference, held_out)
    if monitor.watcher is not None and processes.is_main():
        monitor.watcher.begin(trainer.model)
    guarded = reference or (trainer.model if config.adapter else None)
    # Of weights in shares no process sees the whole.
    frozen = hash_frozen(guarded) if guarded and not processes.sharded() else None
    _run(trainer, checkpoint)
    if not trainer.state.global_step:
        raise GateError("no step was taken: there are fewer rows than one step needs; lower --batch-size")
    kept = _kept_step(trainer, config, monitor)
    if setup.eval is not None:
        monitor.final = True
        trainer.evaluate()
    if guarded and frozen and hash_frozen(guarded) != frozen:
        raise GateError("weights that had to stay frozen changed in training; the model may not be trusted")
    model = _whole_model(config, stage, trainer, setup)
    state = trainer.state
    settings |= {"learning_rate": config.rate, "max_length": prepared.max_length, **_precision(config)}
    settings |= {"processes": processes.count(), "sharded": processes.sharded()}
    early = config.early_stopping_patience > 0 and state.global_step < state.max_steps
    early = early and monitor.stopped_by is None
    outcome = Outcome(model, state.global_step, early, kept, frozen, settings)
    del trainer, setup, reference, guarded
    gc.collect()
    return outcome


def _whole_model(config: StageConfig, stage: Stage, trainer: Trainer, setup: Setup) -> PreTrainedModel | None:
    """The trained model on its own. Weights in shares are gathered into a new one, in the main process."""
    if not processes.sharded():
        model: PreTrainedModel = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        return model
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not processes.is_main():
        return None
    whole = loading.load_weights(config, stage.head, setup.adapter, weights)
    whole.config = setup.model.config
    return whole


def _kept_step(trainer: Trainer, config: StageConfig, monitor: Monitor) -> int:
    """The step whose model is kept: the best, the last, or after an alarm the last good one still on disk."""
    state, alarm = trainer.state, monitor.stopped_by
    best: int | None = state.best_global_step if config.early_stopping_patience else None
    if alarm is not None:
        good = folder.last_checkpoint(config.out / "checkpoints", processes.count(), alarm.good_step)
        if good is not None:
            trainer._load_from_checkpoint(str(good))
            return folder.step_of(good)
    return best or state.global_step


def _precision(config: StageConfig) -> dict[str, Json]:
    device = device_arguments(config)
    return {"device": "cpu" if device["use_cpu"] else "cuda", "bf16": device["bf16"]}


def _set_up(
    config: StageConfig,
    stage: Stage,
    prepared: Prepared,
    model: PreTrainedModel,
    monitor: Monitor,
    beginning: folder.Beginning,
    resuming: bool,
) -> Setup:
    from datasets import Dataset

    held_out = [stage.columns(row) for row in prepared.eval.rows]
    return Setup(
        model=model,
        reference=_frozen_copy(model) if stage.reference and not config.adapter else None,
        tokenizer=prepared.tokenizer,
        adapter=loading.lora_config(config, stage.head),
        train=Dataset.from_list([stage.columns(row) for row in prepared.train.rows]),
        eval=Dataset.from_list(held_out) if held_out else None,
        rows=prepared.train.rows,
        eval_rows=prepared.eval.rows,
        arguments=trl_arguments(config, prepared.max_length, bool(held_out), resuming),
        callbacks=_callbacks(config, monitor),
        notes=prepared.warnings,
        model_hash=beginning.inputs["model"],
    )


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The reference. Left to itself, TRL loads it from the path in the model's config once more."""
    reference = copy.deepcopy(model).eval()
    reference.requires_grad_(False)
    return reference


def _callbacks(config: StageConfig, monitor: Monitor) -> list[TrainerCallback]:
    from transformers import EarlyStoppingCallback

    patience = config.early_stopping_patience
    return [monitor.callback(), *([EarlyStoppingCallback(patience)] if patience else [])]


def _silence(trainer: Trainer) -> None:
    import transformers
    from transformers import PrinterCallback, ProgressCallback

    if not isinstance(trainer, transformers.Trainer):
        return
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


# ------------------------------------------------------------------------------------------------- afterwards


def _is_worse(first: Mapping[str, float], last: Mapping[str, float], goal: Goal) -> bool:
    if goal not in first or goal not in last:
        return False
    return last[goal] > first[goal] if goal == "loss" else last[goal] < first[goal]


def _report(
    beginning: folder.Beginning,
    stage: Stage,
    prepared: Prepared,
    monitor: Monitor,
    outcome: Outcome,
    check: ReloadCheck,
) -> TrainingReport:
    sharded = processes.sharded()
    first, last = monitor.find("eval", "final"), monitor.find("final", last=True)
    warnings = [*prepared.warnings, *stage.review(monitor.lines)]
    if first and last and _is_worse(first, last, stage.goal):
        goal, ended = stage.goal, "higher" if stage.goal == "loss" else "lower"
        warnings.append(
            f"the {goal} on held-out rows ended {ended} ({last[goal]:.4f}) than it began ({first[goal]:.4f})"
        )
    sides = {"train": prepared.train, "eval": prepared.eval}
    return TrainingReport(
        stage=beginning.stage,
        config=beginning.config,
        inputs=beginning.inputs,
        settings=outcome.settings,
        counts={
            f"{side}_{name}": n for side, checked in sides.items() for name, n in checked.counts().items()
        },
        warnings=warnings,
        steps=outcome.steps,
        stopped_early=outcome.stopped_early,
        kept_step=outcome.kept_step,
        alarms=monitor.alarms,
        stopped_by_alarm=monitor.stopped_by.name if monitor.stopped_by else None,
        first_loss=(monitor.find("train") or {}).get("loss"),
        first_eval=first,
        last_eval=last,
        frozen_sha256=outcome.frozen,
        frozen_unchecked=f"the weights are in shares by {sharded}" if sharded else None,
        reload=check,
        seconds=0,
        versions=versions(),
    )
