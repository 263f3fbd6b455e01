"""How every stage runs: check, begin, load, train, verify, save, report.

With several processes all of them check, load and train; the main one alone writes, saves and reports.
"""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prefgen.errors import GateError
from prefgen.messages import Json
from trainers import folder, loading, processes
from trainers.arguments import device_arguments, trl_arguments
from trainers.config import StageConfig
from trainers.fingerprint import hash_files, hash_frozen
from trainers.monitor import Monitor, OnLog
from trainers.prepare import Prepared, prepare
from trainers.quiet import quiet
from trainers.report import ReloadCheck, TrainingReport, versions
from trainers.rows import find_files
from trainers.saving import save_and_check
from trainers.stage import Setup, Stage
from trainers.trackers import logging_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainerCallback


@dataclass
class Outcome:
    """What a training run left behind. `model`: whole; None in the further processes of a run whose weights
    are in shares."""

    model: PreTrainedModel | None
    steps: int
    stopped_early: bool
    frozen: str | None
    settings: dict[str, Json] = field(default_factory=dict)


def run_stage(config: StageConfig, stage: Stage, on_log: OnLog | None = None) -> Path:
    """Trains one stage and returns `config.out` with the model and `training.json`.

    `on_log` gets step, epoch and the trainer's numbers at each log. Raises UsageError (and its kinds) for
    wrong options, data or folders, before anything is written; GateError where the result may not be trusted.
    """
    started = time.monotonic()
    loading.check_machine(config)
    folder.check_place(config)
    files = find_files(config.data, stage.folder, config.eval_data)
    processes.join()
    beginning = processes.from_main(lambda: _beginning(config, stage, files))
    folder.check_free(config, beginning)
    if config.resume and folder.is_complete(config.out):
        return config.out
    with quiet(), logging_folder(config.out):
        prepared = prepare(config, stage, files)
        # All have looked at the folder before the main one writes into it.
        processes.wait()
        checkpoint = processes.from_main(lambda: folder.begin(config, beginning))
        monitor = Monitor(config.out / "metrics.jsonl", stage.first_loss, on_log, writes=processes.is_main())
        # Without a checkpoint all begins anew, the evaluation before the first step too.
        monitor.rewind(int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else -1)
        outcome = _train(config, stage, prepared, monitor, checkpoint)
        if processes.is_main():
            report = _finish(config, stage, beginning, prepared, monitor, outcome)
            report.seconds = round(time.monotonic() - started, 2)
            folder.write_json(config.out / "training.json", report)
        processes.wait()
    return config.out


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
    return _report(beginning, prepared, monitor, outcome, check)


def _beginning(config: StageConfig, stage: Stage, files: tuple[Path, Path | None]) -> folder.Beginning:
    inputs = {"model": hash_files(Path(config.model)), "train": hash_files(files[0])}
    if files[1]:
        inputs["eval"] = hash_files(files[1])
    return folder.Beginning(
        stage=stage.name, processes=processes.count(), config=config.model_dump(mode="json"), inputs=inputs
    )


# --------------------------------------------------------------------------------------------------- training


def _train(
    config: StageConfig, stage: Stage, prepared: Prepared, monitor: Monitor, checkpoint: Path | None
) -> Outcome:
    """Trains and gives the model back on its own, so that optimizer and reference are freed."""
    setup = _set_up(config, stage, prepared, monitor, checkpoint is not None)
    trainer, settings = stage.build(setup)
    _silence(trainer)
    guarded = setup.reference or (trainer.model if config.adapter else None)
    # Of weights in shares no process sees the whole.
    frozen = hash_frozen(guarded) if guarded and not processes.sharded() else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if setup.eval is not None:
        monitor.final = True
        trainer.evaluate()
    if guarded and frozen and hash_frozen(guarded) != frozen:
        raise GateError("weights that had to stay frozen changed in training; the model may not be trusted")
    model = _whole_model(config, stage, trainer, setup)
    state = trainer.state
    settings |= {"learning_rate": config.rate, "max_length": prepared.max_length, **_precision(config)}
    settings |= {"processes": processes.count(), "sharded": processes.sharded()}
    outcome = Outcome(model, state.global_step, state.global_step < state.max_steps, frozen, settings)
    del trainer, setup, guarded
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


def _precision(config: StageConfig) -> dict[str, Json]:
    device = device_arguments(config)
    return {"device": "cpu" if device["use_cpu"] else "cuda", "bf16": device["bf16"]}


def _set_up(config: StageConfig, stage: Stage, prepared: Prepared, monitor: Monitor, resuming: bool) -> Setup:
    from datasets import Dataset
    from transformers import set_seed

    # A new reward head is random, so the seed stands before the model.
    set_seed(config.seed)
    model = loading.load_model(config.model, stage.head, config.load_dtype, config.qlora)
    held_out = [stage.columns(row) for row in prepared.eval.rows]
    return Setup(
        model=model,
        reference=_frozen_copy(model) if stage.reference and not config.adapter else None,
        tokenizer=prepared.tokenizer,
        adapter=loading.lora_config(config, stage.head),
        train=Dataset.from_list([stage.columns(row) for row in prepared.train.rows]),
        eval=Dataset.from_list(held_out) if held_out else None,
        arguments=trl_arguments(config, prepared.max_length, bool(held_out), resuming),
        callbacks=_callbacks(config, monitor),
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
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


# ------------------------------------------------------------------------------------------------- afterwards


def _report(
    beginning: folder.Beginning,
    prepared: Prepared,
    monitor: Monitor,
    outcome: Outcome,
    check: ReloadCheck,
) -> TrainingReport:
    sharded = processes.sharded()
    first, last = monitor.find("eval", "final"), monitor.find("final", last=True)
    warnings = list(prepared.warnings)
    if first and last and last["loss"] > first["loss"]:
        warnings.append(
            f"the loss on held-out rows ended higher ({last['loss']:.4f}) than it began ({first['loss']:.4f})"
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
        first_loss=(monitor.find("train") or {}).get("loss"),
        first_eval=first,
        last_eval=last,
        frozen_sha256=outcome.frozen,
        frozen_unchecked=f"the weights are in shares by {sharded}" if sharded else None,
        reload=check,
        seconds=0,
        versions=versions(),
    )
