"""How far a policy has moved from its start: what it writes, and KL(policy ‖ start) on that."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Ids = tuple[int, ...]
T = TypeVar("T")
ESTIMATOR = "k3 of each sampled token at temperature 1, summed over the response (nats a response)"


@dataclass(frozen=True, slots=True)
class Response:
    """What a model wrote. `finished`: it ended by itself, not by the token limit."""

    prompt: Ids
    completion: Ids
    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """`standard_error`: None for a single response."""

    value: float
    standard_error: float | None


def write_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Ids],
    ends: Sequence[int],
    *,
    max_tokens: int,
    batch_size: int,
    seed: int,
) -> list[Response]:
    """One response to each prompt, drawn from the model's own distribution (temperature 1, nothing cut off).

    `ends`: ids that end a response.
    """
    import torch
    from transformers import GenerationConfig, set_seed

    set_seed(seed)
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_tokens,
        eos_token_id=list(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    found: list[Response] = []
    for some in _batches(prompts, batch_size):
        width = max(map(len, some))
        ids = torch.tensor(
            [[tokenizer.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in some]
        )
        seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in some])
        with torch.no_grad():
            written = model.eval().generate(
                ids.to(model.device), attention_mask=seen.to(model.device), generation_config=settings
            )
        for prompt, row in zip(some, written[:, width:].tolist(), strict=True):
            stop = next((at for at, token in enumerate(row) if token in ends), None)
            completion = tuple(row if stop is None else row[: stop + 1])
            text = tokenizer.decode(completion, skip_special_tokens=True)
            found.append(Response(prompt, completion, text, stop is not None))
    return found


def policy_kl(
    policy: PreTrainedModel, start: PreTrainedModel, responses: Sequence[Response], batch_size: int
) -> Estimate:
    """KL(policy ‖ start) in nats a response, from responses that the policy wrote."""
    each: list[float] = []
    for some in _batches(responses, batch_size):
        ours, theirs = (token_log_probs(model, some) for model in (policy, start))
        each += k3(ours, theirs).sum(1).tolist()
    error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else None
    return Estimate(statistics.fmean(each), error)


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """r - 1 - log r with r = reference / policy, of log-probabilities of what the policy drew.

    Never negative; its mean is KL(policy ‖ reference). Schulman 2020, "Approximating KL divergence".
    """
    log_ratio = reference - policy
    return log_ratio.expm1() - log_ratio


def token_log_probs(model: PreTrainedModel, responses: Sequence[Response]) -> Tensor:
    """log p of each completion token; shape (responses, longest prompt and completion - 1), 0 elsewhere."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.tensor([*item.prompt, *item.completion]) for item in responses]
    ids = pad_sequence(rows, batch_first=True).to(model.device)
    places = torch.arange(1, ids.shape[1], device=ids.device)
    starts, lengths = (
        torch.tensor(values, device=ids.device)[:, None]
        for values in ([len(item.prompt) for item in responses], [len(row) for row in rows])
    )
    with torch.no_grad():
        attended = (torch.arange(ids.shape[1], device=ids.device) < lengths).long()
        logits = model.eval()(input_ids=ids, attention_mask=attended, use_cache=False).logits[:, :-1].float()
    told = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return told * ((places >= starts) & (places < lengths))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
