"""The checks of an audit that need no model: each reads the tables of a run and returns what it found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import Any

from judges.effects import effects
from judges.noise import CrossFit, by_size, cross_fit, word_features
from judges.ranking import cycles
from pipelines.audit.tables import Pairs, Row, pair_rows, prompts_of
from pipelines.calibration.labelling import pairing_from
from pipelines.report.measures import Position
from pipelines.stored import stored
from prefgen.decontamination import EvalIndex
from prefgen.rows import as_text
from prefgen.run import RunDirectory
from prefgen.splits import NearDuplicates

Found = dict[str, Any]
_SHOWN = 10
_EXCERPT = 1000


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]} …"


def prompt_groups(path: Path) -> dict[str, int]:
    """The group of near-duplicates of each prompt of the run."""
    near, ids = NearDuplicates(), []
    for prompt_id, messages, _ in prompts_of(path):
        near.add(as_text(messages))
        ids.append(prompt_id)
    return dict(zip(ids, near.groups().tolist(), strict=True))


def surface_found(pairs: Pairs, groups: Sequence[int], seed: int) -> Found | None:
    """How chosen differs from rejected on the outside, and how well the outside alone tells them apart.
    None for fewer than two pairs."""
    if len(pairs) < 2:
        return None
    fit = cross_fit(by_size(pairs.chosen - pairs.rejected), groups, seed=seed)
    told = effects(pairs.chosen, pairs.rejected, groups, seed=seed)
    alone = None if fit is None else {"auc": fit.auc, "agreement": fit.agreement.as_json()}
    return {"effects": {name: _json(asdict(effect)) for name, effect in told.items()}, "alone": alone}


def _json(value: Found) -> Found:
    """Intervals as lists."""
    return {
        name: _json(item) if isinstance(item, dict) else list(item) if isinstance(item, tuple) else item
        for name, item in value.items()
    }


def label_fit(path: Path, pairs: Pairs, groups: Sequence[int], seed: int) -> CrossFit | None:
    """P(label is right) of each pair from the words and the outside of its responses."""
    from scipy.sparse import csr_matrix, hstack

    if not len(pairs):
        return None
    texts = (row[side] for side in ("chosen", "rejected") for row in pair_rows(path))
    words = word_features(texts)
    outside = csr_matrix(by_size(pairs.chosen - pairs.rejected))
    return cross_fit(hstack([words[: len(pairs)] - words[len(pairs) :], outside]), groups, seed=seed)


def suspicious_rows(path: Path, fit: CrossFit, share: float | None) -> list[Row]:
    """The pairs whose label looks wrong, the most suspicious first."""
    places = {int(place): rank for rank, place in enumerate(fit.suspicious(share))}
    names = ("pair_id", "prompt_id", "prompt", "chosen", "rejected", "margin", "confidence", "split")
    found = {
        place: {name: row[name] for name in names} | {"probability": float(fit.probability[place])}
        for place, row in enumerate(pair_rows(path))
        if place in places
    }
    return [found[place] for place in places]


def label_noise(fit: CrossFit | None, flagged: Sequence[Row], n: int) -> Found | None:
    """None where there are too few prompts to say anything."""
    if fit is None:
        return None
    return {
        "learnable": fit.learnable,
        "auc": fit.auc,
        "agreement": fit.agreement.as_json(),
        "flagged": len(flagged),
        "flagged_share": len(flagged) / n,
        "most_suspicious": [_clipped(row) for row in flagged[:_SHOWN]],
    }


def _clipped(row: Row) -> Row:
    return row | {name: _excerpt(row[name]) for name in ("prompt", "chosen", "rejected")}


def contamination(path: Path, index: EvalIndex, *, responses: bool) -> Found:
    """Per evaluation file: how many of its questions stand in the run, and which, with the ids of the prompts
    (or candidates, where responses are looked at) that hold them."""
    holders: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for prompt_id, messages, candidates in prompts_of(path):
        told = {prompt_id: [message["content"] for message in messages]}
        if responses:
            told |= {row["candidate_id"]: [row["response"]] for row in candidates}
        for name, texts in told.items():
            for overlap in index.overlaps(*texts):
                holders[overlap.item.file, overlap.item.line][name] = overlap.share
    sizes = Counter(item.file for item in index.items)
    return {file: _file_found(file, n, index, holders) for file, n in sizes.items()}


def _file_found(
    file: str, n: int, index: EvalIndex, holders: dict[tuple[str, int], dict[str, float]]
) -> Found:
    items = [
        {"line": item.line, "text": _excerpt(item.text), **_best(holders[file, item.line])}
        for item in index.items
        if item.file == file and (file, item.line) in holders
    ]
    return {"n_items": n, "contaminated": len(items), "share": len(items) / n, "items": items}


def _best(holders: dict[str, float]) -> Found:
    most = sorted(holders.items(), key=lambda holder: (-holder[1], holder[0]))[:_SHOWN]
    return {"n_found_in": len(holders), "found_in": dict(most)}


def duplicates(path: Path, groups: dict[str, int], pairs: Pairs) -> Found:
    """Groups of near-duplicate prompts, those of them on both sides of the split, and answers that were
    chosen for several prompts word for word."""
    sizes = Counter(groups.values())
    splits: dict[int, set[str]] = defaultdict(set)
    for prompt_id, split in zip(pairs.prompt_ids, pairs.splits, strict=True):
        splits[groups[prompt_id]].add(split)
    straddling = {group for group, found in splits.items() if len(found) > 1}
    largest = [group for group, size in sizes.most_common(_SHOWN) if size > 1]
    members: dict[int, list[Row]] = defaultdict(list)
    for prompt_id, messages, _ in prompts_of(path):
        if groups[prompt_id] in {*largest, *straddling}:
            members[groups[prompt_id]].append({"prompt_id": prompt_id, "prompt": _excerpt(as_text(messages))})
    return {
        "n_prompts": len(groups),
        "n_groups": sum(size > 1 for size in sizes.values()),
        "n_in_groups": sum(size for size in sizes.values() if size > 1),
        "largest": [{"size": sizes[group], "prompts": members[group][:_SHOWN]} for group in largest],
        "straddling": [members[group] for group in sorted(straddling)],
        "boilerplate": _boilerplate(path, pairs),
    }


def _boilerplate(path: Path, pairs: Pairs) -> Found:
    prompts: dict[str, set[str]] = defaultdict(set)
    for answer, prompt_id in zip(pairs.answers, pairs.prompt_ids, strict=True):
        prompts[answer].add(prompt_id)
    repeated = {answer: len(ids) for answer, ids in prompts.items() if len(ids) > 1}
    most = sorted(repeated, key=lambda answer: (-repeated[answer], answer))[:_SHOWN]
    texts: dict[str, str] = {}
    wanted = (answer in most for answer in pairs.answers)
    for answer, row in compress(zip(pairs.answers, pair_rows(path), strict=True), wanted):
        texts.setdefault(answer, _excerpt(row["chosen"]))
    return {
        "n_answers": len(repeated),
        "n_pairs": sum(answer in repeated for answer in pairs.answers),
        "most_repeated": [{"prompts": repeated[answer], "chosen": texts[answer]} for answer in most],
    }


def balance(run: RunDirectory, pairs: Pairs) -> Found:
    """Who wrote what was chosen, what was dropped, and whether the position of a response mattered."""
    manifest, position = run.manifest, Position()
    pairing = pairing_from(manifest)
    policies, circles, triples = {}, 0, 0
    for _, sampled, results in stored(run):
        position.add(results)
        policies.update({item.id: item.policy for item in sampled.candidates})
        found = cycles(pairing.standing(sampled.distinct, results).margins)
        circles, triples = circles + found[0], triples + found[1]
    return {
        "policies": _policies(policies, pairs),
        "dropped": manifest["counts"]["dropped"],
        "failures": manifest["counts"]["failures"],
        "position": _position(position),
        "cycles": {"circles": circles, "triples": triples} if triples else None,
    }


def _policies(policies: dict[str, str], pairs: Pairs) -> Found:
    written = Counter(policies.values())
    chosen = Counter(policies[name] for name in pairs.chosen_ids)
    rejected = Counter(policies[name] for name in pairs.rejected_ids)
    return {
        name: {"candidates": written[name], "chosen": chosen[name], "rejected": rejected[name]}
        for name in sorted(written)
    }


def _position(position: Position) -> Found | None:
    """None where responses were not shown side by side."""
    from scipy.stats import binomtest

    if not position.decided:
        return None
    lean = position.lean
    return {
        "decided": position.decided,
        "first_slot_rate": position.first / position.decided,
        "p_value": float(binomtest(position.first, position.decided).pvalue),
        "n_both_orders": lean.n,
        "consistency": position.agree / lean.n if lean.n else None,
        "bias_log_odds": lean.mean if lean.n else None,
    }


def groups_of(pairs: Pairs, groups: dict[str, int]) -> list[int]:
    """The prompt group of each pair."""
    return [groups[prompt_id] for prompt_id in pairs.prompt_ids]
