"""What a run's tables come to in numbers, and what somebody who trains on the pairs should know first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pipelines.markup import many, percent, signed
from pipelines.report.findings import Findings
from pipelines.report.suspicion import KINDS
from pipelines.report.words import failure

_FAILED = 0.01
_SAME_VERDICT = 0.7
_MEDIUM_D = 0.5
_JUDGES_AGREE = 0.7
_OPPOSED = 0.5
_ENOUGH = 20
"""Pairs, from which on a share is worth a warning."""


def numbers_of(findings: Findings) -> dict[str, Any]:
    """`found` of the manifest: what the tables say, without texts."""
    told, where = findings.lengths, findings.position
    chosen, rejected = told.sides
    lengths = {
        "chosen": chosen.mean,
        "rejected": rejected.mean,
        "chosen_longer": told.longer / max(1, chosen.n),
        "cohens_d": told.cohens_d,
    }
    position = {
        "first_slot_rate": where.first / where.decided if where.decided else None,
        "n_both_orders": where.lean.n,
        "same_verdict": where.agree / where.lean.n if where.lean.n else None,
        "lean": where.lean.mean if where.lean.n else None,
    }
    return {
        "lengths": lengths if chosen.n else None,
        "position": position if where.decided or where.lean.n else None,
        "judges": [asdict(item) for item in findings.judges.among()],
        "principles": [asdict(item) for item in findings.principles.among()],
        "suspicious": dict(findings.suspicious.counts),
        "prompts_without_pair": findings.alone,
    }


def stands_out(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What should be known first, the worst first. Of a run made before there was `found` less is known."""
    counts, found = manifest["counts"], manifest.get("found") or {}
    if not counts["pairs"]:
        yield "No pair is clear enough, so there is nothing to train on."
    yield from _precision(manifest)
    failed = sum(counts["failures"].values())
    if failed >= max(1, _FAILED * (failed + counts["judgments"])):
        worst = max(counts["failures"], key=lambda name: counts["failures"][name])
        share = percent(failed / (failed + counts["judgments"]))
        yield f"{share} of the calls gave no usable answer; most often {failure(worst)}."
    yield from _position(manifest, found.get("position"))
    yield from _disagreement(found)
    yield from _length(found.get("lengths"))
    suspicious = sorted(found.get("suspicious", {}).items(), key=lambda item: list(KINDS).index(item[0]))
    for kind, n in suspicious:
        yield f"{many(n, 'kept pair')} to look at: {KINDS[kind]}."
    if counts["pairs"] and manifest["calibration"] is None:
        yield "No label of a person stands behind the confidence: label some pairs, then prefgen calibrate."


def _precision(manifest: Mapping[str, Any]) -> Iterator[str]:
    expected, calibrated = manifest["expected_label_precision"], manifest["calibration"]
    target = calibrated and calibrated["target"]
    if expected is not None and target is not None and expected < target:
        yield (
            f"{percent(expected)} of the labels are expected to be right, less than the target of "
            f"{percent(target)}."
        )


def _position(manifest: Mapping[str, Any], told: Mapping[str, Any] | None) -> Iterator[str]:
    config = manifest["config"]
    if config["judge"] and config["judging"] == "pairwise" and not config["both_orders"]:
        yield "Judged in one order only: the judge’s liking for a position is in the labels."
    if told and told["n_both_orders"] >= _ENOUGH and told["same_verdict"] < _SAME_VERDICT:
        yield f"Only {percent(told['same_verdict'])} of the questions got the same verdict in both orders."


def _disagreement(found: Mapping[str, Any]) -> Iterator[str]:
    judges = [item for item in found.get("judges", ()) if item["n"] >= _ENOUGH]
    least = min(judges, key=lambda item: item["same"], default=None)
    if least and least["same"] < _JUDGES_AGREE:
        one, other, share = least["one"], least["other"], percent(least["same"])
        yield f"{one} and {other} give the same verdict on only {share} of the pairs."
    principles = [item for item in found.get("principles", ()) if item["decided"] >= _ENOUGH]
    worst = max(principles, key=lambda item: item["opposed"], default=None)
    if worst and worst["opposed"] > _OPPOSED:
        one, other, share = worst["one"], worst["other"], percent(worst["opposed"])
        yield f"The principles “{one}” and “{other}” pull apart on {share} of the pairs that both decide."


def _length(told: Mapping[str, Any] | None) -> Iterator[str]:
    effect = told["cohens_d"] if told else None
    if effect is not None and abs(effect) >= _MEDIUM_D:
        longer = "longer" if effect > 0 else "shorter"
        yield f"Chosen responses are clearly {longer} (Cohen’s d {signed(effect)}): a model may learn that."
