"""The whole RLAIF run on the embedded default: real models on real vLLM, no key, no network, no GPU.

sample → judge by the constitution → pairs → DPO and KTO → sample held-out prompts from every model →
win rates, by the judge and by a rubric that the judge never sees
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict

from judges.judge import Judge
from judges.reward_model import RewardJudge
from judges.win_rate import win_rate
from pipelines import rubric
from pipelines.console import Console
from pipelines.evaluation.annotate import agreement, compare
from pipelines.evaluation.answers import answer
from pipelines.evaluation.numbers import evaluation, rate_interval
from pipelines.generate import generate_with
from pipelines.generate_config import GenerateConfig
from pipelines.judging import make_judge, roles_of
from pipelines.report.quickstart import write_quickstart_page
from pipelines.rewarding import JudgeReward
from pipelines.roles import Roles
from pipelines.training import train_in_thread
from pipelines.training_report.page import write_training_report
from pipelines.uses import record
from prefgen.assets import asset
from prefgen.candidate import Candidate
from prefgen.completion import Sampling
from prefgen.errors import RunDirectoryError
from prefgen.files import write_json
from prefgen.labels import read_labels
from prefgen.ledger import Ledger
from prefgen.prompt import Prompt, read_prompts
from prefgen.sampling import SamplingPlan
from prefgen.yamlfile import read_yaml
from trainers.config import StageConfig
from trainers.dpo import DPOConfig, train_dpo
from trainers.grpo import GRPOConfig, train_grpo
from trainers.kto import KTOConfig, train_kto
from trainers.ppo import PPOConfig, train_ppo
from trainers.rewards import Reward

RESULTS = ("judge.json", "evaluation.json", "rubric.json")
STAGES: dict[str, tuple[type[StageConfig], Callable[..., Path]]] = {
    "dpo": (DPOConfig, train_dpo),
    "kto": (KTOConfig, train_kto),
    "grpo": (GRPOConfig, train_grpo),
    "ppo": (PPOConfig, train_ppo),
}
ONLINE = ("grpo", "ppo")
"""Stages that learn from the judge's score of what they sample, not from the run's pairs."""
DEFAULT = ("dpo", "kto")


class QuickstartFile(BaseModel):
    """`data/quickstart/config.yaml`. `generate` and the stages hold options of these commands; paths are
    relative to its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generate: dict[str, Any]
    dpo: dict[str, Any]
    kto: dict[str, Any]
    grpo: dict[str, Any]
    ppo: dict[str, Any]
    reward_model: str
    heldout_temperature: float


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered to the held-out prompts, in their order."""

    name: str
    candidates: Sequence[Candidate | None]


async def quickstart(
    out: Path,
    console: Console,
    *,
    stages: Sequence[str] = DEFAULT,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    home: Path | None = None,
) -> dict[str, Any]:
    """Runs everything into `out` and returns what it found.

    `stages`: keys of STAGES; `home`: the folder with config, texts and models, by default the embedded one.
    Raises RunDirectoryError, GateError.
    """
    check_directory(out, resume=resume, overwrite=overwrite)
    if resume and is_complete(out, stages):
        console.note(f"{out} is complete; these are its results")
        return load_results(out)
    started = time.monotonic()
    home = home or asset("quickstart")
    settings = QuickstartFile.model_validate(read_yaml(home / "config.yaml"))
    config = generate_config(settings, home, out, seed)
    out.mkdir(parents=True, exist_ok=True)
    with Ledger(out / "ledger.sqlite") as ledger:
        async with roles_of(config, ledger, console, config.policy) as roles:
            await generate_with(config, roles, resume=resume, overwrite=overwrite)
            await measure(settings, config, home, roles, out, stages, overwrite)
    results = load_results(out)
    write_quickstart_page(out, results)
    console.note(f"the whole run: {time.monotonic() - started:.0f} s")
    return results


def is_complete(out: Path, stages: Sequence[str]) -> bool:
    """Whether all results are there, and hold these stages and no others."""
    if not all((out / name).exists() for name in RESULTS):
        return False
    return set(json.loads((out / "rubric.json").read_text())["stages"]) == set(stages)


def check_directory(out: Path, *, resume: bool, overwrite: bool) -> None:
    if out.is_file():
        raise RunDirectoryError(f"{out} is a file; --out names a directory")
    used = out.exists() and any(out.iterdir())
    if used and not (resume or overwrite):
        raise RunDirectoryError(
            f"{out} has been used; add --resume to go on, --overwrite to start again, or name another --out"
        )
    if overwrite:
        for name in RESULTS:
            (out / name).unlink(missing_ok=True)


def generate_config(settings: QuickstartFile, home: Path, out: Path, seed: int) -> GenerateConfig:
    """The generate job of the embedded default, its files found beside the config."""
    values = dict(settings.generate)
    for name in ("prompts", "constitution", "judge_template"):
        values[name] = str(home / values[name])
    values["policy"] = [local_model(home, spec) for spec in values["policy"]]
    values["judge"] = local_model(home, values["judge"])
    return GenerateConfig.model_validate(values | {"out": out / "run", "seed": seed})


def local_model(home: Path, spec: str) -> str:
    """`vllm/models/policy` with the shipped folder in place of the relative one."""
    provider, _, name = spec.partition("/")
    return f"{provider}/{home / name}"


async def measure(
    settings: QuickstartFile,
    config: GenerateConfig,
    home: Path,
    roles: Roles,
    out: Path,
    stages: Sequence[str],
    overwrite: bool,
) -> None:
    """Trains each stage, lets every model answer the held-out prompts, and compares."""
    prompts = list(read_prompts(home / "heldout_prompts.jsonl"))
    judge = await make_judge(config, roles)
    with roles.console.step("judging the labelled pairs"):
        write_json(out / "judge.json", await agreement(judge, read_labels(home / "labels.jsonl")))
    temperature = settings.heldout_temperature
    before = await answer_all("sft", config.policy[0], prompts, config, roles, temperature)
    await roles.close(config.policy[0])
    reward = RewardJudge(await roles.reward_model(local_model(home, settings.reward_model)))
    answers = [before]
    by_judge: dict[str, Any] = {}
    by_rubric: dict[str, Any] = {}
    for stage in stages:
        rewards = [Reward("judge", JudgeReward(judge, asyncio.get_running_loop()))] if stage in ONLINE else []
        folder = await train(stage, settings, config, out, rewards, roles.console, overwrite)
        spec = f"vllm/{folder}"
        after = await answer_all(stage, spec, prompts, config, roles, temperature)
        await roles.close(spec)
        answers.append(after)
        by_judge[stage] = await judged(judge, prompts, after, before)
        reward_view = await judged(reward, prompts, after, before)
        by_judge[stage]["reward_model_win_rate"] = reward_view["win_rate"]
        by_rubric[stage] = rubric_result(prompts, after.candidates, before.candidates)
    write_json(out / "evaluation.json", by_judge[stages[0]] | {"baseline": "sft", "stages": by_judge})
    record(config.out, "evaluation", out)
    write_json(out / "rubric.json", by_rubric[stages[0]] | {"stages": by_rubric})
    write_samples(out / "samples.jsonl", prompts, answers)


async def train(
    stage: str,
    settings: QuickstartFile,
    config: GenerateConfig,
    out: Path,
    rewards: Sequence[Reward],
    console: Console,
    overwrite: bool,
) -> Path:
    """One stage from the policy that wrote the candidates, on the run's pairs or on prompts and `rewards`."""
    folder = out / "models" / stage
    common = {
        "model": config.policy[0].partition("/")[2],
        "data": config.prompts if stage in ONLINE else config.out,
        "out": folder,
        "resume": not overwrite and folder.exists(),
        "overwrite": overwrite and folder.exists(),
    }
    kind, function = STAGES[stage]
    values = getattr(settings, stage) | common
    if stage == "dpo":
        values["reference_cache"] = out / "reference.sqlite"
    options: dict[str, Any] = {"rewards": rewards} if stage in ONLINE else {}
    with console.step(f"training {stage}"):
        await train_in_thread(function, kind.model_validate(values), **options)
    write_training_report(folder)
    return folder


async def answer_all(
    name: str, spec: str, prompts: Sequence[Prompt], config: GenerateConfig, roles: Roles, temperature: float
) -> Answers:
    """One answer of a model to each held-out prompt."""
    model = await roles.model(spec)
    plan = SamplingPlan(1, Sampling(config.max_tokens, temperature, 1.0), seed=config.seed + 1)
    return Answers(name, await answer(prompts, model, plan))


async def judged(judge: Judge, prompts: Sequence[Prompt], after: Answers, before: Answers) -> dict[str, Any]:
    annotations = await compare(judge, prompts, after.candidates, before.candidates)
    return evaluation(annotations, judge.name)


def rubric_result(
    prompts: Sequence[Prompt], after: Sequence[Candidate | None], before: Sequence[Candidate | None]
) -> dict[str, Any]:
    """The rubric's win rate of `after` over `before`: more of its checks passed is a win, as many a half.

    Rates in percent; prompts without both answers are left out.
    """
    scores = [
        (_score(prompt, ours), _score(prompt, theirs))
        for prompt, ours, theirs in zip(prompts, after, before, strict=True)
        if ours is not None and theirs is not None
    ]
    preference = np.array([0.5 + 0.5 * np.sign(ours.share - theirs.share) for ours, theirs in scores])
    return {
        "n": len(scores),
        "win_rate": win_rate(preference),
        "ci": rate_interval(preference),
        "pass_rate_before": 100 * float(np.mean([theirs.passed for _, theirs in scores])),
        "pass_rate_after": 100 * float(np.mean([ours.passed for ours, _ in scores])),
        "share_before": 100 * float(np.mean([theirs.share for _, theirs in scores])),
        "share_after": 100 * float(np.mean([ours.share for ours, _ in scores])),
    }


def _score(prompt: Prompt, candidate: Candidate) -> rubric.RubricScore:
    return rubric.score(cast("dict[str, str]", prompt.columns), candidate.text)


def write_samples(path: Path, prompts: Sequence[Prompt], answers: Sequence[Answers]) -> None:
    """All models' answers side by side, for reading."""
    with path.open("w", encoding="utf-8") as file:
        for index, prompt in enumerate(prompts):
            said = {item.name: item.candidates[index] for item in answers}
            row = {"id": prompt.id, "prompt": prompt.text}
            row |= {name: candidate.text for name, candidate in said.items() if candidate}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def load_results(out: Path) -> dict[str, Any]:
    """What a finished quickstart found, by file."""
    found = {name.removesuffix(".json"): json.loads((out / name).read_text()) for name in RESULTS}
    manifest = json.loads((out / "run" / "manifest.json").read_text())
    return {"out": str(out), **found, "counts": manifest["counts"], "usage": manifest["usage"]}


def quickstart_summary(results: dict[str, Any]) -> str:
    """The results in a few lines, and what to try next."""
    counts, by_judge, by_rubric = results["counts"], results["evaluation"], results["rubric"]
    told = results["judge"]
    out = results["out"]
    lines = [
        f"{counts['prompts']} prompts → {counts['candidates']} candidates → {counts['judgments']} judgments "
        f"→ {counts['pairs']} pairs, {counts['kto_rows']} KTO rows",
        f"judge: agrees with {told['agreement']:.0%} of {told['n']} held-out labels (simulated annotators)",
    ]
    for stage, checked in by_rubric["stages"].items():
        judged_rate = by_judge["stages"][stage]
        lines.append(
            f"{stage.upper()} over SFT on {checked['n']} held-out prompts: "
            f"rubric {_rate(checked)}, judge {_rate(judged_rate)}; replies that pass every check "
            f"{checked['pass_rate_before']:.0f}% → {checked['pass_rate_after']:.0f}%"
        )
    lines += [
        f"made: {out}/run (dataset, tables, report.html), {out}/models ({', '.join(by_rubric['stages'])}), "
        f"{out}/samples.jsonl (before and after)",
        "try next:",
        f"  prefgen pair {out}/run --min-confidence 0.97 --out {out}/stricter",
        f"  prefgen train dpo --model {asset('quickstart/models/policy')} --data {out}/run --out my-model",
        "  prefgen generate my-prompts.jsonl --policy openai/NAME --judge anthropic/NAME --out runs/first",
    ]
    return "\n".join(lines)


def _rate(result: dict[str, Any]) -> str:
    low, high = result["ci"]
    return f"{result['win_rate']:.0f}% [{low:.0f}, {high:.0f}]"
