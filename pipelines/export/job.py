"""`prefgen export`: read, shape, check, write, read back, publish."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.export import axolotl, llamafactory, nemo_rl, openrlhf, trl, verl
from pipelines.export.card import card
from pipelines.export.config import ExportConfig, TrainerName
from pipelines.export.rows import RunRows, Split, source_of
from pipelines.export.target import Dataset, Target, Written
from pipelines.export.writing import Counted, read_back, write_split
from pipelines.rejected import warn_of, write_rejected
from pipelines.uses import record
from prefgen import __version__
from prefgen.errors import GateError, InputError, RunDirectoryError, UsageError
from prefgen.files import file_hash, write_json, write_whole
from prefgen.pairing import kto_weights
from prefgen.run import RunDirectory, strangers

TRAINERS: Mapping[TrainerName, Mapping[Dataset, Target]] = {
    "trl": trl.TARGETS,
    "llamafactory": llamafactory.TARGETS,
    "axolotl": axolotl.TARGETS,
    "openrlhf": openrlhf.TARGETS,
    "nemo-rl": nemo_rl.TARGETS,
    "verl": verl.TARGETS,
}


def export(config: ExportConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes the files of an export to their directory and returns its `export.json`.

    Rows the trainer cannot take are in OUT.rejected.jsonl. Raises InputError where there is no finished run
    or no row, UsageError for what the trainer does not take, GateError where more than `max_rejected` of the
    rows are refused.
    """
    dataset, target = target_of(config)
    source = RunDirectory.open(config.run)
    out = config.out or config.run / "exports" / config.trainer / dataset
    if out.name in ("", ".."):  # A directory without a name has no place beside it.
        out = out.resolve()
    reference = _reference(config, dataset, source)
    rows = RunRows(source, dataset, as_text=target.takes_text, reference=reference)
    if rows.standard and not target.takes_text:
        console.note(f"{config.trainer} takes messages: each prompt is given as those it was made from")
    with _new_directory(out, overwrite) as part:
        counted = {
            split: write_split(rows, target, split, part)
            for split in _splits(config)
            if source_of(source, dataset, split).is_file() or split == "train"
        }
        _tell(counted, rows, out, config, console)
        filled = [split for split, told in counted.items() if told.written]
        for split in filled:
            read_back(rows, target, split, part)
        files = {str(split): f"{split}{target.suffix}" for split in filled}
        written = Written(Path(), files, _weights(dataset, counted))
        made = _made(config, dataset, target, source, counted, written)
        _write_config(target, written, part)
        write_whole(part / "README.md", card(part, files, made, source.manifest))
        made["files"] = {path.name: file_hash(path) for path in sorted(part.iterdir())}
        write_json(part / "export.json", made)
    record(config.run, "export", out)
    here = replace(written, out=out.resolve())
    return {
        **made,
        "out": str(out),
        "start": _started(target, here),
        "rejected_file": _rejected(out, counted),
    }


def target_of(config: ExportConfig) -> tuple[Dataset, Target]:
    """Raises UsageError, with what the trainer does take, for a dataset it does not."""
    takes = TRAINERS[config.trainer]
    first = next(iter(takes))
    dataset = config.dataset or first
    if dataset not in takes:
        raise UsageError(
            f"--dataset {dataset}: {config.trainer} takes {', '.join(takes)} "
            f"(as read in {takes[first].read_from.partition(':')[0]})"
        )
    target = takes[dataset]
    if "margin" in target.schema.model_fields and not config.margin:
        bare = takes["dpo"]
        target = replace(target, schema=bare.schema, shape=bare.shape, table=bare.table, notes=bare.notes)
    return dataset, target


def _reference(config: ExportConfig, dataset: Dataset, source: RunDirectory) -> str | None:
    if dataset != "prompts":
        if config.reference is not None:
            raise UsageError(f"--reference goes with --dataset prompts, not with {dataset}")
        return None
    return config.reference or source.config.get("reference")


def _splits(config: ExportConfig) -> tuple[Split, ...]:
    return ("train", "test") if config.split == "all" else (config.split,)


# ----------------------------------------------------------------------------------------- what stands beside


def _weights(dataset: Dataset, counted: Mapping[Split, Counted]) -> dict[str, float]:
    """KTO's loss weights for the rows that are written, where both classes are there."""
    train = counted.get("train")
    if dataset != "kto" or train is None or not 0 < train.desirable < train.written:
        return {}
    desirable, undesirable = kto_weights(train.desirable, train.written - train.desirable)
    return {"desirable_weight": round(desirable, 6), "undesirable_weight": round(undesirable, 6)}


def _write_config(target: Target, written: Written, part: Path) -> None:
    if "train" in written.files:
        for name, text in target.config(written).items():
            write_whole(part / name, text)


def _started(target: Target, written: Written) -> list[str]:
    return target.start(written) if "train" in written.files else []


def _made(
    config: ExportConfig,
    dataset: Dataset,
    target: Target,
    source: RunDirectory,
    counted: Mapping[Split, Counted],
    written: Written,
) -> dict[str, Any]:
    return {
        "prefgen_version": __version__,
        "trainer": config.trainer,
        "dataset": dataset,
        "read_from": target.read_from,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": source.path.resolve().name,
        "manifest_sha256": file_hash(source.path / "manifest.json"),
        "splits": {
            split: {"rows": told.rows, "written": told.written, "rejected": len(told.refused)}
            for split, told in counted.items()
        },
        "start": _started(target, written),
        "notes": list(target.notes),
    }


def _rejected(out: Path, counted: Mapping[Split, Counted]) -> str | None:
    return str(_rejected_path(out)) if any(told.refused for told in counted.values()) else None


def _rejected_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.rejected.jsonl")


def _tell(
    counted: Mapping[Split, Counted], rows: RunRows, out: Path, config: ExportConfig, console: Console
) -> None:
    """Each refused row, on the terminal the first few. Raises GateError and InputError."""
    refused = [
        {"file": str(source_of(rows.run, rows.dataset, split)), **item}
        for split, told in counted.items()
        for item in told.refused
    ]
    path = _rejected_path(out)
    warn_of(refused, path, console)
    write_rejected(path, refused)
    total = sum(told.rows for told in counted.values())
    if not total:
        raise InputError(
            source_of(rows.run, rows.dataset, next(iter(counted))),
            "the run has no such rows",
            fix="prefgen pair RUN --min-confidence … makes other pairs of the same judgments",
        )
    if len(refused) > config.max_rejected * total or len(refused) == total:
        raise GateError(
            f"{config.trainer} cannot take {len(refused)} of {total} rows (allowed: "
            f"{config.max_rejected:.0%}); nothing is written but {path}: look there for the reasons, or "
            "raise --max-rejected"
        )


@contextmanager
def _new_directory(out: Path, overwrite: bool) -> Iterator[Path]:
    """A directory that gets its name when all in it is whole; nothing of it is left behind otherwise. What
    is replaced or left over from a kill is removed only where nothing but an export is in it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        _check_ours(out)
        if not overwrite:
            raise RunDirectoryError(
                f"{out} holds an export; add --overwrite to replace it, or choose another --out"
            )
    part = out.with_name(f".{out.name}.prefgen-part")
    try:
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(parents=True)
        yield part
        if out.exists():
            shutil.rmtree(out)
        part.replace(out)
    except OSError as error:
        raise RunDirectoryError(f"{out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_ours(out: Path) -> None:
    """Raises RunDirectoryError where something else than an export is in a directory."""
    others = strangers(out)
    if others is None:
        raise RunDirectoryError(f"{out} holds something that is no export of prefgen; choose another --out")
    if others:
        raise RunDirectoryError(
            f"{out} holds more than an export ({', '.join(others[:5])}), which --overwrite would delete; "
            "move it away, or choose another --out"
        )


def export_summary(made: Mapping[str, Any]) -> str:
    """What was written and what to type next."""
    told = [f"{name}: {split['written']} of {split['rows']} rows" for name, split in made["splits"].items()]
    lines = [f"{made['out']}: {made['dataset']} for {made['trainer']}, {', '.join(told)}"]
    lines.append(f"checked against {made['read_from'].partition(':')[0]} and read back")
    if made["rejected_file"]:
        lines.append(f"left out, one by one with the reason: {made['rejected_file']}")
    lines += [f"note: {note}" for note in made["notes"]]
    if made["start"]:
        lines += ["start it with:", *(f"  {line}" for line in made["start"])]
    if made.get("pushed"):
        lines.append(f"uploaded ({made['pushed']['visibility']}): {made['pushed']['url']}")
    return "\n".join(lines)
