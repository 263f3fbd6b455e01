"""What a round samples from and what it is trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.console import Console
from pipelines.rlaif.config import LoopConfig
from pipelines.rlaif.places import RoundPlace
from prefgen.files import json_lines, write_whole
from prefgen.messages import Messages, as_dicts, content_hash, user
from prefgen.prompt import Prompt, read_prompts
from prefgen.tables import MESSAGES, TableWriter, read_table
from trainers.rows import Row, parse_pair, read_rows

PAIRS = pa.schema(
    [
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("pair_id", pa.string()),
        ("source", pa.string()),
    ]
)
LABELS = pa.schema(
    [
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        ("label", pa.bool_()),
        ("pair_id", pa.string()),
        ("source", pa.string()),
    ]
)
OWN = "the round"
"""Source of a pair that the round made itself; any other is the file it came from."""


def slice_of(count: int, size: int | None, number: int) -> list[int]:
    """The places of round `number` (1, 2, 3 …) among `count` prompts: the next `size`, from the first again
    after the last."""
    if size is None or size >= count:
        return list(range(count))
    return [place % count for place in range((number - 1) * size, number * size)]


def prompt_file(config: LoopConfig, place: RoundPlace) -> Path:
    """The round's prompts: the file itself, or its slice of it, written into the round's folder."""
    size = config.file.prompts_per_round
    if size is None:
        return config.file.prompts
    path = place.folder / "prompts.jsonl"
    if not path.exists():
        prompts = list(read_prompts(config.file.prompts))
        chosen = [prompts[at] for at in slice_of(len(prompts), size, place.number)]
        write_whole(path, json_lines(map(_record, chosen)))
    return path


def _record(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.id, "prompt": as_dicts(prompt.messages), **prompt.columns}


def training_files(config: LoopConfig, place: RoundPlace, console: Console) -> tuple[Path, Path | None]:
    """Data and held-out data of the round's stage, the second None where a run directory has its own."""
    if config.train.stage.online:
        return prompt_file(config, place), None
    return pair_files(config, place, console, labels=config.train.stage.rows == "labels")


def pair_files(
    config: LoopConfig, place: RoundPlace, console: Console, *, labels: bool = False
) -> tuple[Path, Path | None]:
    """The round's run, or, with given pairs, one file of both, written into the round's folder."""
    given = config.file.given_pairs
    if given is None:
        return place.run, None
    name = "kto" if labels else "dpo"
    if not place.mixed.exists():
        count = pq.read_metadata(place.run / "dpo" / "train.parquet").num_rows
        rows = read_given(given.file)
        wanted = drawn_count(count, given.share)
        if wanted > len(rows):
            console.warn(
                f"a share of {given.share:.0%} given pairs beside {count} others takes {wanted}, and "
                f"{given.file} holds {len(rows)}: all of them are taken"
            )
        drawn = draw(rows, wanted, config.seed, place.number)
        own = read_table(place.run / name / "train.parquet")
        _write_mixed(place.mixed, own, drawn, str(given.file), labels=labels)
    test = place.run / name / "test.parquet"
    return place.mixed, test if pq.read_metadata(test).num_rows else None


def read_given(path: Path) -> list[Row]:
    """Pairs as messages. Raises InputError."""
    return read_rows(path, parse_pair, as_chat=True)


def drawn_count(own: int, share: float) -> int:
    """How many given pairs make `share` of the whole beside `own` others: own · share / (1 - share)."""
    return round(own * share / (1 - share))


def draw(rows: Sequence[Row], count: int, seed: int, number: int) -> list[Row]:
    """Other rows each round, the same for the same seed."""
    random_ = random.Random(content_hash([seed, "given", number]))
    return random_.sample(list(rows), min(count, len(rows)))


def pair_id(row: Row) -> str:
    """The id of a given pair: the hash of what it says."""
    return content_hash([json.dumps(_turns(text)) for text in (row.prompt, *row.completions)])


def _turns(text: str | Messages) -> list[dict[str, str]]:
    return as_dicts(user(text) if isinstance(text, str) else text)


def _write_mixed(
    path: Path, own: Iterator[dict[str, Any]], given: Sequence[Row], source: str, *, labels: bool
) -> None:
    schema = LABELS if labels else PAIRS
    table = TableWriter(path, schema)
    for row in own:
        table.append({name: row.get(name) for name in schema.names} | {"source": OWN})
    for pair in given:
        prompt, (chosen, rejected) = _turns(pair.prompt), map(_turns, pair.completions)
        common = {"prompt": prompt, "pair_id": pair_id(pair), "source": source}
        if labels:
            table.append(common | {"completion": chosen, "label": True})
            table.append(common | {"completion": rejected, "label": False})
        else:
            table.append(common | {"chosen": chosen, "rejected": rejected})
    table.publish()


def margins(run: Path) -> dict[str, float | None]:
    """Mean margin (log-odds) and confidence of a run's pairs; None for no pairs."""
    tables = [
        pq.read_table(run / "dpo" / f"{split}.parquet", columns=["margin", "confidence"])
        for split in ("train", "test")
    ]
    whole = pa.concat_tables(tables).to_pydict()
    return {name: sum(values) / len(values) if values else None for name, values in whole.items()}
