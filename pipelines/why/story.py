"""Everything a run knows of one pair, or of all pairs of one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import isclose, isfinite
from typing import Any

from judges.constitution import load_constitution
from pipelines.calibration.labelling import pairing_from
from pipelines.outcome import Outcome, Pairing
from pipelines.publish import judgment_row
from pipelines.stored import stored_prompt
from pipelines.summary import rule_in_words
from pipelines.why.arithmetic import Sum, is_on, sums
from pipelines.why.config import WhyConfig
from pipelines.why.find import find
from pipelines.why.listing import listed
from pipelines.why.loop import loop_of, run_in_loop
from pipelines.why.training import seen_by
from prefgen.candidate import Candidate
from prefgen.errors import InputError, PrefgenError
from prefgen.judgment import JudgeResult, sigmoid
from prefgen.messages import as_dicts, content_hash
from prefgen.pairing import fate, is_tie
from prefgen.preference import Preference
from prefgen.run import RunDirectory
from prefgen.tables import read_table


@dataclass(frozen=True, slots=True)
class Told:
    """One prompt of a run, judged and paired as the run did it."""

    run: RunDirectory
    manifest: Mapping[str, Any]
    pairing: Pairing
    outcome: Outcome

    @property
    def candidates(self) -> dict[str, Candidate]:
        return {item.id: item for item in self.outcome.sampled.candidates}


def why(config: WhyConfig) -> dict[str, Any]:
    """The story of one pair, the pairs of a prompt or candidate, or, without an id, some pairs of the run.

    Raises InputError where `run` is no finished run or holds nothing of that id.
    """
    path = run_in_loop(config.run, config.ids)
    run = RunDirectory.open(path)
    if not config.ids:
        return listed(run)
    target = find(path, config.ids)
    prompt, sampled, results = stored_prompt(run, target.prompt_id)
    manifest = run.manifest
    pairing = pairing_from(manifest)
    told = Told(run, manifest, pairing, pairing.outcome(prompt, sampled, results))
    common = {"run": str(path), "prompt_id": prompt.id, "prompt": as_dicts(prompt.messages)}
    common |= {"candidates": _candidates(told)}
    if len(target.sides) == 2:
        a, b = target.sides
        return common | _pair(told, a, b, config)
    wanted = set(target.sides) or set(told.candidates)
    pairs = [
        _short(told, a, b)
        for a, b in combinations((item.id for item in sampled.distinct), 2)
        if {a, b} & wanted
    ]
    return common | {"pairs": sorted(pairs, key=lambda pair: (not pair["kept"], -(pair["confidence"] or 0)))}


def _candidates(told: Told) -> list[dict[str, Any]]:
    sampled, scores = told.outcome.sampled, told.outcome.standing.scores
    return [
        asdict(item)
        | {
            "candidate_id": item.id,
            "score": scores.get(item.id),
            "duplicate_of": sampled.duplicate_of.get(item.id),
        }
        for item in sampled.candidates
    ]


def _short(told: Told, a: str, b: str) -> dict[str, Any]:
    """`better` and `worse` as the judges have it, where there is a margin, and what became of the pair.
    `objection`: what speaks against it, also where the strategy takes another one."""
    standing, rule = told.outcome.standing, told.pairing.rule
    kept = next(
        (item for item in told.outcome.paired.preferences if {item.chosen.id, item.rejected.id} == {a, b}),
        None,
    )
    if kept is not None:
        names = {"pair_id": kept.id, "better": kept.chosen.id, "worse": kept.rejected.id}
        return names | {
            "margin": kept.margin,
            "confidence": kept.confidence,
            "kept": True,
            "reason": None,
            "objection": None,
        }
    margin = standing.margin(a, b)
    better, worse = (b, a) if (margin or 0.0) < 0 else (a, b)
    proposed, reason = _fate(told, a, b)
    size = None if margin is None else abs(margin)
    sides = told.candidates[better], told.candidates[worse]
    sure = None if size is None else rule.confidence.probability(size, *sides)
    unsure = _unsure(told, a, b)
    if unsure is not None:  # In a cascade this is as the last judge has it that was asked.
        better, worse = unsure.chosen.id, unsure.rejected.id
        size, sure = unsure.margin, unsure.confidence
        reason = "tie" if is_tie(size) else "margin"
    return {
        "pair_id": _waits_as(told, a, b),
        "better": better,
        "worse": worse,
        "margin": size,
        "confidence": sure,
        "kept": False,
        "reason": (reason or "over_max_pairs") if proposed else "not_proposed",
        "objection": reason,
    }


def _fate(told: Told, a: str, b: str) -> tuple[bool, str | None]:
    if told.outcome.sampled.duplicate_of.keys() & {a, b}:
        return True, "duplicate"
    return fate(told.outcome.sampled.distinct, told.outcome.standing, told.pairing.rule, a, b)


def _waits_as(told: Told, a: str, b: str) -> str | None:
    """The id in `undecided.parquet`."""
    return content_hash([min(a, b), max(a, b)]) if _unsure(told, a, b) is not None else None


def _unsure(told: Told, a: str, b: str) -> Preference | None:
    unsure = told.outcome.paired.unsure
    return next((item for item in unsure if {item.chosen.id, item.rejected.id} == {a, b}), None)


def _pair(told: Told, a: str, b: str, config: WhyConfig) -> dict[str, Any]:
    short = _short(told, a, b)
    better, worse = short["better"], short["worse"]
    weighing, results = told.pairing.weighing, told.outcome.results
    on_pair = [item for item in results if is_on(item, a, b)]
    ids = {"pair_id": short["pair_id"] or "", "chosen_id": better, "rejected_id": worse}
    summed = sums(on_pair, weighing.principles, better, worse)
    decided_by = _decided_by(told, summed, short["margin"])
    return {
        **short,
        "judgments": [_judgment(item) for item in on_pair],
        "judgments_of_prompt": len(results),
        "constitution": _constitution(told.manifest, config.constitution),
        "combined": {
            "judges": [_sum(item) for item in summed],
            "combine": weighing.combine,
            "judge_weights": dict(weighing.judges),
            "decided_by": decided_by,
            "margin": short["margin"],
            "slot_bias": told.outcome.standing.slot_bias(better, worse),
        },
        "calibration": _calibration(told, short["margin"], {item.judge: item.margin for item in summed}),
        "rule": rule_in_words(told.manifest),
        "pairing": {
            name: told.manifest["config"][name]
            for name in (
                "strategy",
                "min_confidence",
                "max_pairs",
                "max_similarity",
                "max_length_gap",
                "seed",
            )
        },
        "rows": _rows(told.run, ids),
        "source": told.manifest.get("source"),
        "uses": seen_by(told.run.path, ids, config.look_in),
        "loop": loop_of(told.run.path, short["pair_id"]),
    }


def _judgment(result: JudgeResult) -> dict[str, Any]:
    """A row of `judgments.parquet`, with the response that was shown first; None where one was shown."""
    first = {"ab": result.a_id, "ba": result.b_id}.get(result.provenance.order or "")
    numbers = dict.fromkeys(("log_odds", "p_a", "coverage", "verdict"))
    return numbers | judgment_row(result) | {"shown_first": first if result.b_id else None}


def _decided_by(told: Told, summed: Sequence[Sum], margin: float | None) -> str | None:
    """The judge of a cascade whose word the margin is; None elsewhere, and where it is of none alone."""
    if told.pairing.weighing.combine != "cascade" or margin is None:
        return None
    return next((item.judge for item in summed if isclose(item.margin, margin, abs_tol=1e-6)), None)


def _sum(found: Sum) -> dict[str, Any]:
    return asdict(found) | {"margin": found.margin}


def _constitution(manifest: Mapping[str, Any], instead: str | None) -> dict[str, Any] | None:
    """Id, hash and, as far as they are known, the principles. Raises InputError where `instead` is another
    constitution than the run's."""
    used = manifest["constitution"]
    if used is None or "principles" in used:
        return used and dict(used)
    try:
        found = load_constitution(instead or manifest["config"]["constitution"])
    except PrefgenError:
        if instead is not None:
            raise
        return {**used, "principles": None}
    if found.hash == used["hash"]:
        return {**used, "principles": [principle.model_dump() for principle in found.principles]}
    if instead is not None:
        raise InputError(
            instead, "not the run's constitution", seen=f"hash {found.hash}", expected=f"hash {used['hash']}"
        )
    return {**used, "principles": None}


def _calibration(told: Told, margin: float | None, by_judge: Mapping[str, float]) -> dict[str, Any]:
    """From log-odds to a probability, and the threshold it was held to. In a cascade: of each judge, with
    its own margin, None where it was not asked about the pair."""
    calibrated = told.manifest["calibration"]
    stages = calibrated["stages"] if calibrated is not None else []
    return {
        "file": calibrated and calibrated["file"],
        "target": calibrated and calibrated["target"],
        "stages": [
            {
                "judge": stage["judge"],
                "map": stage["map"],
                "margin": by_judge.get(stage["judge"]) if stage["judge"] else margin,
            }
            for stage in stages
        ],
        "margin": margin,
        "raw_probability": None if margin is None else sigmoid(margin),
        "thresholds": [
            rule.min_confidence if isfinite(rule.min_confidence) else None
            for rule in (told.pairing.rule, *(stage.rule for stage in told.pairing.later))
        ],
    }


def _rows(run: RunDirectory, ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Where the pair stands in the datasets, and its two responses in that of single labels."""
    found = []
    for split in ("train", "test"):
        for row in read_table(run.path / "dpo" / f"{split}.parquet", ["pair_id"]):
            if row["pair_id"] == ids["pair_id"]:
                found.append({"dataset": "dpo", "split": split})
        for row in read_table(run.path / "kto" / f"{split}.parquet", ["candidate_id", "label"]):
            if row["candidate_id"] in (ids["chosen_id"], ids["rejected_id"]):
                found.append({"dataset": "kto", "split": split, **row})
    return found
