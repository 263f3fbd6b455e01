"""The rows of a finished run, in the order they stand there, as an export begins with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from pipelines.export.target import Dataset, Row, Text
from prefgen.errors import InputError
from prefgen.messages import Messages, parse_messages
from prefgen.prompt import Prompt
from prefgen.run import RunDirectory
from prefgen.splits import NearDuplicates
from prefgen.tables import read_table

Split = Literal["train", "test"]
RawRow = Mapping[str, Any]


def source_of(run: RunDirectory, dataset: Dataset, split: Split) -> Path:
    """The file of the run that a split's rows stand in."""
    if dataset == "prompts":
        return run.path / "candidates.parquet"
    return run.path / ("kto" if dataset == "kto" else "dpo") / f"{split}.parquet"


class RunRows:
    """`as_text`: strings stay strings; else a standard run's prompts are the messages they were made from."""

    def __init__(self, run: RunDirectory, dataset: Dataset, *, as_text: bool, reference: str | None) -> None:
        self.run, self.dataset, self.reference = run, dataset, reference
        self.standard = run.config.get("format") == "standard"
        self.as_text = as_text and self.standard
        self._test = _test_prompts(run) if dataset == "prompts" else set[str]()

    def read(self, split: Split) -> Iterator[tuple[int, RawRow]]:
        """Each row with the number it has in its file. Raises InputError where the run has no such rows."""
        path = source_of(self.run, self.dataset, split)
        if not path.is_file():
            raise InputError(path, "no such file", expected="a run whose datasets are where it wrote them")
        if self.dataset == "prompts":
            yield from self._prompts(path, split)
        elif self.standard and not self.as_text:
            yield from self._with_messages(path)
        else:
            yield from enumerate(_table(path), start=1)

    def _prompts(self, path: Path, split: Split) -> Iterator[tuple[int, RawRow]]:
        columns = ["prompt_id", "prompt", "columns"]
        rows = groupby(enumerate(_table(path, columns), start=1), lambda item: item[1]["prompt_id"])
        for prompt_id, group in rows:
            if (prompt_id in self._test) == (split == "test"):
                line, row = next(group)
                yield line, {**row, "split": split}

    def _with_messages(self, path: Path) -> Iterator[tuple[int, RawRow]]:
        """Both tables stand in the order of the prompts."""
        prompts = _table(self.run.path / "candidates.parquet", ["prompt_id", "prompt"])
        at: RawRow | None = {"prompt_id": None}
        for line, row in enumerate(_table(path), start=1):
            while at is not None and at["prompt_id"] != row["prompt_id"]:
                at = next(prompts, None)
            if at is None:
                raise InputError(path, "a row of a prompt that candidates.parquet does not hold", line=line)
            yield line, {**row, "prompt": at["prompt"]}

    def parse(self, line: int, raw: RawRow) -> Row:
        """Raises ValueError, with the reason, for a row that is none."""
        if self.dataset == "prompts":
            columns = json.loads(raw["columns"])
            ids = {"prompt_id": raw["prompt_id"], "split": raw["split"]}
            reference = self._answer(columns)
            return Row(line, self._prompt(raw), ids=ids, reference=reference, columns=columns)
        if self.dataset == "kto":
            answer = (_reply(raw["completion"]),)
            return Row(line, self._prompt(raw), answer, raw["label"], ids={"prompt_id": raw["prompt_id"]})
        sides = (_reply(raw["chosen"]), _reply(raw["rejected"]))
        ids = {"pair_id": raw["pair_id"], "prompt_id": raw["prompt_id"]}
        return Row(line, self._prompt(raw), sides, margin=raw["margin"], ids=ids)

    def _prompt(self, raw: RawRow) -> Text:
        value = raw["prompt"]
        messages: Messages = parse_messages(value)
        if self.as_text:
            return value if isinstance(value, str) else Prompt(raw["prompt_id"], messages).text
        return messages

    def _answer(self, columns: Mapping[str, Any]) -> str | None:
        if self.reference is None:
            return None
        value = columns.get(self.reference)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"no text in column {self.reference!r}, which is to hold the reference answer")
        return value


def _table(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    try:
        yield from read_table(path, columns)
    except pa.ArrowException as error:
        raise InputError(
            path, f"not a table of a run ({error})", expected="the file as it was made"
        ) from error


def _reply(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or len(value) != 1 or value[0]["role"] != "assistant":
        raise ValueError(f"a response that is not one message of the assistant: {value!r:.80}")
    if not isinstance(value[0]["content"], str):
        raise ValueError(f"a response that is no text: {value!r:.80}")
    return value[0]["content"]


def _test_prompts(run: RunDirectory) -> set[str]:
    """The test prompts of the run's datasets, and those that are near-duplicates of one."""
    known = {
        row["prompt_id"]
        for name in ("dpo", "kto")
        if (path := run.path / name / "test.parquet").is_file()
        for row in _table(path, ["prompt_id"])
    }
    if not known:
        return known
    near, ids = NearDuplicates(), list[str]()
    rows = _table(run.path / "candidates.parquet", ["prompt_id", "prompt"])
    for prompt_id, group in groupby(rows, itemgetter("prompt_id")):
        ids.append(prompt_id)
        near.add(Prompt(prompt_id, parse_messages(next(group)["prompt"])).text)
    groups = near.groups().tolist()
    tested = {group for group, prompt_id in zip(groups, ids, strict=True) if prompt_id in known}
    return {prompt_id for group, prompt_id in zip(groups, ids, strict=True) if group in tested}
