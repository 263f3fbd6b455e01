"""A finished run read back: candidates and judgments, prompt by prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow.parquet as pq

from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.messages import parse_messages
from prefgen.prompt import Prompt
from prefgen.run import RunDirectory
from prefgen.sampling import Sampled
from prefgen.tables import read_table

_PROVENANCE = ("judge", "served", "template", "constitution", "principle", "order", "ledger_key", "evidence")


def stored(source: RunDirectory) -> Iterator[tuple[Prompt, Sampled, list[JudgeResult]]]:
    """Candidates and judgments of a run, prompt by prompt, a chunk of each table in memory.

    Both tables stand in the order of the prompts; a prompt without judgments is absent from the second.
    """
    judgments = groupby(read_table(source.path / "judgments.parquet"), itemgetter("prompt_id"))
    waiting = next(judgments, None)
    candidates = groupby(read_table(source.path / "candidates.parquet"), itemgetter("prompt_id"))
    for prompt_id, group in candidates:
        rows = list(group)
        results: list[JudgeResult] = []
        if waiting is not None and waiting[0] == prompt_id:
            results = [_result(row) for row in waiting[1]]
            waiting = next(judgments, None)
        yield _told(rows, results)


def stored_prompt(source: RunDirectory, prompt_id: str) -> tuple[Prompt, Sampled, list[JudgeResult]]:
    """The same of one prompt, which must be there."""
    candidates, judgments = (
        pq.read_table(source.path / f"{name}.parquet", filters=[("prompt_id", "=", prompt_id)]).to_pylist()
        for name in ("candidates", "judgments")
    )
    return _told(candidates, [_result(row) for row in judgments])


def _told(
    rows: Sequence[Mapping[str, Any]], results: list[JudgeResult]
) -> tuple[Prompt, Sampled, list[JudgeResult]]:
    """`rows`: the candidates of a prompt."""
    prompt = Prompt(rows[0]["prompt_id"], parse_messages(rows[0]["prompt"]), json.loads(rows[0]["columns"]))
    duplicates = {row["candidate_id"]: row["duplicate_of"] for row in rows if row["duplicate_of"]}
    return prompt, Sampled(tuple(_candidate(row) for row in rows), duplicates), results


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(
        prompt_id=row["prompt_id"],
        text=row["response"],
        **{name: row[name] for name in ("policy", "sample", "finish_reason", "n_tokens", "seed")},
        temperature=row["temperature"],
        top_p=row["top_p"],
    )


def _result(row: Mapping[str, Any]) -> JudgeResult:
    provenance = Provenance(**{name: row[name] for name in _PROVENANCE})
    ids = {name: row[name] for name in ("prompt_id", "a_id", "b_id")}
    told = {"raw": row["raw"], "cost_usd": row["cost"]}
    if row["status"] == "ok":
        return Judgment(
            **ids, log_odds=row["log_odds"], provenance=provenance, coverage=row["coverage"], **told
        )
    return JudgeFailure(**ids, status=row["status"], provenance=provenance, **told)
