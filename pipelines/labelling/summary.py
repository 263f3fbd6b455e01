"""What came of it: who labelled how much, how far people agree, and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from judges.agreement import human_agreement, krippendorff_alpha, pairwise_kappas
from pipelines.labelling.audit import audit, audit_lines
from pipelines.labelling.config import LabelConfig
from pipelines.labelling.export import labelled
from pipelines.labelling.item import ADJUDICATOR, UNNAMED
from pipelines.labelling.store import Store
from pipelines.markup import many
from prefgen.labels import LabelledPair


def summary(store: Store, config: LabelConfig) -> dict[str, Any]:
    """The result of the command.

    `agreement`: among annotators, None where no pair has labels of two: `n` pairs with two labels and more,
    `human_agreement` the chance that two of a pair's labels are the same, alpha and kappas. `disputed`: pairs
    whose labels differ; `adjudicated`: those of them that are settled.
    """
    told = labelled(store)
    labels = Counter(answer.label or "skip" for answer in store.given() if answer.annotator != ADJUDICATOR)
    disputed = [entry for _, entry in told if len(set(entry.labels)) > 1]
    found: dict[str, Any] = {
        "out": str(config.labels),
        "store": str(config.store),
        "n_items": len(store.ids()),
        "n_labelled": len(told),
        "n_complete": sum(len(entry.labels) >= store.overlap for _, entry in told),
        "overlap": store.overlap,
        "labels": {name: labels[name] for name in ("a", "b", "tie", "skip")},
        "annotators": _annotators(store),
        "agreement": agreement([entry for _, entry in told]),
        "disputed": len(disputed),
        "adjudicated": sum(entry.settled is not None for entry in disputed),
        "audit": None,
    }
    if config.audit is not None:
        found["audit"] = audit(told, **store.meta("promise"))
    return found


def agreement(told: Sequence[LabelledPair]) -> dict[str, Any] | None:
    several = [entry for entry in told if len(entry.labels) > 1]
    if not several:
        return None
    votes = [
        tuple(
            (None if name is None or name.startswith(UNNAMED) else name, label)
            for name, label in zip(entry.annotators, entry.labels, strict=True)
        )
        for entry in several
    ]
    same = [share for entry in several if (share := human_agreement(entry.labels)) is not None]
    return {
        "n": len(several),
        "human_agreement": fmean(same),
        "krippendorff_alpha": krippendorff_alpha([entry.labels for entry in several]),
        "pairwise_kappa": pairwise_kappas(votes),
    }


def _annotators(store: Store) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    paces: dict[str, list[float]] = {}
    for given in store.given():
        name = "not named in the file" if given.annotator.startswith(UNNAMED) else given.annotator
        counts = found.setdefault(name, {"labels": 0, "skips": 0})
        counts["skips" if given.label is None else "labels"] += 1
        paces.setdefault(name, []).extend([] if given.seconds is None else [given.seconds])
    for name, counts in found.items():
        counts["seconds"] = median(paces[name]) if paces[name] else None
    return found


def label_summary(config: LabelConfig, found: dict[str, Any]) -> str:
    people = ", ".join(
        f"{name} {many(told['labels'], 'label')}" for name, told in found["annotators"].items()
    )
    per = f" by {found['overlap']} people each" if found["overlap"] > 1 else ""
    lines = [
        f"{found['n_complete']} of {many(found['n_items'], 'pair')} labelled{per}: {people or 'nobody yet'}"
        + (f"; {many(found['labels']['skip'], 'skip')}, no labels" if found["labels"]["skip"] else ""),
        *agreement_lines(found),
    ]
    if found["audit"] is not None:
        lines += audit_lines(found["audit"])
    return "\n".join(
        [*lines, f"written to {config.labels}; every answer is in {config.store}", *_next(config, found)]
    )


def agreement_lines(found: Mapping[str, Any]) -> list[str]:
    """How far annotators agree; nothing where no pair has labels of two."""
    told = found["agreement"]
    if told is None:
        return []
    alpha = "" if told["krippendorff_alpha"] is None else f", alpha {told['krippendorff_alpha']:.2f}"
    open_ = found["disputed"] - found["adjudicated"]
    kappas = "".join(
        f", kappa of {pair.replace('|', ' and ')} {k:.2f}" for pair, k in told["pairwise_kappa"].items()
    )
    return [
        f"two people agree on {told['human_agreement']:.0%} of {many(told['n'], 'pair')}{alpha}{kappas}; "
        f"{many(found['disputed'], 'pair')} disputed" + (f", {open_} not adjudicated" if open_ else "")
    ]


def _next(config: LabelConfig, found: dict[str, Any]) -> list[str]:
    """Command lines that go on from here."""
    if not found["n_labelled"]:
        return []
    lines = []
    if found["disputed"] > found["adjudicated"]:
        lines.append(f"prefgen label {_same(config)} --adjudicate")
    if config.audit is None:
        said = config.verdicts or (config.verdict_file if config.verdict_file.exists() else None)
        judge = "--judge MODEL" if said is None else f"--verdicts {shlex.quote(str(said))}"
        labels = shlex.quote(str(config.labels))
        lines.append(f"prefgen calibrate {labels} {judge} --out calibrations/people")
    return ["next:", *(f"  {line}" for line in lines)] if lines else []


def _same(config: LabelConfig) -> str:
    """The arguments that lead to this store."""
    parts = [str(config.source)]
    for name in ("out", "count", "sample", "audit", "verdicts"):
        if getattr(config, name) is not None:
            parts += [f"--{name}", str(getattr(config, name))]
    if config.draw_from != "all":
        parts += ["--draw-from", config.draw_from]
    if config.seed:
        parts += ["--seed", str(config.seed)]
    return shlex.join(parts)
