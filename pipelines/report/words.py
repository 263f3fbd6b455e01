"""Keys of the manifest in words."""

from __future__ import annotations

from pathlib import PurePath

from pipelines.markup import number

LOST = {
    "duplicates": "with the same text as another",
    "contaminated": "left out: they hold an evaluation question",
    "fewer_than_two_candidates": "of the prompts had fewer than two responses",
    "margin": "below the confidence threshold",
    "tie": "tied",
    "inconsistent": "with a verdict against the ranking",
    "unfinished": "with an empty or cut response",
    "judge_failure": "without a usable judgment",
    "not_compared": "whose two responses did not meet in both orders",
    "near_identical": "nearly the same text twice",
    "chosen_truncated": "the better one was cut by the token limit",
    "chosen_empty": "the better one was empty",
    "length_gap": "too different in length",
    "over_max_pairs": "over the limit for one prompt",
    "spared": "not needed, because a pair was clear before",
}
FAILURES = {
    "parse_failure": "the reply could not be read",
    "refusal": "the model refused",
    "truncated": "the reply was cut by the token limit",
    "api_error": "the provider answered with an error",
    "timeout": "no answer in time",
}
ROLES = {
    "policy": "Writer of responses",
    "judge": "Judge",
    "reward_model": "Reward model",
    "critic": "Critic",
}
TIMINGS = {"start_models": "starting the models", "sample_and_judge": "writing and judging"}
_LONG = 40


def failure(status: str) -> str:
    """A cause of failed calls, with the step it was met in."""
    known = status.removeprefix("sampling_")
    return f"{'judging' if known == status else 'writing'}: {FAILURES.get(known, known)}"


def model_name(spec: str) -> str:
    """A model spec, without the folders of a long path."""
    provider, _, name = spec.partition("/")
    if len(spec) <= _LONG or "://" in name or "/" not in name:
        return spec
    return f"{provider}/…/{PurePath(name).name}".lstrip("/")


def money(cost: float | None) -> str:
    return "unknown" if cost is None else f"${number(cost, 2 if cost >= 1 or not cost else 4)}"


def time_in_words(seconds: float) -> str:
    """Seconds below two minutes, else minutes or hours."""
    if seconds < 120:
        return f"{number(seconds, 1)} s"
    return f"{number(seconds / 60, 1)} min" if seconds < 7200 else f"{number(seconds / 3600, 1)} h"
