"""The settings that a what-if compares."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from pipelines.calibration.file import Calibration
from pipelines.calibration.labelling import pairing_by, pairing_from, trusted
from pipelines.console import Console
from pipelines.generate_config import PairingConfig
from pipelines.outcome import Pairing
from pipelines.pair import how_judged
from pipelines.what_if.config import WhatIfConfig
from prefgen.errors import GateError, UsageError
from prefgen.pairing import Strategy

THRESHOLDS = (0.6, 0.75, 0.9, 0.95, 0.99)
_MOST = 400
_OF_RULE = ("strategy", "max_pairs", "max_similarity", "max_length_gap")
"""Fields of a pairing rule that have the same name in the config."""
_SINGLE = ("calibration", "choose_truncated", "kto_labels", "seed")


@dataclass(frozen=True, slots=True)
class Setting:
    """`pairing`: None where no threshold earns the target precision, so that there would be no pair. `own`:
    the run's; `picked`: the one that was asked for."""

    config: PairingConfig
    pairing: Pairing | None
    own: bool
    picked: bool


class Grid:
    """The values that were given; where none was, the run's own, and of strategies and thresholds several."""

    def __init__(self, config: WhatIfConfig, manifest: Mapping[str, Any], console: Console) -> None:
        self._config, self._console = config, console
        self.own = PairingConfig(**{name: manifest["config"][name] for name in PairingConfig.model_fields})
        self._stored = pairing_from(manifest)
        self._judged_by, self._weighing = how_judged(config.calibration, manifest)
        self._read: Calibration | None = None
        self.calibrated = config.calibration is not None or manifest["calibration"] is not None

    def settings(self) -> list[Setting]:
        """Raises UsageError for values that cannot be, or too many of them."""
        axes = [self._values(name) for name in _OF_RULE]
        thresholds = self._thresholds()
        if len(thresholds) * math.prod(map(len, axes)) > _MOST:
            raise UsageError(f"more than {_MOST} settings to compare: give fewer values of an option")
        configs = [
            self._with(dict(zip(_OF_RULE, values, strict=True)) | threshold)
            for values in product(*axes)
            for threshold in thresholds
        ]
        picked = self._picked(thresholds)
        return [
            Setting(config, self._pairing(config), config == self.own, config == picked)
            for config in dict.fromkeys(configs)
        ]

    def _values(self, name: str) -> Sequence[Any]:
        own, given = getattr(self.own, name), getattr(self._config, name)
        if given or name != "strategy":
            return given or (own,)
        return (own, *(item for item in get_args(Strategy) if item != own))

    def _thresholds(self) -> list[dict[str, float | None]]:
        """A cascade has one threshold for each of its judges, found for a target alone."""
        config, own, cascade = self._config, self.own, self._weighing.combine == "cascade"
        targets, values = config.target_precision, config.min_confidence
        if cascade and values:
            raise UsageError(
                "--min-confidence goes with one judge or a jury; for a cascade --target-precision"
            )
        if not (targets or values):
            targets = () if own.target_precision is None else (own.target_precision,)
            values = () if cascade else THRESHOLDS
            values = values if targets else tuple(sorted({own.min_confidence, *values}))
        settings: list[tuple[float | None, float]] = [(value, own.min_confidence) for value in targets]
        settings += [(None, value) for value in values]
        return [{"target_precision": target, "min_confidence": value} for target, value in settings]

    def _picked(self, thresholds: Sequence[dict[str, float | None]]) -> PairingConfig:
        """The first value of each option that was given; of all others the run's own."""
        own = {name: getattr(self.own, name) for name in thresholds[0]}
        given = {name: values[0] for name in _OF_RULE if (values := getattr(self._config, name))}
        return self._with(given | (own if own in thresholds else thresholds[0]))

    def _with(self, changes: Mapping[str, Any]) -> PairingConfig:
        typed = {name: value for name in _SINGLE if (value := getattr(self._config, name)) is not None}
        try:
            return PairingConfig.model_validate({**self.own.model_dump(), **typed, **changes})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = f"--{fault['loc'][0]}: ".replace("_", "-") if fault["loc"] else ""
            raise UsageError(f"{name}{fault['msg'].removeprefix('Value error, ')}") from error

    def _pairing(self, config: PairingConfig) -> Pairing | None:
        try:
            found = self._calibrated(config) if self._asks_calibration(config) else self._stored
        except GateError:
            return None
        changes = {name: getattr(config, name) for name in _OF_RULE}
        changes |= {"allow_truncated": config.choose_truncated, "seed": config.seed}
        later = [replace(stage, rule=replace(stage.rule, **changes)) for stage in found.later]
        if config.target_precision is None:
            changes["min_confidence"] = config.min_confidence
        return replace(found, rule=replace(found.rule, **changes), kto_labels=config.kto_labels, later=later)

    def _asks_calibration(self, config: PairingConfig) -> bool:
        """The manifest holds the run's own map, and the threshold that earns its own target."""
        other_target = config.target_precision not in (None, self.own.target_precision)
        return self._config.calibration is not None or other_target

    def _calibrated(self, config: PairingConfig) -> Pairing:
        if self._read is None:
            self._read = trusted(config, self._judged_by, self._console)
        return pairing_by(config, self._read, self._weighing)


def command(run: Path, chosen: PairingConfig) -> str:
    """The command line that writes a setting's pairs."""
    words = ["prefgen", "pair", str(run)]
    for name, field in PairingConfig.model_fields.items():
        value, flag = getattr(chosen, name), "--" + name.replace("_", "-")
        unused = name == "min_confidence" and chosen.target_precision is not None
        if value != field.default and not unused:
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join([*words, "--out", "DIR"])
