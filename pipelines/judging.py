"""From a config to its judge and its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from judges.asking import Asking
from judges.constitution import load_constitution
from judges.judge import Judge
from judges.jury import Jury
from judges.listwise import ListwiseJudge
from judges.pairwise import PairwiseJudge
from judges.pointwise import PLACEHOLDERS, REQUIRED, PointwiseJudge
from judges.prompting import Template, load_template
from judges.reward_model import RewardJudge
from judges.scale import load_scale
from judges.score import ScoreJudge
from pipelines.batching import Batching, with_servers
from pipelines.console import Console
from pipelines.generate_config import CallConfig, JudgingConfig
from pipelines.roles import Roles, count_engines, parse_options
from prefgen.budget import Budget
from prefgen.engine import Limits
from prefgen.errors import UsageError
from prefgen.ledger import Ledger
from prefgen.models import REWARD_PROVIDERS, ModelSpec
from prefgen.models.batches.settings import BatchSettings
from prefgen.models.ensemble import EnsembleUse, find_ensemble
from prefgen.pace import PerMinute
from prefgen.prices import find_price, parse_prices
from prefgen.verdicts import Weighing


def check_judging(config: JudgingConfig) -> None:
    """Everything a typo can be in, before a model is started. Raises UsageError."""
    if config.reward_model is not None:
        name = ModelSpec.parse(config.reward_model, REWARD_PROVIDERS).name
        if config.reward_ensemble != "mean" and find_ensemble(name) is None:
            raise UsageError(
                f"--reward-ensemble {config.reward_ensemble}: {name} is no ensemble of reward models; "
                "prefgen train reward --members 4 makes one"
            )
    for spec in config.judge:
        ModelSpec.parse(spec)
    if config.judge:
        load_constitution(config.constitution)
    _template(config)
    load_scale(config.scale)
    parse_options(config.engine_arg)
    parse_prices(config.price)


def judging_files(config: JudgingConfig) -> list[Path]:
    """The user's files that decide what is judged and how."""
    named = (Path(config.constitution), config.judge_template, config.scale)
    return [path for path in named if path is not None and path.is_file()] if config.judge else []


def _template(config: JudgingConfig) -> Template | None:
    if config.judge_template is None:
        return None
    required = REQUIRED | ({"reference"} if config.reference else set())
    return load_template(config.judge_template, required, PLACEHOLDERS)


def roles_of(
    config: JudgingConfig, ledger: Ledger, console: Console, policies: tuple[str, ...] = ()
) -> Roles:
    priced = config.reward_model is not None and find_price(config.reward_model, parse_prices(config.price))
    if config.max_cost is not None and priced and not priced.free:
        raise UsageError(
            f"--max-cost {config.max_cost:g} cannot be kept: {config.reward_model} gives scores without a "
            "count of tokens, so that their cost is not known"
        )
    roles = calling(config, ledger, console, [*policies, *config.judges])
    ensemble = EnsembleUse(config.reward_ensemble, config.ensemble_penalty)
    return replace(roles, ensemble=ensemble, batching=batching(config, [*policies, *config.judge]))


def calling(config: CallConfig, ledger: Ledger, console: Console, models: Sequence[str | None]) -> Roles:
    """The models of a job, none of them started. `models`: the specs it may open. Raises UsageError where the
    cost of one of them cannot be kept under `max_cost`."""
    prices = parse_prices(config.price)
    unknown = [spec for spec in models if spec is not None and find_price(spec, prices) is None]
    if config.max_cost is not None and unknown:
        raise UsageError(
            f"--max-cost {config.max_cost:g} cannot be kept: the price of {unknown[0]} is not known\n"
            f"  fix: add --price {unknown[0]}=IN,OUT in US dollars per million tokens"
        )
    return Roles(
        ledger,
        console,
        limits_of(config),
        Budget(config.max_requests, config.max_cost),
        parse_options(config.engine_arg),
        prices,
        count_engines(models),
        batching=batching(config, models),
    )


def limits_of(config: CallConfig) -> Limits:
    per_minute = PerMinute(
        config.requests_per_minute, config.input_tokens_per_minute, config.output_tokens_per_minute
    )
    return Limits(config.concurrency, config.deadline, config.attempts, per_minute=per_minute)


def batching(config: CallConfig, models: Sequence[str | None]) -> Batching | None:
    """Raises UsageError where --batch is asked for and no model can have batches."""
    if not config.batch:
        return None
    settings = BatchSettings(config.batch_requests, config.batch_poll, config.attempts)
    return Batching(settings, with_servers(models))


async def make_judge(config: JudgingConfig, roles: Roles, attempt: int = 0) -> Judge:
    """The judge of a config, or the jury of all its judges, the models started. `attempt`: see `Asking`."""
    judges = await make_judges(config, roles, attempt)
    if len(judges) == 1:
        return judges[0]
    # Weights and thresholds come with human labels; until then all count alike.
    combine = "mean" if config.combine in ("stacked", "cascade") else config.combine
    return Jury(judges, Weighing(judges[-1].weighing.principles, combine))


async def make_judges(config: JudgingConfig, roles: Roles, attempt: int = 0) -> list[Judge]:
    """Each judge of a config by itself, in order."""
    reward = [RewardJudge(await roles.reward_model(config.reward_model))] if config.reward_model else []
    return [*reward, *[await _make(config, spec, roles, attempt) for spec in config.judge]]


async def _make(config: JudgingConfig, spec: str, roles: Roles, attempt: int) -> Judge:
    constitution = load_constitution(config.constitution)
    model, asking = await roles.model(spec, "judge"), _asking(config, attempt)
    match config.judging:
        case "pointwise":
            return PointwiseJudge(model, constitution, asking, template=_template(config))
        case "score":
            return ScoreJudge(model, constitution, asking, load_scale(config.scale))
        case "listwise":
            return ListwiseJudge(model, constitution, asking, permutations=config.permutations)
        case "pairwise":
            return PairwiseJudge(
                model,
                constitution,
                asking,
                principles=config.principles,
                both_orders=config.both_orders,
                meetings=config.meetings,
                rounds=config.meeting_rounds,
            )


def _asking(config: JudgingConfig, attempt: int) -> Asking:
    return Asking(
        evidence=config.evidence,
        votes=config.votes,
        max_tokens=config.judge_max_tokens,
        seed=config.seed,
        attempt=attempt,
        reasoning=config.reasoning,
        adaptive=config.adaptive_votes,
        reference=config.reference,
    )


def served(role: str, specs: Sequence[str], roles: Roles) -> dict[str, Any]:
    """Entries of a manifest's `models`: ROLE, ROLE_2, ROLE_3 and so on."""
    names = [role if number == 1 else f"{role}_{number}" for number in range(1, len(specs) + 1)]
    return {name: roles.served(spec) for name, spec in zip(names, specs, strict=True)}


def served_judges(config: JudgingConfig, roles: Roles) -> dict[str, Any]:
    """The same of all that judge."""
    entries = served("judge", config.judge, roles)
    if config.reward_model is not None:
        entries["reward_model"] = roles.served(config.reward_model, reward=True)
    return entries
