"""The loop that a run is a round of: what wrote its candidates, and what became of what it taught."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from prefgen.errors import UsageError
from prefgen.files import found_json
from prefgen.tables import read_table

_LINEAGE = "lineage.parquet"


def run_in_loop(path: Path, names: tuple[str, ...]) -> Path:
    """The round's run that a pair of a loop comes from; `path` itself where it is no loop. Raises
    UsageError."""
    if not (path / _LINEAGE).is_file() or (path / "candidates.parquet").is_file():
        return path
    rounds = sorted(path.glob("rounds/*/run"))
    for row in read_table(path / _LINEAGE, ["pair_id", "round"]):
        if len(names) == 1 and row["pair_id"].startswith(names[0]):
            return path / "rounds" / str(row["round"]) / "run"
    raise UsageError(
        f"{path} is a loop, and {' '.join(names) or 'no id'} is no pair of its lineage.parquet\n"
        f"  fix: name the run of a round: {', '.join(map(str, rounds)) or 'there is none yet'}"
    )


def loop_of(run: Path, pair_id: str | None) -> dict[str, Any] | None:
    """None where the run is no round of a loop."""
    home = run.resolve()
    folder, number = home.parent, home.parent.name
    out = folder.parent.parent
    if home.name != "run" or folder.parent.name != "rounds" or not number.isdecimal():
        return None
    this = int(number)
    rounds = {place: found_json(out / "rounds" / str(place) / "round.json") for place in range(1, this + 2)}
    best = found_json(out / "best.json")
    return {
        "loop": str(out),
        "round": this,
        "before": _round(rounds.get(this - 1)),
        "this": _round(rounds[this]),
        "after": _round(rounds[this + 1]),
        "best_round": None if best is None else best["round"],
        "lineage": _lineage(out, pair_id),
    }


def _round(record: dict[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    evaluation = record["evaluation"]
    return {
        "round": record["round"],
        "wrote": record["policy"]["before"]["spec"],
        "model": record["model"],
        "win_rate_over_start": evaluation["win_rate"],
        "win_rate_over_last": evaluation["last"]["win_rate"],
        "judge": evaluation["judge"],
    }


def _lineage(out: Path, pair_id: str | None) -> dict[str, Any] | None:
    """The row of the pair; none before the loop has come to its end."""
    with suppress(OSError):
        for row in read_table(out / _LINEAGE):
            if row["pair_id"] == pair_id:
                return row
    return None
