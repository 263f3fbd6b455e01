"""`prefgen doctor`: the installation, the machine, and the models that are named."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.doctor.check import Check
from pipelines.doctor.config import DoctorConfig
from pipelines.doctor.installation import check_installation
from pipelines.doctor.machine import check_gpus, check_keys, check_places, find_gpus
from pipelines.doctor.models import check_judge, check_model, check_reward_model, failed
from pipelines.generate_config import JudgingConfig
from pipelines.roles import Roles, parse_options
from prefgen.assets import asset
from prefgen.engine import Limits
from prefgen.errors import MissingExtraError
from prefgen.ledger import Ledger
from prefgen.messages import Json
from prefgen.models import REWARD_PROVIDERS, ModelSpec
from prefgen.prices import parse_prices

_PATIENCE = 30.0
"""Seconds to be told to wait in, before that counts as no answer."""
_TINY: Mapping[str, Json] = {"max_model_len": 256}


async def examine(config: DoctorConfig, console: Console) -> list[Check]:
    """All checks, in order. Raises UsageError for what is no MODEL, before anything is looked at."""
    _check_specs(config)
    gpus = find_gpus()
    checks = [
        *check_installation(gpu=bool(gpus)),
        check_gpus(gpus),
        check_keys(),
        *check_places(config.ledger),
    ]
    if config.start_vllm:
        checks.append(await _start_vllm(config, console))
    async with _opening(config, console, parse_options(config.engine_arg)) as roles:
        async for check in _ask_all(config, roles):
            checks.append(check)
    return checks


def _check_specs(config: DoctorConfig) -> None:
    for spec in (*config.model, *config.judge):
        ModelSpec.parse(spec)
    for spec in config.reward_model:
        ModelSpec.parse(spec, REWARD_PROVIDERS)
    parse_options(config.engine_arg)
    parse_prices(config.price)


@asynccontextmanager
async def _opening(
    config: DoctorConfig, console: Console, options: Mapping[str, Json]
) -> AsyncIterator[Roles]:
    limits = Limits(concurrency=4, deadline=config.deadline, attempts=2, patience=_PATIENCE)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        async with Roles(
            ledger, console, limits, options=options, prices=parse_prices(config.price)
        ) as roles:
            yield roles


async def _ask_all(config: DoctorConfig, roles: Roles) -> AsyncIterator[Check]:
    for spec in dict.fromkeys((*config.model, *config.judge)):
        async for check in check_model(spec, roles):
            yield check
        if spec in config.judge and check.state != "problem":
            judging = JudgingConfig(judge=(spec,), deadline=config.deadline)
            yield await check_judge(spec, roles, judging)
        await roles.close(spec)
    for spec in dict.fromkeys(config.reward_model):
        yield await check_reward_model(spec, roles)
        await roles.close(spec, reward=True)


async def _start_vllm(config: DoctorConfig, console: Console) -> Check:
    if importlib.util.find_spec("vllm") is None:
        return failed("vLLM", "", MissingExtraError("vllm", "vllm"))
    spec = f"vllm/{asset('quickstart/models/policy')}"
    async with _opening(config, console, _TINY) as roles:
        first = await anext(check_model(spec, roles))
    found = first.found if first.state == "problem" else f"the engine runs: {first.found}"
    return Check("vLLM", first.state, found, first.fix, first.details)


def as_json(checks: list[Check]) -> dict[str, Any]:
    counts = {state: sum(check.state == state for check in checks) for state in ("ok", "note", "problem")}
    return {"ok": not counts["problem"], "counts": counts, "checks": [check.as_json() for check in checks]}


def in_words(checks: list[Check]) -> str:
    counts = {state: sum(check.state == state for check in checks) for state in ("problem", "note")}
    told = (f"{count or 'no'} {state}{'' if count == 1 else 's'}" for state, count in counts.items())
    return "\n".join([*(check.line for check in checks), ", ".join(told)])
