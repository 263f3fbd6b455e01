"""Watches a training run: writes `metrics.jsonl`, passes numbers on and stops a run that went wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from prefgen.errors import GateError

if TYPE_CHECKING:
    from transformers import TrainerCallback

OnLog: TypeAlias = Callable[[dict[str, float]], None]
Line: TypeAlias = dict[str, float | str | None]
"""One line of `metrics.jsonl`."""
Split = Literal["train", "eval", "final", "end"]

TOLERANCE = 1e-3
"""How far the loss before the first step may be from its known value."""


@dataclass
class Monitor:
    """`first_loss`: the loss that policy = reference must give, None where there is no such value.

    A line of `metrics.jsonl` holds `step`, `epoch`, `split` and TRL's numbers as floats (null where one is
    not finite). Splits: `train`, `eval`, `final` (the model that is kept), `end` (totals of the run).
    `writes`: false in the further processes of a run, which watch the same numbers and write nothing.
    """

    path: Path
    first_loss: float | None = None
    on_log: OnLog | None = None
    final: bool = False
    writes: bool = True
    lines: list[Line] = field(default_factory=list)

    def rewind(self, step: int) -> None:
        """Drops the lines after `step`, which a resumed run writes again."""
        if self.path.is_file():
            lines = [json.loads(line) for line in self.path.read_text("utf-8").splitlines() if _is_json(line)]
            self.lines = [
                line for line in lines if line["step"] <= step and line["split"] in ("train", "eval")
            ]
        if self.writes:
            self.path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), "utf-8")

    def log(self, step: int, logs: Mapping[str, object]) -> None:
        """Takes one of the trainer's logs. Raises GateError where the loss is not finite or starts wrong."""
        numbers = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
        split = self._split(numbers)
        metrics = {name.removeprefix("eval_"): value for name, value in numbers.items()}
        self._write(step, metrics.pop("epoch", 0.0), split, metrics)
        if self.on_log and self.writes:
            self.on_log({"step": float(step), **numbers})
        self._check_loss(step, split, metrics.get("loss"))

    def _split(self, numbers: Mapping[str, float]) -> Split:
        if any(name.startswith("eval_") for name in numbers):
            return "final" if self.final else "eval"
        return "end" if "train_runtime" in numbers else "train"

    def _write(self, step: int, epoch: float, split: Split, metrics: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        line: Line = {"step": step, "epoch": epoch, "split": split, **finite}
        self.lines.append(line)
        if not self.writes:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

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

        return Listener()


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
