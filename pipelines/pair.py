"""Other pairs from a finished run: another rule over the stored judgments, no model called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from pipelines.calibration.file import read_calibration
from pipelines.calibration.labelling import pairing_of
from pipelines.console import Console
from pipelines.generate_config import PairConfig
from pipelines.publish import Publisher, finish_run, warn_of_no_pairs
from pipelines.stored import stored
from pipelines.uses import record
from prefgen.errors import UsageError
from prefgen.rows import CarriedColumns
from prefgen.run import RunDirectory
from prefgen.tables import read_table
from prefgen.verdicts import Combine, Weighing


def pair(config: PairConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes a run directory of its own to `config.out` and returns its manifest.

    Raises InputError where `config.run` is not a finished run or the calibration not of its judge,
    GateError where no threshold earns the target precision, RunDirectoryError for a used `out`.
    """
    source = RunDirectory.open(config.run)
    if config.out.resolve() == config.run.resolve():
        raise UsageError(f"--out {config.out} is the run itself; name another directory")
    manifest = source.manifest
    resolved = config.model_dump(mode="json") | {"command": "pair"}
    judged_by, weighing = how_judged(config.calibration, manifest)
    pairing, calibrated = pairing_of(config, judged_by, weighing, console)
    carried = CarriedColumns()
    for row in read_table(source.path / "candidates.parquet", ["columns"]):
        carried.see(json.loads(row["columns"]))
    with RunDirectory.start(config.out, resolved, overwrite=overwrite) as run:
        publisher = Publisher(run, config.format, carried)
        for prompt, sampled, results in stored(source):
            publisher.append(pairing.outcome(prompt, sampled, results))
        publisher.publish_tables()
        warn_of_no_pairs(publisher, console)
        changed = {**manifest["config"], **config.model_dump(mode="json", exclude={"run"})}
        whole = finish_run(
            publisher,
            config.test_share,
            {
                **manifest,
                "command": "pair",
                "config": changed,
                "seed": config.seed,
                "source": str(config.run),
                "calibration": calibrated,
                "weighing": asdict(pairing.weighing),
                "usage": dict.fromkeys(manifest["usage"], 0) | {"by_role": {}},
            },
        )
        record(source.path, "pair", run.path)
        return whole


def how_judged(calibration: Path | None, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], Weighing]:
    """The signature of a run's judge and how its word is weighed, as the calibration asks for it."""
    judged_by, weighing = manifest["judged_by"], Weighing(**manifest["weighing"])
    if calibration is None or weighing.combine == "cascade":
        return judged_by, weighing
    # Every judge of a jury was asked about everything: they may be combined in another way now.
    asked_with = read_calibration(calibration).asked_with or {}
    combine = cast("Combine", asked_with.get("combine", weighing.combine))
    return judged_by | {"combine": combine}, replace(weighing, combine=combine)
