"""From a config to its judge and its models."""

from __future__ import annotations

from judges.asking import Asking
from judges.constitution import load_constitution
from judges.judge import Judge
from judges.pairwise import PairwiseJudge
from judges.pointwise import PLACEHOLDERS, REQUIRED, PointwiseJudge
from judges.prompting import load_template
from judges.reward_model import RewardJudge
from pipelines.console import Console
from pipelines.generate_config import JudgingConfig
from pipelines.roles import Roles, count_engines, parse_options, parse_prices
from prefgen.engine import Budget, Limits
from prefgen.ledger import Ledger
from prefgen.models import REWARD_PROVIDERS, ModelSpec


def check_judging(config: JudgingConfig) -> None:
    """Everything a typo can be in, before a model is started. Raises UsageError."""
    if config.reward_model is not None:
        ModelSpec.parse(config.reward_model, REWARD_PROVIDERS)
    if config.judge is not None:
        ModelSpec.parse(config.judge)
        load_constitution(config.constitution)
    if config.judge_template is not None:
        load_template(config.judge_template, REQUIRED, PLACEHOLDERS)
    parse_options(config.engine_arg)
    parse_prices(config.price)


def roles_of(
    config: JudgingConfig, ledger: Ledger, console: Console, policies: tuple[str, ...] = ()
) -> Roles:
    return Roles(
        ledger,
        console,
        Limits(config.concurrency, config.deadline, config.attempts),
        Budget(config.max_requests),
        parse_options(config.engine_arg),
        parse_prices(config.price),
        count_engines([*policies, config.judge, config.reward_model]),
    )


async def make_judge(config: JudgingConfig, roles: Roles, attempt: int = 0) -> Judge:
    """The judge of a config, its model started. `attempt`: see `Asking`."""
    if config.judge is None:
        return RewardJudge(await roles.reward_model(config.reward_model or ""))
    constitution = load_constitution(config.constitution)
    asking = Asking(config.evidence, config.votes, config.judge_max_tokens, config.seed, attempt)
    model = await roles.model(config.judge)
    if config.judging == "pointwise":
        path = config.judge_template
        template = load_template(path, REQUIRED, PLACEHOLDERS) if path else None
        return PointwiseJudge(model, constitution, asking, template=template)
    return PairwiseJudge(
        model, constitution, asking, principles=config.principles, both_orders=config.both_orders
    )
