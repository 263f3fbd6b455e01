"""What a calibration is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from judges.calibration import MapKind
from prefgen.verdicts import Combine


@dataclass(frozen=True, slots=True)
class Settings:
    """See `CalibrateConfig`. `judges`: names of all who judged, in the order of a cascade."""

    target: float
    delta: float
    map: MapKind | Literal["auto"]
    failures_as_tie: bool
    epsilon: float
    width: float
    seed: int
    combine: Combine
    judges: Sequence[str]
