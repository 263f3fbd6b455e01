"""What alignment cost: log-loss on held-out demonstrations and right answers to tasks, before and after."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from judges.intervals import Array, Statistic, bootstrap, weighted_mean
from pipelines.evaluation.answers import Side, as_file
from prefgen.errors import InputError, UsageError
from prefgen.messages import Json
from prefgen.models import ModelSpec
from prefgen.prompt import Prompt, read_prompts
from prefgen.records import read_records
from trainers.preflight import encode
from trainers.rows import parse_demonstration, read_rows

_WEIGHTS = ("vllm", "transformers")


# ------------------------------------------------------------------------------------------ log-loss


@dataclass(frozen=True, slots=True)
class LogLoss:
    """Of each row: nats of its completion, and how many tokens that has (0: too long for the model)."""

    nats: Array
    tokens: Array


def check_held_out(held_out: Path, sides: Sequence[str]) -> None:
    """Raises UsageError where a side has no weights on this machine, InputError for a bad file."""
    for side in sides:
        if as_file(side) is not None or ModelSpec.parse(side).provider not in _WEIGHTS:
            raise UsageError(
                f"--held-out needs the weights of both models (vllm/PATH or transformers/PATH), not {side}"
            )
    read_rows(held_out, parse_demonstration, as_chat=True)


def tax_warnings(tax: Mapping[str, Any]) -> list[str]:
    """What became worse by more than chance."""
    found = []
    if tax["log_loss"] and tax["log_loss"]["difference"]["ci"][0] > 0:
        found.append("alignment tax: the log-loss on held-out demonstrations is higher than the baseline's")
    for name, task in tax["tasks"].items():
        for metric in METRICS:
            if task[metric]["difference"] and task[metric]["difference"]["ci"][1] < 0:
                found.append(f"alignment tax: fewer right answers to {name} ({metric.replace('_', ' ')})")
    return found


def log_loss(spec: str, held_out: Path, options: Mapping[str, Json]) -> LogLoss:
    """A model's log-loss on the completions of demonstrations, given their prompts.

    Plain strings go through the chat template where the model has one. Raises UsageError and its kin.
    """
    import torch

    from prefgen.models.transformers import load

    given = {name: options[name] for name in ("dtype", "device") if name in options}
    loaded = load(ModelSpec.parse(spec).name, spec, given, "AutoModelForCausalLM")
    rows = read_rows(held_out, parse_demonstration, as_chat=bool(loaded.tokenizer.chat_template))
    found = np.zeros((len(rows), 2))
    with torch.inference_mode():
        for number, row in enumerate(rows):
            encoded = encode(row, loaded.tokenizer)
            ids, start = encoded.sequences[0], max(1, encoded.shared)
            if start < len(ids) <= loaded.context:
                tensor = torch.tensor([ids], device=loaded.device)
                logprobs = loaded.model(input_ids=tensor).logits[0, start - 1 : -1].float().log_softmax(-1)
                told = logprobs.gather(-1, tensor[0, start:, None]).sum()
                found[number] = -float(told), len(ids) - start
    return LogLoss(found[:, 0], found[:, 1])


def log_loss_result(held_out: Path, model: LogLoss, baseline: LogLoss, seed: int = 0) -> dict[str, Any]:
    """Mean log-loss in nats per token of both, and the difference, with intervals over rows.

    Raises InputError where the models cut the text into different tokens or no row fits them.
    """
    fits = (model.tokens > 0) & (baseline.tokens > 0)
    if not fits.any():
        raise InputError(held_out, "no row fits the models' context")
    if not np.array_equal(model.tokens[fits], baseline.tokens[fits]):
        raise InputError(
            held_out,
            "model and baseline cut the text into different tokens, so their log-losses cannot be compared",
            expected="two models with one tokenizer and one chat template",
        )
    tokens, ours, theirs = model.tokens[fits], model.nats[fits], baseline.nats[fits]
    sums = {"model": ours, "baseline": theirs, "difference": ours - theirs}
    return {
        "unit": "nats per token",
        "n": int(fits.sum()),
        "n_too_long": int((~fits).sum()),
        "n_tokens": int(tokens.sum()),
        **{name: _estimate(_ratio(nats, tokens), len(tokens), seed) for name, nats in sums.items()},
    }


def _ratio(above: Array, below: Array) -> Statistic:
    def statistic(weights: Array) -> Array:
        ratio: Array = (weights @ above) / (weights @ below)
        return ratio

    return statistic


def _estimate(statistic: Statistic, n: int, seed: int) -> dict[str, Any]:
    found = bootstrap(statistic, range(n), seed=seed)
    assert found is not None
    return found.as_json()


# ------------------------------------------------------------------------------------------ tasks


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts of known answer."""

    path: Path
    prompts: Sequence[Prompt]
    answers: Sequence[str]


def read_task(path: Path) -> Task:
    """A file of `prompt` and `answer`. Raises InputError."""
    prompts = list(read_prompts(path))
    answers = []
    for record in read_records(path):
        answer = record.values.get("answer")
        if (
            isinstance(answer, bool)
            or not isinstance(answer, str | int | float)
            or not normalised(str(answer))
        ):
            raise InputError(
                path,
                "no answer to compare with",
                line=record.line,
                seen=answer,
                expected="a text or a number",
            )
        answers.append(str(answer))
    return Task(path, prompts, answers)


async def task_result(task: Task, model: Side, baseline: Side, seed: int = 0) -> dict[str, Any]:
    """The share of answers right by exact match and by containment, in percent, and the difference.

    Prompts that either could not answer are counted and left out; None where none is left.
    """
    said = await asyncio.gather(
        *(asyncio.gather(model.answer(prompt), baseline.answer(prompt)) for prompt in task.prompts)
    )
    both = [
        (ours.text, theirs.text, answer)
        for (ours, theirs), answer in zip(said, task.answers, strict=True)
        if ours is not None and theirs is not None
    ]
    result: dict[str, Any] = {"n": len(both), "n_failed": len(said) - len(both)}
    for name, right in METRICS.items():
        ours = np.array([100.0 * right(text, answer) for text, _, answer in both])
        theirs = np.array([100.0 * right(text, answer) for _, text, answer in both])
        sides = {"model": ours, "baseline": theirs, "difference": ours - theirs}
        result[name] = {
            side: _estimate(weighted_mean(values), len(both), seed) if both else None
            for side, values in sides.items()
        }
    return result


def exact_match(response: str, answer: str) -> bool:
    """Whether the response is the answer, both normalised."""
    return normalised(response) == normalised(answer)


def contains(response: str, answer: str) -> bool:
    """Whether the answer stands in the response as whole words, both normalised."""
    return f" {normalised(answer)} " in f" {normalised(response)} "


def normalised(text: str) -> str:
    """Lower case, single spaces, no punctuation and no articles (as SQuAD, Rajpurkar et al. 2016).

    Of a number, the sign and the decimal point stay and thousands commas go.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    words = re.findall(r"-?\d+(?:\.\d+)?|[^\W\d_]+(?:'[^\W\d_]+)*", text)
    return " ".join(word for word in words if word not in ("a", "an", "the"))


METRICS: Mapping[str, Callable[[str, str], bool]] = {"exact_match": exact_match, "contains": contains}
