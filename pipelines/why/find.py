"""From an id, or the beginning of one, to a prompt of a run and the two candidates that are meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias

from prefgen.errors import InputError, UsageError
from prefgen.tables import read_table

Kind: TypeAlias = Literal["pair", "undecided pair", "candidate", "prompt"]
_SHORTEST, _SHOWN, _COMPARED = 4, 8, 50_000


@dataclass(frozen=True, slots=True)
class Target:
    """`sides`: the two candidates, none where a whole prompt is meant, one for the pairs of a candidate."""

    kind: Kind
    id: str
    prompt_id: str
    sides: tuple[str, ...] = ()


def find(run: Path, names: tuple[str, ...]) -> Target:
    """What one id or two ids of candidates mean. Raises UsageError where they mean nothing, or several
    things."""
    if len(names) == 1:
        return _one(run, names[0])
    first, second = (_one(run, name, ("candidate",)) for name in names)
    if first.prompt_id != second.prompt_id or first.id == second.id:
        raise UsageError(
            f"{first.id} answers the prompt {first.prompt_id}, {second.id} the prompt {second.prompt_id}; a "
            "pair is two candidates of one prompt"
        )
    return Target("candidate", first.id, first.prompt_id, (first.id, second.id))


def _one(run: Path, name: str, kinds: tuple[Kind, ...] = ()) -> Target:
    exact, begun, seen = dict[str, Target](), dict[str, Target](), list[str]()
    for target in _all(run):
        if kinds and target.kind not in kinds:
            continue
        if target.id == name:
            exact.setdefault(target.id, target)
        elif target.id.startswith(name) and len(name) >= _SHORTEST:
            begun.setdefault(target.id, target)
        elif len(seen) < _COMPARED:
            seen.append(target.id)
    found = exact or begun
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        several = [f"{target.kind} {target.id}" for target in list(found.values())[:_SHOWN]]
        raise UsageError(f"{name} is the beginning of {len(found)} ids: {', '.join(several)}")
    nearest = get_close_matches(name, dict.fromkeys(seen), n=3, cutoff=0.6)
    raise InputError(
        run,
        f"holds no {' or '.join(kinds) or 'pair, candidate or prompt'} of this id",
        seen=name,
        expected=f"perhaps {', '.join(nearest)}" if nearest else None,
        fix=f"prefgen why {run} shows some pairs, prefgen why {run} PROMPT_ID those of a prompt",
    )


def _all(run: Path) -> Iterator[Target]:
    for split in ("train", "test"):
        columns = ["pair_id", "prompt_id", "chosen_id", "rejected_id"]
        for row in read_table(run / "dpo" / f"{split}.parquet", columns):
            sides = row["chosen_id"], row["rejected_id"]
            yield Target("pair", row["pair_id"], row["prompt_id"], sides)
    for row in read_table(run / "undecided.parquet", ["id", "prompt_id", "a_id", "b_id"]):
        yield Target("undecided pair", row["id"], row["prompt_id"], (row["a_id"], row["b_id"]))
    prompt = ""
    for row in read_table(run / "candidates.parquet", ["candidate_id", "prompt_id"]):
        if row["prompt_id"] != prompt:
            prompt = row["prompt_id"]
            yield Target("prompt", prompt, prompt)
        yield Target("candidate", row["candidate_id"], prompt, (row["candidate_id"],))
