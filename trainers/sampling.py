"""Answers of a model in training, and what it thinks of answers, without a trace in the training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel

Ids: TypeAlias = tuple[int, ...]
AT_ONCE, MOST_NUMBERS = 8, 2**26
"""Sequences in one pass, and numbers in their distributions: those of two models are held together."""


@contextmanager
def at_rest(model: PreTrainedModel, seed: int, bf16: bool) -> Iterator[None]:
    """Evaluation mode, no gradients and random numbers of `seed`; afterwards all is as it was before."""
    import torch

    training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    with ExitStack() as stack:
        stack.callback(model.train, training)
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(model.device.type, torch.bfloat16, enabled=bf16))
        model.eval()
        torch.manual_seed(seed)
        yield


@contextmanager
def reference_of(model: PreTrainedModel, frozen: PreTrainedModel | None) -> Iterator[PreTrainedModel | None]:
    """The model training started from: a frozen copy, the model without its adapter, or None."""
    if frozen is not None or not hasattr(model, "disable_adapter"):
        yield frozen
        return
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with model.disable_adapter():
        yield model
    # peft switches the training of the active adapter on again, and of no other.
    for weight in trained:
        weight.requires_grad_(True)


def sample(
    model: PreTrainedModel, prompts: Sequence[Ids], pad: int, ends: Collection[int], max_new_tokens: int
) -> list[Ids]:
    """One answer to each prompt at temperature 1, nothing cut off, with its end token if it reached one."""
    import torch
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        use_cache=True,
        pad_token_id=pad,
        eos_token_id=sorted(ends),
    )
    ids, mask = _pad_left(prompts, pad, model.device)
    with torch.no_grad(), only_settings(model, config):
        written = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [_to_end(row, ends) for row in written[:, ids.shape[1] :].tolist()]


@contextmanager
def only_settings(model: Any, config: GenerationConfig) -> Iterator[None]:
    """`generate` fills what is not set from the model's own settings, such as a repetition penalty."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    before = inner.generation_config
    inner.generation_config = config
    try:
        yield
    finally:
        inner.generation_config = before


def _to_end(ids: Sequence[int], ends: Collection[int]) -> Ids:
    stop = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    return tuple(ids[:stop])


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What a model thinks of one answer of T tokens. `log_probs`: of its tokens, T numbers in nats;
    `entropy`: mean entropy of the next-token distributions, nats a token; `kl`: to the reference, nats for
    the answer."""

    log_probs: tuple[float, ...]
    entropy: float
    kl: float | None


def think(
    model: PreTrainedModel,
    prompts: Sequence[Ids],
    answers: Sequence[Ids],
    pad: int,
    frozen: PreTrainedModel | None = None,
) -> list[Thoughts]:
    """Teacher-forced over answers of one token or more.

    `kl` sums KL(model(· | prefix) || reference(· | prefix)) over the prefixes of the answer. Where the
    answers are the model's own, its mean estimates the KL divergence of whole answers without bias, and with
    less variance than the log-ratio of the sampled tokens (Amini et al. 2025, arXiv 2504.10637).
    """
    found: list[Thoughts] = []
    numbers = max(map(len, answers)) * model.config.get_text_config().vocab_size
    step = min(AT_ONCE, max(1, MOST_NUMBERS // numbers))
    for start in range(0, len(prompts), step):
        batch = slice(start, start + step)
        found += _think(model, prompts[batch], answers[batch], pad, frozen)
    return found


def _think(
    model: PreTrainedModel,
    prompts: Sequence[Ids],
    answers: Sequence[Ids],
    pad: int,
    frozen: PreTrainedModel | None,
) -> list[Thoughts]:
    import torch

    with torch.no_grad():
        ours = _distributions(model, prompts, answers, pad)
        with reference_of(model, frozen) as reference:
            theirs = None if reference is None else _distributions(reference, prompts, answers, pad)
        probabilities = ours.exp()
        entropy = -(probabilities * ours).sum(-1).cpu()
        kl = None if theirs is None else (probabilities * (ours - theirs)).sum(-1).cpu()
        taken = ours.gather(-1, _pad_right(answers, pad, model.device)[0][..., None])[..., 0].cpu()
    return [
        Thoughts(
            tuple(taken[row, :length].tolist()),
            float(entropy[row, :length].mean()),
            None if kl is None else float(kl[row, :length].sum()),
        )
        for row, length in enumerate(map(len, answers))
    ]


def _distributions(
    model: PreTrainedModel, prompts: Sequence[Ids], answers: Sequence[Ids], pad: int
) -> Tensor:
    """(answers, tokens, vocabulary): log-probabilities at each place of the answers, in float32."""
    import torch

    prompt_ids, prompt_mask = _pad_left(prompts, pad, model.device)
    answer_ids, answer_mask = _pad_right(answers, pad, model.device)
    mask = torch.cat([prompt_mask, answer_mask], 1)
    logits = model(
        input_ids=torch.cat([prompt_ids, answer_ids], 1),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        logits_to_keep=answer_ids.shape[1] + 1,
        use_cache=False,
    ).logits
    return logits[:, :-1].float().log_softmax(-1)


def _pad_left(rows: Sequence[Ids], pad: int, device: object) -> tuple[Tensor, Tensor]:
    """Ids and mask, filled on the left so that all rows end together."""
    import torch

    longest = max(map(len, rows))
    ids = [[pad] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _pad_right(rows: Sequence[Ids], pad: int, device: object) -> tuple[Tensor, Tensor]:
    ids, mask = _pad_left([row[::-1] for row in rows], pad, device)
    return ids.flip(1), mask.flip(1)
