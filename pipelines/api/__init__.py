"""The commands as functions: the same names, the same options as keywords, the same jobs underneath.

Users know it as `import prefgen`. Called where no event loop runs, a function does its job and returns the
result; where one runs (a notebook, async code), the same call is to be awaited. To add a command: its
function here, its name in `prefgen/__init__.py`, and `python -m pipelines.api.stub`, which writes the types.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from pipelines.api.calling import Job as Job
from pipelines.api.function import by_name, function, plain_function, run
from pipelines.api.lineage import ConstitutionDiff, Export, Story, WhatIf
from pipelines.api.options import describe, fields_of
from pipelines.api.results import Audit, Calibration, Conversion, Evaluation, Quote, Revision, Run, Verdicts
from pipelines.api.results import Estimate as Estimate
from pipelines.api.results import Result as Result
from pipelines.api.trained import Loop, Quickstart, Sweep, Training
from pipelines.audit.config import AuditConfig
from pipelines.calibration.config import CalibrateConfig
from pipelines.console import Console
from pipelines.constitution.config import DiffConfig
from pipelines.convert_config import ConvertConfig
from pipelines.evaluation.config import EvaluateConfig
from pipelines.export.config import ExportConfig
from pipelines.generate_config import GenerateConfig, JudgeConfig, PairConfig
from pipelines.report.directory import Kind
from pipelines.revise_config import ReviseConfig
from pipelines.sweep_config import SweepConfig
from pipelines.train_stages import STAGES
from pipelines.what_if.config import WhatIfConfig
from pipelines.why.config import WhyConfig
from prefgen.errors import UsageError
from trainers import processes
from trainers.config import StageConfig
from trainers.monitor import OnLog


@function(GenerateConfig, first="prompts")
async def generate(
    config: GenerateConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Run:
    """Make a preference dataset from prompts: a file, or a list, DataFrame or Dataset of them."""
    from pipelines.generate import generate as job

    return Run(config.out, await job(config, console, resume=resume, overwrite=overwrite))


@function(GenerateConfig, first="prompts")
async def quote(
    config: GenerateConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Quote:
    """What `generate` will take: calls, tokens and dollars, by a few of the prompts: `generate --quote`."""
    from pipelines.generate import generate as job

    found = await job(config, console, resume=resume, overwrite=overwrite, quote=True)
    return Quote(config.out, found)


@function(JudgeConfig, first="pairs")
async def judge(
    config: JudgeConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Verdicts:
    """Judge pairs of responses that exist already; writes one verdict a line."""
    from pipelines.judge import judge_file

    return Verdicts(config.out, await judge_file(config, console, overwrite=overwrite or resume))


@function(CalibrateConfig, first="labels")
async def calibrate(
    config: CalibrateConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Calibration:
    """Hold a judge against human labels: may it be trusted, and how far?"""
    from pipelines.calibration.calibrate import calibrate as job

    return Calibration(config.out, await job(config, console, overwrite=overwrite or resume))


@plain_function(PairConfig, first="run")
def pair(config: PairConfig, console: Console, *, overwrite: bool = False) -> Run:
    """Make other pairs from a finished run's judgments; no model is called."""
    from pipelines.pair import pair as job

    return Run(config.out, job(config, console, overwrite=overwrite))


@function(AuditConfig, first="run")
async def audit(config: AuditConfig, console: Console, *, overwrite: bool = False) -> Audit:
    """Look for what is wrong with a finished run's labels; no model is called without judge."""
    from pipelines.audit.audit import audit as job

    return Audit(config.out or config.run / "audit", await job(config, console, overwrite=overwrite))


@function(EvaluateConfig, first="prompts")
async def evaluate(
    config: EvaluateConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Evaluation:
    """How often a judge prefers one model's answers to another's, and how sure that is."""
    from pipelines.evaluation.evaluate import evaluate as job

    found = await job(config, console, resume=resume, overwrite=overwrite)
    return Evaluation(config.out or config.annotations or "", found)


@function(ReviseConfig, first="prompts")
async def revise(
    config: ReviseConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Revision:
    """Criticise and rewrite a model's responses by a constitution, in rounds."""
    from pipelines.revise import revise as job

    return Revision(config.out, await job(config, console, resume=resume, overwrite=overwrite))


class _LoopCall(BaseModel):
    file: Path
    """The loop's YAML file."""
    out: Path | None = None
    """Directory of the loop, in place of the file's."""


@function(_LoopCall, first="file", skip=("config",))
async def rlaif(
    config: _LoopCall, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Loop:
    """Rounds of sample, judge, pair, train and evaluate, which stop when the judge is gamed."""
    from pipelines.rlaif.config import read_config
    from pipelines.rlaif.loop import rlaif as job

    settings = read_config(config.file, config.out)
    return Loop(settings.out, await job(settings, console, resume=resume, overwrite=overwrite))


@plain_function(ConvertConfig, first="file")
def convert(config: ConvertConfig, console: Console, *, overwrite: bool = False) -> Conversion:
    """Turn logged feedback, or another stage's rows, into rows to train on."""
    from pipelines.convert import convert as job

    return Conversion(config.out, job(config, console, overwrite=overwrite))


@plain_function(WhatIfConfig, first="run")
def what_if(config: WhatIfConfig, console: Console) -> WhatIf:
    """What other settings would make of a run's judgments (`pair` without --out)."""
    from pipelines.what_if.what_if import what_if as job

    return WhatIf(config.run, job(config, console))


@plain_function(WhyConfig, first="run")
def why(config: WhyConfig, console: Console) -> Story:
    """How a pair came to be, or why there is none."""
    from pipelines.why.story import why as job

    return Story(config.run, job(config))


@function(DiffConfig)
async def constitution_diff(
    config: DiffConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> ConstitutionDiff:
    """What constitution b changes in a and, with run, which pairs flip by it (`constitution diff`)."""
    from pipelines.constitution.diff import diff

    found = await diff(config, console, resume=resume, overwrite=overwrite)
    return ConstitutionDiff(config.out or config.run or Path(config.b), found)


@plain_function(ExportConfig, first="run")
def export(config: ExportConfig, console: Console, *, overwrite: bool = False) -> Export:
    """Write a finished run's rows as another trainer takes them; `trainer` is the command's --for."""
    from pipelines.export.push import export_and_push

    made = export_and_push(config, console, overwrite=overwrite)
    return Export(made["out"], made)


class _ReportCall(BaseModel):
    directory: Path
    """What any command made."""


@plain_function(_ReportCall, first="directory", skip=("config",))
def report(config: _ReportCall, console: Console) -> Result:
    """Write anew the page of any directory that prefgen made."""
    from pipelines.report.directory import kind_of, report_on

    values, _ = report_on(config.directory)
    return _KINDS[kind_of(config.directory)](config.directory, values)


_KINDS: dict[Kind, type[Result]] = {
    "run": Run,
    "training": Training,
    "sweep": Sweep,
    "calibration": Calibration,
    "audit": Audit,
    "quickstart": Quickstart,
    "evaluation": Evaluation,
    "loop": Loop,
    "revision": Revision,
}


class _QuickstartCall(BaseModel):
    out: Path = Path("quickstart")
    """Directory for everything the run makes."""
    stages: tuple[Literal["dpo", "kto", "grpo", "ppo"], ...] = ("dpo", "kto")
    """Stages to train and measure."""
    seed: int = 0
    """Seed of sampling."""


@function(_QuickstartCall, first="out", skip=("config",))
async def quickstart(
    config: _QuickstartCall, console: Console, *, resume: bool = False, overwrite: bool = False
) -> Quickstart:
    """The whole RLAIF run on embedded models: no key, no network, no GPU."""
    from pipelines.quickstart import quickstart as job

    stages = tuple(dict.fromkeys(config.stages))
    found = await job(
        config.out, console, stages=stages, seed=config.seed, resume=resume, overwrite=overwrite
    )
    return Quickstart(config.out, found)


@function(SweepConfig, skip=("beta",))
async def dpo_sweep(config: SweepConfig, console: Console) -> Sweep:
    """DPO with several β: held-out margin, KL to the start, and with a judge the win rate over the start
    (`train dpo-sweep`)."""
    from pipelines.sweep import sweep

    return Sweep(config.out, await sweep(config, console))


def train(*positional: Any, **given: Any) -> Training:
    """Train a model: sft, reward, dpo, kto, orpo, grpo or ppo.

    prefgen.train("dpo", model="PATH_OR_ID", data="runs/first", out="models/dpo"). Each stage takes its own of
    the options below; `data` may be rows, or what `generate` returned.
    """
    options = by_name("train", "stage", positional, given)
    name = options.pop("stage", None)
    if name not in STAGES:
        also = "; dpo-sweep is prefgen.dpo_sweep(…)" if name == "dpo-sweep" else ""
        raise UsageError(f"train: no stage {name!r}; expected one of {', '.join(STAGES)}{also}")
    stage = STAGES[name]

    def work(
        config: StageConfig,
        *others: Any,
        check_vllm: bool = False,
        on_log: OnLog | None = None,
    ) -> Training:
        *rewards, console = others
        if config.accelerate and not processes.launched():
            raise UsageError(
                "accelerate= starts the command in several processes, which a call cannot do\n"
                f"  fix: prefgen train {name} --accelerate {config.accelerate} on the command line"
            )
        rewarded = rewards[0] if rewards else None
        found, _ = stage.train(config, rewarded, console, check_vllm=check_vllm, on_log=on_log)
        return Training(config.out, found)

    result: Training = run("train", work, stage.configs, options)
    return result


class _TrainCall(BaseModel):
    stage: Literal["sft", "reward", "dpo", "kto", "orpo", "grpo", "ppo"]
    """What to train with."""


_trained = [config for stage in STAGES.values() for config in stage.configs]
_flags = {"check_vllm": False, "config": None, "quiet": None}
describe(train, train, "stage", fields_of([_TrainCall, *_trained]), _flags)
