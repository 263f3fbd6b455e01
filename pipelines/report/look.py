"""What a section of a run's report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.report.findings import Findings
from prefgen.run import RunDirectory


@dataclass(frozen=True, slots=True)
class Look:
    """`manifest`: as it is, or is about to be, written, with the key `found`."""

    run: RunDirectory
    manifest: Mapping[str, Any]
    findings: Findings

    @property
    def counts(self) -> Mapping[str, Any]:
        counts: Mapping[str, Any] = self.manifest["counts"]
        return counts

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.manifest["config"]
        return config
