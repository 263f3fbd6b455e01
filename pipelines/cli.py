"""The command line. Each command builds its config object and calls one function."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines.audit.config import AuditConfig
from pipelines.calibration.config import CalibrateConfig
from pipelines.console import Console, shown
from pipelines.convert_config import ConvertConfig
from pipelines.evaluation.config import EvaluateConfig
from pipelines.generate_config import GenerateConfig, JudgeConfig, PairConfig
from pipelines.launching import first_to_fail, relaunch
from pipelines.ledger.config import ExportConfig, LedgerConfig, PruneConfig, VerifyConfig
from pipelines.options import build, options_of
from pipelines.revise_config import ReviseConfig
from pipelines.reward_models import RewardModelConfig, train_reward_models
from pipelines.rewards_config import RewardsConfig
from pipelines.sweep_config import SweepConfig
from prefgen import __version__
from prefgen.errors import PrefgenError, first_of
from prefgen.run import RunDirectory
from trainers.config import StageConfig
from trainers.dpo import DPOConfig, train_dpo
from trainers.grpo import GRPOConfig, train_grpo
from trainers.kto import KTOConfig, train_kto
from trainers.orpo import ORPOConfig, train_orpo
from trainers.ppo import PPOConfig, train_ppo
from trainers.sft import SFTConfig, train_sft

Stage = Callable[..., Path]
F = TypeVar("F", bound=Callable[..., Any])
_INTERRUPTED = 130


def common(function: F) -> F:
    """The options every command has."""
    for option in (
        click.option("--quiet", is_flag=True, help="No progress and no notes."),
        click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object."),
    ):
        function = option(function)
    return function


def used_directory(function: F) -> F:
    """What to do with an output directory that has been used."""
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace what is at --out."),
        click.option("--resume", is_flag=True, help="Go on with an unfinished run; paid answers are kept."),
    ):
        function = option(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="prefgen")
def cli() -> None:
    """Turns a file of prompts into a preference dataset you can trust, and that into a better model.

    MODEL is PROVIDER/NAME[@BASE_URL]: openai/NAME, openai/NAME@http://127.0.0.1:8000/v1,
    anthropic/NAME, vllm/PATH_OR_ID, transformers/PATH_OR_ID.
    """


@cli.command()
@click.argument("prompts", type=click.Path(path_type=Path), required=False)
@options_of(GenerateConfig, skip=("prompts",))
@click.option("--quote", is_flag=True, help="Tell what it will take from a few of the prompts, then stop.")
@used_directory
@common
def generate(as_json: bool, quiet: bool, resume: bool, overwrite: bool, quote: bool, **given: Any) -> None:
    """Make a preference dataset from the prompts of a file.

    \b
    prefgen generate prompts.jsonl --policy vllm/PATH --judge openai/NAME --out runs/first
    """
    from pipelines.generate import generate as run
    from pipelines.quote import quote_in_words
    from pipelines.summary import run_summary

    config = build(GenerateConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = asyncio.run(run(config, console, resume=resume, overwrite=overwrite, quote=quote))
    told = quote_in_words(manifest["quote"]) if quote else run_summary(config.out, manifest)
    console.result(manifest, told)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@options_of(PairConfig, skip=("run",))
@click.option("--overwrite", is_flag=True, help="Replace what is in the output directory.")
@common
def pair(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Make other pairs from a finished run's judgments; no model is called.

    \b
    prefgen pair runs/first --min-confidence 0.9 --strategy all --max-pairs 3 --out runs/strict
    """
    from pipelines.pair import pair as run
    from pipelines.summary import run_summary

    config = build(PairConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = run(config, console, overwrite=overwrite)
    console.result(manifest, run_summary(config.out, manifest))


@cli.command()
@click.argument("pairs", type=click.Path(path_type=Path))
@options_of(JudgeConfig, skip=("pairs",))
@used_directory
@common
def judge(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """Judge pairs of responses that exist already; writes one verdict a line.

    \b
    prefgen judge pairs.jsonl --judge openai/NAME --out verdicts.jsonl
    """
    from pipelines.judge import judge_file

    config = build(JudgeConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = asyncio.run(judge_file(config, console, overwrite=overwrite or resume))
    failed = ", ".join(f"{name} {count}" for name, count in result["failures"].items()) or "none"
    console.result(result, f"{result['n']} pairs judged; failed calls: {failed}; written to {config.out}")


@cli.command()
@click.argument("prompts", type=click.Path(path_type=Path), required=False)
@options_of(EvaluateConfig, skip=("prompts",))
@used_directory
@common
def evaluate(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """How often a judge prefers one model's answers to another's, and how sure that is.

    \b
    prefgen evaluate prompts.jsonl --model vllm/NEW --baseline vllm/OLD --judge openai/NAME --out evals/new
    prefgen evaluate --annotations evals/new/annotations.jsonl --labels labels.jsonl
    """
    from pipelines.evaluation.evaluate import evaluate as run
    from pipelines.evaluation.summary import evaluation_summary

    config = build(EvaluateConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = asyncio.run(run(config, console, resume=resume, overwrite=overwrite))
    console.result(result, evaluation_summary(result, config.out))


@cli.command()
@click.argument("prompts", type=click.Path(path_type=Path), required=False)
@options_of(ReviseConfig, skip=("prompts",))
@used_directory
@common
def revise(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """Criticise and rewrite a model's responses by a constitution, in rounds.

    Writes demonstrations of the last revisions, and pairs of response and revision to be judged.

    \b
    prefgen revise prompts.jsonl --policy vllm/PATH --constitution support-tone --out runs/revised
    prefgen judge runs/revised/pairs.parquet --judge openai/NAME --out verdicts.jsonl
    prefgen train sft --model PATH --data runs/revised/sft.parquet --out models/sft
    """
    from pipelines.revise import revise as run
    from pipelines.revise import revise_summary

    config = build(ReviseConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = asyncio.run(run(config, console, resume=resume, overwrite=overwrite))
    console.result(manifest, revise_summary(config.out, manifest))


@cli.command()
@click.argument("labels", type=click.Path(path_type=Path), required=False)
@options_of(CalibrateConfig, skip=("labels",))
@used_directory
@common
def calibrate(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """Hold a judge against human labels: may it be trusted, and how far?

    \b
    prefgen calibrate labels.jsonl --judge openai/NAME --out calibrations/first
    prefgen calibrate labels.jsonl --verdicts verdicts.jsonl --out calibrations/second
    prefgen generate prompts.jsonl … --calibration calibrations/first/calibration.json --target-precision 0.9
    """
    from pipelines.calibration.calibrate import calibrate as run
    from pipelines.calibration.summary import calibration_summary

    config = build(CalibrateConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = asyncio.run(run(config, console, overwrite=overwrite or resume))
    console.result(found, calibration_summary(config.out, found))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@options_of(AuditConfig, skip=("run",))
@click.option("--overwrite", is_flag=True, help="Replace an earlier audit.")
@common
def audit(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Look for what is wrong with a finished run's labels; no model is called without --judge.

    \b
    prefgen audit runs/first --eval-file benchmark.jsonl
    """
    from pipelines.audit.audit import audit as run
    from pipelines.audit.audit import audit_summary

    config = build(AuditConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = asyncio.run(run(config, console, overwrite=overwrite))
    console.result(found, audit_summary(config.out or config.run / "audit", found))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@common
def report(run: Path, as_json: bool, quiet: bool) -> None:
    """Write report.html of a finished run or training anew and summarise it."""
    from pipelines.report.page import write_report
    from pipelines.summary import run_summary

    if (run / "training.json").is_file():
        from pipelines.train import report_training

        Console(as_json=as_json, quiet=quiet).result(*report_training(run))
        return
    directory = RunDirectory.open(run)
    write_report(directory, directory.manifest)
    console = Console(as_json=as_json, quiet=quiet)
    console.result(directory.manifest, run_summary(run, directory.manifest))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@options_of(ConvertConfig, skip=("file",))
@click.option("--overwrite", is_flag=True, help="Replace the file at --out.")
@common
def convert(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Turn logged feedback, or another stage's rows, into rows to train on.

    FILE holds prompt and response with label, thumbs or rating; or prompt, kept, discarded; or prompt, sent,
    draft; or prompt, chosen, rejected; or Human/Assistant transcripts in chosen and rejected. Pairs are taken
    apart for kto, and for dpo and reward good and bad responses to one prompt are put together.

    \b
    prefgen convert thumbs.csv --to kto --out kto.jsonl
    prefgen convert stars.jsonl --good-from 4 --bad-to 2 --to kto --out kto.parquet
    prefgen convert drafts.jsonl --to dpo --out dpo.jsonl
    prefgen convert hh.jsonl --to reward --format standard --out reward.jsonl
    """
    from pipelines.convert import convert as run
    from pipelines.convert import convert_summary

    config = build(ConvertConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = run(config, console, overwrite=overwrite)
    console.result(result, convert_summary(result))


@cli.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("quickstart"),
    show_default=True,
    help="Directory for everything the run makes.",
)
@click.option(
    "--stage",
    "stages",
    type=click.Choice(["dpo", "kto", "grpo", "ppo"]),
    multiple=True,
    default=("dpo", "kto"),
    show_default=True,
    help="Stages to train and measure; may be given several times.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of sampling.")
@used_directory
@common
def quickstart(
    out: Path, stages: tuple[str, ...], seed: int, resume: bool, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """The whole RLAIF run on embedded models: no key, no network, no GPU."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # Read when the hub's library is first imported.
    from pipelines.quickstart import quickstart as run
    from pipelines.quickstart import quickstart_summary

    console = Console(as_json=as_json, quiet=quiet)
    stages = tuple(dict.fromkeys(stages))
    results = asyncio.run(run(out, console, stages=stages, seed=seed, resume=resume, overwrite=overwrite))
    console.result(results, quickstart_summary(results))


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the loop; over out in the file.")
@used_directory
@common
def rlaif(config: Path, out: Path | None, resume: bool, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Rounds of sample, judge, pair, train and evaluate, which stop when the judge is gamed.

    \b
    prefgen rlaif CONFIG.yaml --out loops/first
    prefgen rlaif CONFIG.yaml --out loops/first --resume
    """
    from pipelines.rlaif.config import read_config
    from pipelines.rlaif.loop import rlaif as run
    from pipelines.rlaif.table import loop_summary

    settings = read_config(config, out)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = asyncio.run(run(settings, console, resume=resume, overwrite=overwrite))
    console.result(manifest, loop_summary(settings.out, manifest))


@cli.group()
def train() -> None:
    """Train a model: sft, reward, dpo, kto, orpo, grpo or ppo."""


def _add_stage(name: str, config: type[StageConfig], run: Stage, help_text: str) -> None:
    @train.command(name, help=help_text)
    @options_of(config)
    @click.option(
        "--check-vllm", is_flag=True, help="Afterwards compare vLLM with transformers on the model."
    )
    @common
    def stage(check_vllm: bool, as_json: bool, quiet: bool, **given: Any) -> None:
        from pipelines.train import train_stage

        built = build(config, given)
        relaunch(built)
        console = Console(as_json=as_json, quiet=quiet)
        result, text = train_stage(run, built, console, check_vllm=check_vllm)
        console.result(result, text)


def _add_online_stage(name: str, config: type[StageConfig], run: Stage, help_text: str) -> None:
    """A stage that learns from rewards of its own responses: `run(config, rewards, on_log)`."""

    @train.command(name, help=help_text)
    @options_of(config, RewardsConfig)
    @click.option(
        "--check-vllm", is_flag=True, help="Afterwards compare vLLM with transformers on the model."
    )
    @common
    def stage(check_vllm: bool, as_json: bool, quiet: bool, **given: Any) -> None:
        from pipelines.online import beside_judges
        from pipelines.train import train_stage

        built = build(config, given, RewardsConfig)
        relaunch(built)
        rewards = build(RewardsConfig, given, config)
        console = Console(as_json=as_json, quiet=quiet)
        beside = beside_judges(run, rewards, console)
        result, text = train_stage(beside, built, console, online=True, check_vllm=check_vllm)
        console.result(result, text)


_EXAMPLE = "\n\n\b\nprefgen train {stage} --model PATH_OR_ID --data {data} --out models/{stage}"
_add_stage(
    "sft",
    SFTConfig,
    train_sft,
    "Supervised fine-tuning on demonstrations, or on the chosen side of a run."
    + _EXAMPLE.format(stage="sft", data="demonstrations.jsonl"),
)
_add_stage(
    "reward",
    RewardModelConfig,
    train_reward_models,
    "A reward model from pairs (Bradley-Terry), or several of them to be used as one."
    + _EXAMPLE.format(stage="reward", data="runs/first"),
)
_add_stage(
    "dpo",
    DPOConfig,
    train_dpo,
    "Direct preference optimization on pairs." + _EXAMPLE.format(stage="dpo", data="runs/first --lora"),
)
_add_stage(
    "kto",
    KTOConfig,
    train_kto,
    "Kahneman-Tversky optimization on single labelled responses."
    + _EXAMPLE.format(stage="kto", data="runs/first"),
)
_add_stage(
    "orpo",
    ORPOConfig,
    train_orpo,
    "Odds ratio preference optimization on pairs: SFT and preference in one, without a reference."
    + _EXAMPLE.format(stage="orpo", data="runs/first"),
)


@train.command("dpo-sweep")
@options_of(SweepConfig, skip=("beta",))
@common
def dpo_sweep(as_json: bool, quiet: bool, **given: Any) -> None:
    """DPO with several β: held-out margin, KL to the start, and with a judge the win rate over the start.

    \b
    prefgen train dpo-sweep --model PATH --data runs/first --sweep-beta 0.03 --sweep-beta 0.1 --sweep-beta 0.3
      --judge openai/NAME --out models/sweep
    """
    from pipelines.sweep import sweep, sweep_summary

    config = build(SweepConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = asyncio.run(sweep(config, console))
    console.result(result, sweep_summary(result, config.out))


_add_online_stage(
    "grpo",
    GRPOConfig,
    train_grpo,
    "Group relative policy optimization on rewards of the policy's own responses."
    + _EXAMPLE.format(stage="grpo", data="prompts.jsonl --judge openai/NAME --constitution support-tone"),
)
_add_online_stage(
    "ppo",
    PPOConfig,
    train_ppo,
    "Proximal policy optimization on rewards of the policy's own responses, with a value function."
    + _EXAMPLE.format(stage="ppo", data="prompts.jsonl --reward-model transformers/PATH --lora"),
)


@cli.group()
def ledger() -> None:
    """Look at and keep up the file of paid answers: stats, export, prune or verify."""


@ledger.command("stats")
@options_of(LedgerConfig)
@common
def ledger_stats(as_json: bool, quiet: bool, **given: Any) -> None:
    """What a ledger holds, by model, and what each run paid."""
    from pipelines.ledger.reading import stats as run
    from pipelines.ledger.reading import stats_summary

    found = run(build(LedgerConfig, given))
    Console(as_json=as_json, quiet=quiet).result(found, stats_summary(found))


@ledger.command("export")
@options_of(ExportConfig)
@click.option("--overwrite", is_flag=True, help="Replace the file at --out.")
@common
def ledger_export(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Write answers as JSON lines: key, model, created, value.

    \b
    prefgen ledger export --model openai/NAME --since 30d --out answers.jsonl
    """
    from pipelines.ledger.reading import export as run

    config = build(ExportConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = run(config, as_json=as_json, overwrite=overwrite)
    if config.out is not None:
        console.result(found, f"{found['rows']} answers written to {config.out}")


@ledger.command("prune")
@options_of(PruneConfig)
@common
def ledger_prune(as_json: bool, quiet: bool, **given: Any) -> None:
    """Remove old answers and make the file smaller; what runs paid stays on record.

    \b
    prefgen ledger prune --older-than 90d --dry-run
    """
    from pipelines.ledger.upkeep import prune as run
    from pipelines.ledger.upkeep import prune_summary

    found = run(build(PruneConfig, given))
    Console(as_json=as_json, quiet=quiet).result(found, prune_summary(found))


@ledger.command("verify")
@options_of(VerifyConfig)
@common
def ledger_verify(as_json: bool, quiet: bool, **given: Any) -> None:
    """Look whether the file and every answer in it are whole; exit 3 where not."""
    from pipelines.ledger.upkeep import verify as run
    from pipelines.ledger.upkeep import verify_summary

    found = run(build(VerifyConfig, given))
    Console(as_json=as_json, quiet=quiet).result(found, verify_summary(found))


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process with the contract's exit codes."""
    # A scheduler's SIGTERM ends a run as Ctrl-C does, so that the calls in flight are kept.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    console = Console()
    try:
        ended = cli.main(
            args=arguments,
            standalone_mode=False,
            obj=sys.argv[1:] if arguments is None else arguments,
        )
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        click.echo(shown(said.getvalue()), err=True, nl=False)
        return 2
    except PrefgenError as error:
        if first_to_fail():
            console.error(str(error))
        return error.exit_code
    except BaseExceptionGroup as group:
        return _from_group(group, console)
    except (KeyboardInterrupt, click.Abort):
        if first_to_fail():
            console.error(
                "interrupted; every answer that came in is kept: go on with the same command and --resume"
            )
        return _INTERRUPTED
    # A command that ended with click's Exit gives its code.
    return ended if isinstance(ended, int) else 0


def _from_group(group: BaseExceptionGroup[BaseException], console: Console) -> int:
    """Tasks that fail together: the first error prefgen raised on purpose speaks for all."""
    error = first_of(group, PrefgenError)
    if error is None:
        raise group
    console.error(str(error))
    return error.exit_code
