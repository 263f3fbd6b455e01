"""Can a run's labels be trusted? Looks at the tables of a finished run; only the probes ask a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.audit.checks import (
    balance,
    contamination,
    duplicates,
    groups_of,
    label_fit,
    label_noise,
    prompt_groups,
    surface_found,
    suspicious_rows,
)
from pipelines.audit.config import AuditConfig
from pipelines.audit.page import write_page
from pipelines.audit.probes import probe_judge
from pipelines.audit.tables import check_tables, read_pairs
from pipelines.console import Console
from pipelines.judging import check_judging, make_judge, roles_of
from pipelines.markup import many, signed
from prefgen import __version__
from prefgen.decontamination import EvalIndex, read_index
from prefgen.errors import GateError, UsageError
from prefgen.files import json_lines
from prefgen.ledger import Ledger, default_path
from prefgen.records import check_unwritten
from prefgen.run import RunDirectory

MEDIUM_D = 0.5
"""Cohen's "medium" effect."""
HIGH_AUC = 0.7
"""Style alone tells the winner of Chatbot Arena battles with an AUC of about .66."""
MANY_ALIKE = 0.1
"""Share of the prompts that may be near-duplicates of another."""
CONTAMINATED = 0.02
"""Tulu 3's limit for the share of an evaluation that may stand in the training data."""


async def audit(config: AuditConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes audit.json, audit.html and suspicious.jsonl, and returns what audit.json holds.

    Raises InputError for a run or an evaluation file that cannot be read, GateError when too many of the
    probes' calls failed.
    """
    run = RunDirectory.open(config.run)
    check_tables(run)
    out = config.out or config.run / "audit"
    if out.resolve() == config.run.resolve():
        raise UsageError(f"--out {out} is the run itself; name another directory")
    check_unwritten(out / "audit.json", overwrite)
    check_judging(config)
    index = read_index(config.eval_file, config.eval_column)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be made ({error.strerror}); name another directory with --out"
        ) from error
    found, suspicious = _look(run, config, index, console)
    failures: Counter[str] = Counter()
    if config.judge or config.reward_model:
        found["probes"], failures = await _probe(config, console)
    found["warnings"] = list(warnings_of(found))
    _write(out, found, suspicious)
    failed = failures.total() - failures["ok"]
    if failed > config.max_failure_share * failures.total():
        causes = ", ".join(f"{name}: {n}" for name, n in failures.most_common() if name != "ok")
        raise GateError(f"{failed} of {failures.total()} calls of the probes failed ({causes})")
    return found


def _look(
    run: RunDirectory, config: AuditConfig, index: EvalIndex, console: Console
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every check that needs no model, and the suspicious pairs in full."""
    path, seed = run.path, config.seed
    with console.step("reading the run"):
        pairs, groups = read_pairs(path), prompt_groups(path)
    clusters = groups_of(pairs, groups)
    with console.step("looking for wrong labels"):
        fit = label_fit(path, pairs, clusters, seed)
        suspicious = suspicious_rows(path, fit, config.flag_share) if fit else []
    with console.step("looking at the rest"):
        responses = config.eval_responses
        found = {
            "prefgen_version": __version__,
            "run": str(config.run),
            "seed": seed,
            "n_pairs": len(pairs),
            "surface": surface_found(pairs, clusters, seed),
            "label_noise": label_noise(fit, suspicious, len(pairs)),
            "contamination": contamination(path, index, responses=responses) if index.items else None,
            "duplicates": duplicates(path, groups, pairs),
            "balance": balance(run, pairs),
            "probes": None,
        }
    return found, suspicious


async def _probe(config: AuditConfig, console: Console) -> tuple[dict[str, Any], Counter[str]]:
    with Ledger(config.ledger or default_path()) as ledger:
        async with roles_of(config, ledger, console) as roles:
            judge = await make_judge(config, roles)
            with console.step("probing the judge"):
                told, failures = await probe_judge(judge, config.run, config.probes, config.seed)
            return {"judge": judge.name, "kinds": told, "usage": roles.usage}, failures


def warnings_of(found: Mapping[str, Any]) -> Iterator[str]:
    """What somebody who trains on these pairs should know first."""
    yield from _surface_warnings(found["surface"])
    noise = found["label_noise"]
    if noise is not None and noise["learnable"] and noise["flagged"]:
        yield (
            f"{many(noise['flagged'], 'label')} ({noise['flagged_share']:.1%}) may be wrong: read "
            "suspicious.jsonl before training"
        )
    for file, told in (found["contamination"] or {}).items():
        if told["contaminated"]:
            limit = "more" if told["share"] > CONTAMINATED else "not more"
            yield (
                f"{told['contaminated']} of {told['n_items']} questions of {file} stand in the run "
                f"({told['share']:.1%}, {limit} than {CONTAMINATED:.0%}), which would flatter a model "
                "trained on it; leave them out with prefgen generate --decontaminate"
            )
    if found["duplicates"]["straddling"]:
        yield (
            f"{len(found['duplicates']['straddling'])} groups of near-duplicate prompts are in train and test"
        )
    alike, n = found["duplicates"]["n_in_groups"], found["duplicates"]["n_prompts"]
    if alike > MANY_ALIKE * n:
        yield f"{alike} of {n} prompts are near-duplicates of another: there is less variety than it seems"
    if found["duplicates"]["boilerplate"]["n_answers"]:
        told = found["duplicates"]["boilerplate"]
        yield f"{told['n_pairs']} chosen responses are word for word the answer to other prompts too"
    yield from _probe_warnings(found["probes"])


def _surface_warnings(surface: Mapping[str, Any] | None) -> Iterator[str]:
    if surface is None:
        return
    for name, effect in surface["effects"].items():
        d = effect["d"]
        if d is not None and abs(d["value"]) >= MEDIUM_D:
            more = d["value"] > 0
            what = f"{'more' if more else 'fewer'} {name}"
            what = "longer" if name == "length" and more else "shorter" if name == "length" else what
            yield f"chosen responses: {what} (Cohen’s d {signed(d['value'])}); a model may learn that"
    alone = surface["alone"]
    if alone is not None and alone["auc"] >= HIGH_AUC:
        yield (
            f"length and formatting alone tell chosen from rejected with an AUC of {alone['auc']:.2f}: "
            "check that the judge looks at more than form"
        )


def _probe_warnings(probes: Mapping[str, Any] | None) -> Iterator[str]:
    kinds = probes["kinds"] if probes else {}
    for kind, what in (("markdown", "a list with bold words"), ("padding", "everything said twice")):
        if kind in kinds and kinds[kind]["ci"][0] > 0.5:
            share = kinds[kind]["prefers_variant"]
            yield f"the judge prefers {what} to the same in plain words ({share:.0%})"
    control = kinds.get("truncation")
    if control is not None and control["n"] and control["ci"][1] >= 0.5:
        yield (
            f"the judge preferred responses cut in half to whole ones in {control['prefers_variant']:.0%} of "
            f"{control['n']} comparisons: it may not be reading them"
        )


def _write(out: Path, found: Mapping[str, Any], suspicious: list[dict[str, Any]]) -> None:
    """audit.json last."""
    folder = RunDirectory(out)
    folder.write_text("suspicious.jsonl", json_lines(suspicious))
    write_page(folder, found)
    folder.write_json("audit.json", found)


def audit_summary(out: Path, found: Mapping[str, Any]) -> str:
    """The audit in a few lines."""
    lines = [f"{found['n_pairs']} pairs looked at"]
    lines += [f"- {warning}" for warning in found["warnings"]] or ["- nothing to warn of"]
    lines += [f"- {note}" for note in notes_of(found)]
    return "\n".join([*lines, f"written to {out}: audit.json, audit.html, suspicious.jsonl"])


def notes_of(found: Mapping[str, Any]) -> Iterator[str]:
    """What the audit could not say."""
    if found["surface"] is None:
        yield "fewer than two pairs: nothing can be said of surface and labels"
    elif found["label_noise"] is None:
        yield "too few prompts to look for wrong labels (50 different ones are needed)"
    elif not found["label_noise"]["learnable"]:
        yield (
            "no label is called wrong: words and form do not tell chosen from rejected in these pairs (AUC "
            f"{found['label_noise']['auc']:.2f} on held-out prompts)"
        )
    if found["contamination"] is None:
        yield "not checked against evaluations: none given (--eval-file)"
    if found["probes"] is not None and not found["probes"]["kinds"]:
        yield "judge not probed: no response has three sentences and no code, which the variants need"
    if found["probes"] is None:
        yield "judge not probed for its liking of form: none given (--judge)"
