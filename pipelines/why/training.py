"""Which trainings saw a pair, what became of its row there, and who judged the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.uses import ROWS, Use, rows_of, training_at, uses
from prefgen.files import found_json
from prefgen.tables import read_table
from trainers.preflight import check_rows
from trainers.rows import (
    Parse,
    parse_demonstration,
    parse_labelled,
    parse_pair,
    read_rows,
    split_by_prompt,
)

_PARSES: Mapping[str, Parse] = {
    "sft": parse_demonstration,
    "reward": parse_pair,
    "dpo": parse_pair,
    "orpo": parse_pair,
    "kto": parse_labelled,
}
_WHOLE = "reward"
"""The stage that leaves out a row which does not fit, where others cut it."""
Ids = Mapping[str, str]


def seen_by(run: Path, ids: Ids, look_in: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Every use of the run that is not an evaluation, with what it made of a pair. `ids`: its `pair_id`,
    `chosen_id` and `rejected_id`."""
    found, hashes = uses(run, look_in), {digest: name for name, digest in rows_of(run).items()}
    evaluations = [use for use in found if use.kind == "evaluation"]
    return [
        use.as_json() | (_training(run, use, hashes, ids, evaluations) if use.kind == "training" else {})
        for use in found
        if use.kind != "evaluation"
    ]


def _training(
    run: Path, use: Use, hashes: Mapping[str, str], ids: Ids, evaluations: Sequence[Use]
) -> dict[str, Any]:
    report = training_at(use.path)
    if report is None:
        return {"stage": None, "saw": ["its folder is gone, so that nothing is known of its rows"]}
    inputs = report["inputs"]
    return {
        "stage": report["stage"],
        "steps": report["steps"],
        "saw": _saw(run, use, report, hashes.get(inputs.get("train")), hashes.get(inputs.get("eval")), ids),
        "evaluations": [told for one in evaluations for told in _evaluation(one, use.path)],
    }


def _saw(
    run: Path, use: Use, report: dict[str, Any], train: str | None, held_out: str | None, ids: Ids
) -> list[str]:
    if train is None:
        if report["inputs"].get("train") in use.rows.values():
            return ["it was trained on rows that stood in this run then; they were written anew since"]
        return _in_mixed(Path(str(report["config"]["data"])), use.path, ids)
    said = [_row_of(use, report, run / train, number, row) for number, row in _rows(run / train, ids)]
    if held_out is not None:
        said += [
            f"{_side(row)}held out: evaluated on, not trained on" for _, row in _rows(run / held_out, ids)
        ]
    return said or ["not among the rows it read"]


def _in_mixed(data: Path, folder: Path, ids: Ids) -> list[str]:
    """A loop trains on one file of the round's own pairs and given ones, which has their ids."""
    beside = folder.parent / data.name
    path = beside if beside.is_file() else data
    with suppress(OSError, ValueError, KeyError):
        if any(row["pair_id"] == ids["pair_id"] for row in read_table(path, ["pair_id"])):
            return [f"trained on it, in {path.name} beside given pairs"]
        return [f"not found in {path}"]
    return [f"it read {data}, which is not there to look into"]


def _rows(path: Path, ids: Ids) -> list[tuple[int, dict[str, Any]]]:
    """(line, row) of the pair, or of its two sides where rows are single responses. Lines count from 1."""
    found = []
    for line, row in enumerate(read_table(path), start=1):
        if row.get("pair_id") == ids["pair_id"] if "pair_id" in row else row["candidate_id"] in ids.values():
            found.append((line, row))
    return found


def _side(row: Mapping[str, Any]) -> str:
    if "label" not in row:
        return ""
    return f"{'desirable' if row['label'] else 'undesirable'} side {row['candidate_id']}: "


def _row_of(use: Use, report: dict[str, Any], path: Path, line: int, row: dict[str, Any]) -> str:
    """What a training did with a row of its training file."""
    config, counts, where = report["config"], report["counts"], f"{_side(row)}row {line} of {_name(path)}"
    parse = _PARSES.get(report["stage"])
    if parse is None:
        return f"{where}: its prompt, to which the model wrote responses of its own"
    if "eval" not in report["inputs"] and config["eval_share"] and _held_out(path, line, parse, config):
        return f"{where}: held out (--eval-share), not trained on"
    dropped = {name: n for name, n in counts.items() if name.startswith("train_dropped_") and n}
    if dropped:
        reason = _left_out(use.path, report, parse, path, line)
        if reason is not None:
            return f"{where}: left out by the training ({reason.replace('_', ' ')})"
    return f"{where}: trained on it{_reached(report)}"


def _reached(report: Mapping[str, Any]) -> str:
    config, used = report["config"], report["counts"]["train_used"]
    taken = report["steps"] * config["batch_size"] * config["gradient_accumulation"]
    taken *= report["settings"].get("processes") or 1
    if taken < used:
        return f", unless it was not reached: {report['steps']} steps took {taken:,} of {used:,} rows"
    return f" ({report['steps']} steps)"


def _held_out(path: Path, line: int, parse: Parse, config: Mapping[str, Any]) -> bool:
    """Whether the training itself held the row out, as it splits by prompt."""
    _, held = split_by_prompt(read_rows(path, parse, config["as_chat"]), config["eval_share"])
    return any(row.line == line for row in held)


def _left_out(folder: Path, report: Mapping[str, Any], parse: Parse, path: Path, line: int) -> str | None:
    """Why the training could not use a row, by the tokenizer that lies with the model; None if it could."""
    from trainers.loading import load_tokenizer

    config = report["config"]
    row = next(row for row in read_rows(path, parse, config["as_chat"]) if row.line == line)
    limit = int(report["settings"]["max_length"])
    checked = check_rows([row], load_tokenizer(str(folder)), limit, (), report["stage"] != _WHOLE)
    return next(iter(checked.dropped), None)


def _name(path: Path) -> str:
    return next(name for name in ROWS if path.as_posix().endswith(name))


def _evaluation(use: Use, model: Path) -> list[dict[str, Any]]:
    """What an evaluation says of this model, if it was one of its two sides."""
    found = found_json(use.path / "evaluation.json")
    if found is None:
        return []
    told = []
    for side in ("model", "baseline"):
        folder = Path(str(found.get(side, "")).partition("/")[2])
        if model in (folder.resolve(), folder.resolve().parent):
            told.append(_rate(use, found, side))
    # The quickstart judges the models of all its stages at once.
    if model.parent == use.path / "models" and model.name in found.get("stages", {}):
        told.append(_rate(use, found["stages"][model.name], "model"))
    return told


def _rate(use: Use, found: Mapping[str, Any], side: str) -> dict[str, Any]:
    names = ("win_rate", "ci", "judge", "n")
    return {"path": str(use.path), "side": side, **{name: found.get(name) for name in names}}
