"""`prefgen generate --engine ray`: the local job, with the line elsewhere."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.distributed.broker import Funds
from pipelines.distributed.crew import Crew
from pipelines.distributed.driver import RayLine
from pipelines.distributed.leases import Leases
from pipelines.distributed.roles import DriverRoles
from pipelines.distributed.shards import Shards, shard_size
from pipelines.distributed.workers import DRIVERS_SHARE, Job
from pipelines.generate import Inputs, generate_with
from pipelines.generate_config import GenerateConfig
from pipelines.judging import judging_files, roles_of
from pipelines.line import Work
from pipelines.outcome import Pairing
from pipelines.roles import Roles
from prefgen.ledger import Ledger, default_path
from prefgen.run import RunDirectory


async def generate_on_ray(
    config: GenerateConfig, console: Console, *, resume: bool, overwrite: bool
) -> dict[str, Any]:
    """Raises as `pipelines.generate.generate`; MissingExtraError; UsageError where there is no cluster or the
    workers do not fit into it."""
    with Ledger(config.ledger or default_path()) as ledger:
        async with AsyncExitStack() as stack:
            own = roles_of(config, ledger, console, config.policy)
            roles = DriverRoles(**{item.name: getattr(own, item.name) for item in fields(Roles)})
            await stack.enter_async_context(roles)

            async def make(
                config: GenerateConfig, _: Roles, pairing: Pairing, run: RunDirectory, inputs: Inputs
            ) -> RayLine:
                spent = Funds(roles.budget.sent, roles.budget.paid_usd)
                crew = stack.enter_context(Crew(config, console, spent))
                leases = Leases(crew.ask, config.max_requests, config.max_cost, lambda model: DRIVERS_SHARE)
                stack.push_async_callback(leases.aclose)
                stack.push_async_callback(roles.close_all)
                roles.budget, roles.shared = leases.budget, leases.limit
                files = {str(path): path.read_bytes() for path in judging_files(config)}
                ledger_file = config.ledger and config.ledger.absolute()
                there = config.model_copy(update={"ledger": ledger_file})
                job = Job(there, files, pairing, run.attempt, run.id, Path.cwd())
                workers = config.policy_workers + config.judge_workers
                size = config.shard_size or shard_size(inputs.prompts, workers)

                def plan(work: Work) -> Shards:
                    return Shards.plan(run.path / ".work" / "ray", work(), inputs.prompts, size)

                return RayLine(roles, crew, job, plan)

            return await generate_with(config, roles, resume=resume, overwrite=overwrite, make=make)
