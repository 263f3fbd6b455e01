"""Pairs that the margin rule dropped: no table holds them, so pairing is done again without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from judges.constitution import Constitution, load_constitution
from pipelines.generate_config import PairingConfig
from prefgen.candidate import Candidate
from prefgen.errors import InputError
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.messages import parse_messages
from prefgen.pairing import pair_up
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.verdicts import settle

Row = dict[str, Any]


class Recall:
    """Takes the stored rows of one prompt after the other. Where principles were weighted by a
    constitution that is gone or has changed, nothing is recalled: other weights are other margins."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        config = manifest["config"]
        known = {name: config[name] for name in PairingConfig.model_fields if name in config}
        self._rule = PairingConfig.model_validate(known).rule
        self._wanted = "margin" in manifest["counts"]["dropped"]
        self._weighted = config.get("judging") == "pointwise" or config.get("principles") == "each"
        self._name = config["constitution"] if config.get("judge") else None
        self._constitution = _load(self._name)
        self._hash: str | None = None

    def below_threshold(self, candidates: Sequence[Row], judged: Sequence[Row]) -> list[Preference]:
        """One prompt's pairs with a margin above zero and a confidence below the threshold."""
        self._hash = self._hash or next((row["constitution"] for row in judged), None)
        weights = self._weights
        if not self._wanted or not judged or weights is None:
            return []
        found = [_candidate(row) for row in candidates if row["duplicate_of"] is None]
        standing = settle([item.id for item in found], map(_result, judged), weights)
        prompt = Prompt(candidates[0]["prompt_id"], parse_messages(candidates[0]["prompt"]))
        rule = replace(self._rule, min_confidence=0.5, max_pairs=len(found) ** 2)
        preferences = pair_up(prompt, found, standing, rule).preferences
        return [item for item in preferences if item.confidence < self._rule.min_confidence]

    @property
    def _weights(self) -> Mapping[str, float] | None:
        if self._name is None or not self._weighted:
            return {}
        return self._constitution.weights if self._constitution and self._unchanged else None

    @property
    def _unchanged(self) -> bool:
        return self._constitution is not None and self._constitution.hash == self._hash

    @property
    def constitution(self) -> str | None:
        """Its id and hash; None where a reward model judged."""
        if self._name is None:
            return None
        name = self._constitution.id if self._constitution and self._unchanged else Path(self._name).name
        return f"{name}, hash {self._hash}" if self._hash else name


def _load(name: str | None) -> Constitution | None:
    try:
        return load_constitution(name) if name else None
    except InputError:
        return None


def _candidate(row: Row) -> Candidate:
    return Candidate(row["prompt_id"], row["response"], row["policy"], row["sample"], row["finish_reason"])


def _result(row: Row) -> JudgeResult:
    told = Provenance(row["judge"], "", "", principle=row["principle"], order=row["order"])
    who = (row["prompt_id"], row["a_id"], row["b_id"])
    if row["status"] != "ok":
        return JudgeFailure(*who, row["status"], told)
    return Judgment(*who, row["log_odds"], told)
