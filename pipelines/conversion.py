"""What was read of a file of feedback, and the rows that are made of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.convert_config import ConvertConfig
from prefgen.feedback import Compared, Layout, Rated, Text, layout_of, paired, unpaired
from prefgen.files import json_lines, write_whole
from prefgen.messages import as_dicts
from prefgen.ratings import Listed
from prefgen.records import Record
from prefgen.rows import Format, as_text
from prefgen.tables import MESSAGES, TableWriter


@dataclass
class Conversion:
    """`left`: rows that gave nothing, as OUT.rejected.jsonl has them; `failed` of them could not be used."""

    rows: int = 0
    compared: list[tuple[Record, Compared]] = field(default_factory=list)
    rated: list[tuple[Record, Rated]] = field(default_factory=list)
    listed: list[tuple[Record, Listed]] = field(default_factory=list)
    layouts: Counter[Layout] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    left: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, record: Record, why: str) -> None:
        self.failed += 1
        self._leave(record, "failed", why)

    def drop(self, record: Record, why: str) -> None:
        self.dropped[why] += 1
        self._leave(record, "dropped", why)

    def _leave(self, record: Record, status: str, why: str) -> None:
        self.left.append({"line": record.line, "status": status, "why": why, "row": record.values})


def labelled(found: Conversion, config: ConvertConfig) -> list[dict[str, Any]]:
    """Rows of `prompt completion label`, in the file's order; a comparison gives both its sides."""
    said = [(record, [rated]) for record, rated in found.rated]
    said += [(record, unpaired(compared)) for record, compared in found.compared]
    rows: list[dict[str, Any]] = []
    for record, both in sorted(said, key=lambda item: item[0].line):
        try:
            rows += [
                _row(config.format, prompt=one.prompt, completion=one.response) | {"label": one.good}
                for one in both
            ]
        except ValueError as error:
            found.fail(record, str(error))
    return rows


def pairs(found: Conversion, config: ConvertConfig) -> list[dict[str, Any]]:
    """Rows of `prompt chosen rejected`, in the file's order; ratings are paired within their prompt."""
    made, left = paired([rated for _, rated in found.rated])
    for place in left:
        record = found.rated[place][0]
        alone = "sent as drafted" if layout_of(record.values) == "sent" else "no counterpart for the prompt"
        found.drop(record, alone)
    said = [(found.rated[place][0], compared) for place, compared in made] + found.compared
    rows: list[dict[str, Any]] = []
    for record, pair in sorted(said, key=lambda item: item[0].line):
        try:
            texts = _row(config.format, prompt=pair.prompt, chosen=pair.better, rejected=pair.worse)
            rows.append({**texts, **pair.numbers})
        except ValueError as error:
            found.fail(record, str(error))
    return rows


def _row(format: Format, **texts: Text) -> dict[str, Any]:
    return {name: _shaped(text, name == "prompt", format) for name, text in texts.items()}


def _shaped(text: Text, prompt: bool, format: Format) -> str | list[dict[str, str]]:
    if format == "standard":
        if not isinstance(text, str) and not prompt and len(text) > 1:
            raise ValueError(
                "several turns after the prompt are no plain string; use --format conversational"
            )
        return text if isinstance(text, str) else as_text(as_dicts(text))
    if not isinstance(text, str):
        return as_dicts(text)
    return [{"role": "user", "content": text} if prompt else {"role": "assistant", "content": text.strip()}]


def write_rows(config: ConvertConfig, rows: list[dict[str, Any]]) -> None:
    if config.out.suffix.lower() != ".parquet":
        write_whole(config.out, json_lines(rows, default=str))
        return
    text = MESSAGES if config.format == "conversational" else pa.string()
    kinds = {"label": pa.bool_(), "margin": pa.float64(), "confidence": pa.float64()}
    names = dict.fromkeys(name for row in rows for name in row)
    writer = TableWriter(config.out, pa.schema([(name, kinds.get(name, text)) for name in names]))
    for row in rows:
        writer.append(row)
    writer.publish()
