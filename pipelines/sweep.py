"""DPO with several β on the same pairs: how far each moves the policy, and what that is worth.

train each → every model answers the held-out prompts → KL to the start, win rate over the start
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pipelines.console import Console
from pipelines.evaluation.annotate import compare
from pipelines.evaluation.numbers import evaluation
from pipelines.generate_config import RUN_OPTIONS
from pipelines.judging import check_judging, make_judge, roles_of
from pipelines.sweep_config import SweepConfig
from pipelines.training import train_in_thread
from pipelines.training_report.sweep import write_sweep_page
from prefgen.candidate import Candidate
from prefgen.errors import GateError, RunDirectoryError, UsageError
from prefgen.files import write_json
from prefgen.ledger import Ledger
from prefgen.ledger import default_path as default_ledger
from prefgen.messages import Messages, user
from prefgen.prompt import Prompt
from trainers import loading
from trainers.dpo import train_dpo
from trainers.preflight import encode
from trainers.prepare import read_split
from trainers.quiet import quiet
from trainers.report import read_report
from trainers.rewards import Sample
from trainers.rows import Row, distinct_prompts, find_files, parse_pair
from trainers.sampling import Ids, at_rest, sample, think
from trainers.saving import load_trained

ESTIMATOR = "the next-token divergences summed over the policy's own answers, in nats an answer"
RESULT = "sweep.json"
NO_JUDGE = "without --judge or --reward-model nobody compares the answers, so there is no win rate"


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model of one β wrote, and its KL to the start answer by answer: see `trainers.sampling`."""

    beta: float
    answers: Sequence[Sample]
    kl: Sequence[float]


async def sweep(config: SweepConfig, console: Console) -> dict[str, Any]:
    """Trains every β into OUT/beta-…, and writes and returns OUT/sweep.json.

    Raises UsageError and its kin before anything is written; GateError where a training or the judging may
    not be trusted.
    """
    rows = look_over(config)
    asked = config.model_dump(mode="json", exclude={"resume", "overwrite", *RUN_OPTIONS})
    if config.resume and (config.out / RESULT).is_file():
        found: dict[str, Any] = json.loads((config.out / RESULT).read_text("utf-8"))
        if found["config"] == asked:
            return found
    (config.out / RESULT).unlink(missing_ok=True)
    folders: list[Path] = []
    for beta in config.betas:
        with console.step(f"training with β = {beta:g}"):
            folders.append(await train_in_thread(train_dpo, config.stage(beta)))
    for warning in dict.fromkeys(text for folder in folders for text in read_report(folder).warnings):
        console.warn(warning)
    with console.step("sampling the held-out prompts and measuring KL"):
        start, answered = await asyncio.to_thread(answer_all, config, rows)
    won = await judge_all(config, console, rows, start, answered) if config.judges else [None] * len(answered)
    result = {
        "n_prompts": len(rows),
        "kl_estimator": ESTIMATOR,
        "judge": ", ".join(config.judges) or None,
        "note": None if config.judges else NO_JUDGE,
        "config": asked,
        "betas": [_entry(config, item, found) for item, found in zip(answered, won, strict=True)],
    }
    write_sweep_page(config.out, result)
    write_json(config.out / RESULT, result)
    return result


def look_over(config: SweepConfig) -> list[Row]:
    """The held-out prompts that every model will answer. Nothing is written."""
    if config.judges:
        check_judging(config)
    for beta in config.betas:
        config.stage(beta)
    used = config.out.exists() and any(config.out.iterdir())
    if used and not (config.resume or config.overwrite):
        raise RunDirectoryError(
            f"{config.out} has been used; go on with --resume, train anew with --overwrite, or name another "
            "--out"
        )
    _, held_out = read_split(config, parse_pair, find_files(config.data, "dpo", config.eval_data))
    if not held_out:
        raise UsageError("a sweep compares on held-out pairs: raise --eval-share or give --eval-data")
    return distinct_prompts(held_out)[: config.sweep_prompts]


def answer_all(config: SweepConfig, rows: Sequence[Row]) -> tuple[list[Sample], list[Answered]]:
    """What the start and every trained model write to the prompts, each from the same seed."""
    with quiet():
        tokenizer = loading.load_tokenizer(config.model)
        loading.choose_pad_token(tokenizer, "language")
        ends, pad = loading.end_tokens(config.model, tokenizer), int(tokenizer.pad_token_id)
        prompts = [encode(Row(row.path, row.line, row.prompt, ()), tokenizer).prompt for row in rows]
        start = loading.load_model(config.model, "language", config.load_dtype, config.qlora)

        def write(model: Any) -> list[Ids]:
            with at_rest(model, config.seed, bf16=False):
                batches = range(0, len(prompts), config.batch_size)
                parts = (prompts[at : at + config.batch_size] for at in batches)
                return [ids for part in parts for ids in sample(model, part, pad, ends, config.sweep_tokens)]

        def read(answers: Sequence[Ids]) -> list[Sample]:
            texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
            return [
                Sample(_turns(row), text, ids[-1] in ends)
                for row, text, ids in zip(rows, texts, answers, strict=True)
            ]

        answered = []
        for beta in config.betas:
            policy = load_trained(config.stage(beta), "language")
            answers = write(policy)
            with at_rest(policy, config.seed, bf16=False):
                thoughts = think(policy, prompts, answers, pad, start)
            answered.append(Answered(beta, read(answers), [item.kl or 0.0 for item in thoughts]))
            del policy
            gc.collect()
        return read(write(start)), answered


def _turns(row: Row) -> Messages:
    return user(row.prompt) if isinstance(row.prompt, str) else row.prompt


async def judge_all(
    config: SweepConfig,
    console: Console,
    rows: Sequence[Row],
    start: Sequence[Sample],
    answered: Sequence[Answered],
) -> list[dict[str, Any] | None]:
    """The evaluation of each β's answers against the start's, with the keys of `evaluation.json`."""
    prompts = [Prompt(row.prompt_hash, _turns(row)) for row in rows]
    found: list[dict[str, Any] | None] = []
    with Ledger(config.ledger or default_ledger()) as ledger:
        async with roles_of(config, ledger, console) as roles:
            judge = await make_judge(config, roles)
            before = _candidates(prompts, start, "start")
            for item in answered:
                after = _candidates(prompts, item.answers, f"beta-{item.beta:g}")
                annotations = await compare(judge, prompts, after, before)
                failed = sum(annotation.preference is None for annotation in annotations)
                if failed > config.max_failure_share * len(annotations):
                    raise GateError(
                        f"{failed} of {len(annotations)} comparisons have no judgment; the models are in "
                        f"{config.out}: go on with --resume, or allow more with --max-failure-share"
                    )
                found.append(evaluation(annotations, judge.name))
    return found


def _candidates(prompts: Sequence[Prompt], answers: Sequence[Sample], name: str) -> list[Candidate]:
    return [
        Candidate(prompt.id, item.completion, name, 0, "stop" if item.finished else "length")
        for prompt, item in zip(prompts, answers, strict=True)
    ]


def _entry(config: SweepConfig, item: Answered, won: dict[str, Any] | None) -> dict[str, Any]:
    folder = config.stage(item.beta).out
    held_out = read_report(folder).last_eval or {}
    margin = held_out["rewards/margins"]
    return {
        "beta": item.beta,
        "folder": str(folder),
        "loss": held_out["loss"],
        "margin": margin,
        "margin_nats": margin / item.beta,
        "accuracy": held_out["rewards/accuracies"],
        "kl": fmean(item.kl),
        "kl_standard_error": stdev(item.kl) / math.sqrt(len(item.kl)) if len(item.kl) > 1 else None,
        "win_rate": won and won["win_rate"],
        "win_rate_ci": won and won["ci"],
    }


def sweep_summary(result: dict[str, Any], out: Path) -> str:
    """The table for people."""
    lines = ["     β   margin (nats)  accuracy          KL (nats)   win rate over the start"]
    for entry in result["betas"]:
        error = entry["kl_standard_error"]
        kl = f"{entry['kl']:.2f}" + (f" ± {error:.2f}" if error is not None else "")
        margin = f"{entry['margin']:.3f} ({entry['margin_nats']:.2f})"
        rate = ""
        if entry["win_rate"] is not None:
            low, high = entry["win_rate_ci"]
            rate = f"{entry['win_rate']:.1f}% [{low:.1f}, {high:.1f}]"
        lines.append(
            f"{entry['beta']:6g}  {margin:>14}  {entry['accuracy']:8.0%}  {kl:>17}   {rate}".rstrip()
        )
    lines.append(
        f"on held-out pairs, and on {result['n_prompts']} of their prompts; KL(policy ‖ start) is "
        f"{result['kl_estimator']}"
    )
    return "\n".join(
        [
            *lines,
            *([result["note"]] if result["note"] else []),
            f"written to {out / RESULT}, with report.html",
        ]
    )
