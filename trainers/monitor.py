"""Watches a run: writes `metrics.jsonl`, passes numbers on, raises alarms and stops what went wrong."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from prefgen.errors import GateError
from prefgen.messages import as_dicts
from trainers.alarms import Alarm, Evaluation, find_alarms
from trainers.processes import from_main
from trainers.watching import Look, Values, Watcher

if TYPE_CHECKING:
    from transformers import TrainerCallback

OnLog: TypeAlias = Callable[[dict[str, float]], None]
Split = Literal["train", "eval", "watch", "alarm", "final", "end"]
Line: TypeAlias = dict[str, float | str | None]
"""One line of `metrics.jsonl`."""
KEPT_ON_RESUME = ("train", "eval", "watch", "alarm")

TOLERANCE = 1e-3
"""How far the loss before the first step may be from its known value."""


@dataclass
class Monitor:
    """`first_loss`: the loss that policy = reference must give, None where there is no such value.

    A line of `metrics.jsonl` holds `step`, `epoch`, `split` and TRL's numbers as floats (null where one is
    not finite). Splits: `train`, `eval`, `watch` (means of what the watcher saw at that evaluation), `alarm`
    (with texts), `final` (the model that is kept), `end` (totals of the run). `samples.jsonl` beside it holds
    what the watcher saw, a line for each watched prompt and evaluation.

    `every`: steps (or, below 1, share of all steps) between two looks where the trainer itself evaluates
    nothing. `stopped_by`: the alarm that ended the run; a training loop of one's own asks for it after
    `evaluated`. `writes`: false in the further processes of a run, which hear the same and write nothing.
    """

    path: Path
    first_loss: float | None = None
    on_log: OnLog | None = None
    stop_on_alarm: bool = False
    kl_target: float | None = None
    watcher: Watcher | None = None
    every: float = 0.1
    final: bool = False
    writes: bool = True
    stopped_by: Alarm | None = None
    lines: list[Line] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    values: dict[int, Values] = field(default_factory=dict)

    @property
    def samples(self) -> Path:
        return self.path.with_name("samples.jsonl")

    def rewind(self, step: int) -> None:
        """Drops what was written after `step`, which a resumed run writes again.

        Other processes may read meanwhile: files are replaced whole, and what they find is cut alike.
        """
        lines = [line for line in _read(self.path) if line["step"] <= step]
        self.lines = [line for line in lines if line["split"] in KEPT_ON_RESUME]
        told = [line for line in self.lines if line["split"] == "alarm"]
        self.alarms = [Alarm.model_validate(_without(line, "epoch", "split")) for line in told]
        seen = [line for line in _read(self.samples) if line["step"] <= step]
        for at in sorted({line["step"] for line in seen}):
            here = [_without(line, "step", "prompt", "completion") for line in seen if line["step"] == at]
            self.values[at] = {name: tuple(line[name] for line in here) for name in here[0]}
        if self.writes:
            _write(self.path, self.lines)
            if self.samples.is_file():
                _write(self.samples, seen)

    def log(self, step: int, logs: Mapping[str, object]) -> None:
        """Takes one of the trainer's logs. Raises GateError where the loss is not finite or starts wrong."""
        numbers = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
        split = self._split(numbers)
        metrics = {name.removeprefix("eval_"): value for name, value in numbers.items()}
        self._write(step, metrics.pop("epoch", 0.0), split, metrics)
        self._tell(step, numbers)
        self._check_loss(step, split, metrics.get("loss"))

    def _split(self, numbers: Mapping[str, float]) -> Split:
        if any(name.startswith("eval_") for name in numbers):
            return "final" if self.final else "eval"
        return "end" if "train_runtime" in numbers else "train"

    def _write(self, step: int, epoch: float, split: Split, metrics: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._append({"step": step, "epoch": epoch, "split": split, **finite})

    def _append(self, line: Line) -> None:
        self.lines.append(line)
        if not self.writes:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def evaluated(self, step: int, epoch: float, look: Look | None = None) -> None:
        """Ends an evaluation: takes what the watcher saw and raises the alarms that are new."""
        if look is not None:
            self._write(step, epoch, "watch", look.numbers)
            self._keep(step, look)
            self._tell(step, {f"watch_{name}": value for name, value in look.numbers.items()})
        known = {alarm.name for alarm in self.alarms}
        for alarm in find_alarms(history(self.lines, self.values), self.kl_target):
            if alarm.name not in known:
                self.alarms.append(alarm)
                self._append(
                    {"step": step, "epoch": epoch, "split": "alarm", **_without(alarm.model_dump(), "step")}
                )
                self._tell(step, {f"alarm_{alarm.name}": 1.0})
                self.stopped_by = self.stopped_by or (alarm if self.stop_on_alarm else None)

    def _keep(self, step: int, look: Look) -> None:
        self.values[step] = look.values
        if not self.writes:
            return
        with self.samples.open("a", encoding="utf-8") as file:
            for place in range(len(next(iter(look.values.values()), ()))):
                line: dict[str, object] = {"step": step}
                if look.samples:
                    said = look.samples[place]
                    line |= {"prompt": as_dicts(said.prompt), "completion": said.completion}
                line |= {name: found[place] for name, found in look.values.items()}
                file.write(json.dumps(line) + "\n")

    def _tell(self, step: int, numbers: Mapping[str, float]) -> None:
        if self.on_log and self.writes:
            self.on_log({"step": float(step), **numbers})

    def _check_loss(self, step: int, split: Split, loss: float | None) -> None:
        if loss is None:
            return
        if not math.isfinite(loss):
            raise GateError(
                f"the {split} loss is {loss} at step {step}; use a lower --learning-rate or float32"
            )
        # What is logged at step 1 was computed before that step changed a weight.
        before_training = step == (1 if split == "train" else 0)
        if self.first_loss is not None and before_training and not self._starts_right(loss):
            raise GateError(
                f"the {split} loss before training is {loss:.5f}, but a policy that equals its reference "
                f"gives {self.first_loss:.5f}: the reference is not the model training started from"
            )

    def _starts_right(self, loss: float) -> bool:
        assert self.first_loss is not None
        return abs(loss - self.first_loss) <= TOLERANCE * max(1.0, abs(self.first_loss))

    def find(self, *splits: Split, last: bool = False) -> dict[str, float] | None:
        """The numbers of the first (or last) line of these splits."""
        found = [line for line in self.lines if line["split"] in splits]
        if not found:
            return None
        return {
            name: value for name, value in found[-1 if last else 0].items() if isinstance(value, int | float)
        }

    def callback(self) -> TrainerCallback:
        from transformers import TrainerCallback

        monitor = self

        class Listener(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
            def on_log(  # type: ignore[no-untyped-def]
                self, args, state, control, logs=None, **kwargs
            ) -> None:
                monitor.log(state.global_step, logs or {})

            def on_evaluate(self, args, state, control, model=None, **kwargs) -> None:  # type: ignore[no-untyped-def]
                if not monitor.final:
                    self.look(state, control, model)

            def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:  # type: ignore[no-untyped-def]
                if args.eval_strategy == "no" and state.global_step == 0:
                    self.look(state, control, model)

            def on_step_end(self, args, state, control, model=None, **kwargs) -> None:  # type: ignore[no-untyped-def]
                every = monitor.every if monitor.every >= 1 else math.ceil(monitor.every * state.max_steps)
                due = state.global_step % every == 0 or state.global_step >= state.max_steps
                if args.eval_strategy == "no" and due:
                    self.look(state, control, model)

            def look(self, state, control, model) -> None:  # type: ignore[no-untyped-def]
                watcher = monitor.watcher
                # Before the first step there is nothing new to see.
                look = None
                if watcher is not None:
                    look = from_main(lambda: watcher.look(model) if state.global_step else watcher.start)
                monitor.evaluated(state.global_step, float(state.epoch or 0), look)
                if monitor.stopped_by is not None:
                    control.should_training_stop = True
                    # A checkpoint of what went wrong would push an earlier one out.
                    control.should_save = False

        return Listener()


def history(lines: Sequence[Line], values: Mapping[int, Values]) -> list[Evaluation]:
    """The evaluations of a run's metrics, with `values` of the watched prompts by step."""
    found: dict[int, dict[str, float]] = {}
    logged: dict[str, list[float]] = {}
    for line in lines:
        step = int(line["step"] or 0)
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
        if line["split"] == "train":
            for name, value in numbers.items():
                logged.setdefault(f"train/{name}", []).append(value)
        elif line["split"] in ("eval", "watch"):
            if step not in found:
                found[step] = {name: fmean(told) for name, told in logged.items()}
                logged = {}
            prefix = "watch/" if line["split"] == "watch" else ""
            found[step] |= {f"{prefix}{name}": value for name, value in numbers.items()}
    return [Evaluation(step, numbers, values.get(step, {})) for step, numbers in found.items()]


def _without(line: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in names}


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, without a last one that was cut short."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if _is_json(line)]


def _write(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    os.replace(part, path)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
