"""An online stage with what rewards it: models opened, the stage in a thread, the cost written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.generate_config import RUN_OPTIONS
from pipelines.judging import check_judging, judging_files, make_judge, roles_of, served_judges
from pipelines.rewarding import Gated, JudgeReward
from pipelines.rewards_config import JUDGE, REWARD_MODEL, RewardsConfig, check_group
from pipelines.roles import Roles
from pipelines.training import in_thread
from pipelines.watch_judge import watching
from prefgen.errors import InputError
from prefgen.files import write_json
from prefgen.ledger import Ledger, default_path
from prefgen.messages import Json, content_hash
from trainers import folder, loading, processes
from trainers.config import StageConfig
from trainers.monitor import OnLog
from trainers.rewards import Reward
from trainers.rows import find_files, parse_prompt, read_rows
from trainers.rules import column_of, parse_rule

REPORT = "rewards.json"


def beside_judges(
    train: Callable[..., Path], rewards: RewardsConfig, console: Console
) -> Callable[[StageConfig, OnLog], Path]:
    """An online stage `train(config, rewards, on_log)` as one that needs no rewards, as all others are.

    Interrupted, it ends at the next log; the last checkpoint and all answers stay.
    """
    return lambda config, on_log: asyncio.run(_train(train, config, rewards, console, on_log))


async def _train(
    train: Callable[..., Path], config: StageConfig, rewards: RewardsConfig, console: Console, on_log: OnLog
) -> Path:
    check(config, rewards)
    if rewards.compares:
        console.warn(
            f"--judging {rewards.judging} compares the responses to one prompt, so the mean reward does not "
            "tell whether the policy gets better; hold it against its start with prefgen evaluate"
        )
    if config.watched_by is not None and config.watched_by in rewards.judges:
        console.warn(
            f"{config.watched_by} watches this training and rewards it: it cannot see where the model games "
            "it; watch with a model of another family"
        )
    with Ledger(rewards.ledger or default_path()) as ledger:
        async with roles_of(rewards, ledger, console) as roles, watching(config, ledger, console) as watch:
            made = await make_rewards(rewards, roles)
            gates = [reward.score for reward in made if isinstance(reward.score, Gated)]
            try:
                out = await in_thread(_in_order(train), config, on_log, rewards=made, held_out=watch)
                for gate in gates:
                    gate.check()
            finally:
                if gates:
                    console.note(f"rewards: {roles.state}")
            asked = any(gate.asked for gate in gates)
            if processes.is_main() and (asked or not (out / REPORT).exists()):
                write_json(out / REPORT, report(rewards, made, roles))
    return out


def _in_order(train: Callable[..., Path]) -> Callable[..., Path]:
    return lambda config, on_log, rewards, held_out: train(config, rewards, on_log, held_out)


def check(config: StageConfig, rewards: RewardsConfig) -> None:
    """What can be wrong, before a model is started. Raises UsageError and its kinds."""
    check_judging(rewards)
    check_group(rewards, getattr(config, "group_size", 1))
    loading.check_machine(config)
    folder.check_place(config)
    folder.check_free(config)
    columns = {column_of(text) for text in rewards.reward_function} | {rewards.reference}
    for path in find_files(config.data, "dpo", config.eval_data):
        if path is not None:
            _check_columns(path, config, columns - {None})


def _check_columns(path: Path, config: StageConfig, columns: set[str | None]) -> None:
    for row in read_rows(path, parse_prompt, config.as_chat):
        for column in sorted(str(name) for name in columns):
            if row.columns.get(column) in (None, ""):
                raise InputError(
                    path,
                    f"no value in the column {column}, which a reward reads",
                    line=row.line,
                    seen=", ".join(row.columns) or "no column but prompt",
                    fix="fill it, or name another column",
                )


async def make_rewards(config: RewardsConfig, roles: Roles) -> list[Reward]:
    """All rewards of a config, their models started; to be called in the loop that will answer them."""
    weights = config.weights
    made: list[Reward] = []
    if config.judges:
        name = JUDGE if config.judge else REWARD_MODEL
        judge = JudgeReward(await make_judge(config, roles), asyncio.get_running_loop())
        gated = Gated(name, judge, config.max_failure_share)
        made.append(Reward(name, gated, weights[name], _identity(config, roles)))
    for name, text in config.rules.items():
        made.append(Reward(name, parse_rule(text)[1], weights[name], text))
    return made


def _identity(config: RewardsConfig, roles: Roles) -> str:
    """Hash of the models, the options and the files that decide what is judged and how."""
    free = {*RUN_OPTIONS, "reward_function", "reward_weight"}
    options = config.model_dump(mode="json", exclude=free & type(config).model_fields.keys())
    texts: list[Json] = [path.read_text("utf-8") for path in judging_files(config)]
    return content_hash([options, texts, [*roles.identities]])


def report(config: RewardsConfig, rewards: Sequence[Reward], roles: Roles) -> dict[str, Any]:
    """`rewards.json`: each reward with its weight and, of judges and reward models, how many responses it was
    asked about and failed on; the models; what this process asked and paid (see `Roles.usage`)."""
    entries: dict[str, Any] = {}
    for reward in rewards:
        entries[reward.name] = {"weight": reward.weight, "identity": reward.identity}
        if isinstance(reward.score, Gated):
            entries[reward.name] |= {"asked": reward.score.asked, "failed": reward.score.failed}
    return {
        "rewards": entries,
        "config": config.model_dump(mode="json"),
        "models": served_judges(config, roles),
        "usage": roles.usage,
    }
