"""A batch of pairs through a model: what each token of both responses got, and the sums a loss is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from trainers.shared_prompt import CHOSEN, IGNORED, PADDING, PROMPT, REJECTED, attention_mask, count_tokens

if TYPE_CHECKING:
    from torch import Tensor

Batch: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True, slots=True)
class Side:
    """One part of each pair; tensors of shape (batch,). `log_probs`: sums over its tokens, in nats;
    `reference`: the same under the starting model."""

    log_probs: Tensor
    tokens: Tensor
    reference: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        return self.log_probs / self.tokens.clamp(min=1)

    @property
    def log_ratio(self) -> Tensor:
        assert self.reference is not None
        return self.log_probs - self.reference

    @property
    def mean_log_ratio(self) -> Tensor:
        return self.log_ratio / self.tokens.clamp(min=1)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch as a loss sees it. `prompt`: without its first token, all 0 unless it was asked for;
    `confidence`: None where the rows have none."""

    chosen: Side
    rejected: Side
    prompt: Side
    confidence: Tensor | None = None


Objective: TypeAlias = "Callable[[Pairs], tuple[Tensor, Mapping[str, Tensor]]]"
"""The loss of a batch, a scalar, and numbers to log: of shape (batch,), or scalars."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model says of each token; tensors of shape (batch, positions). `segments`: the part of the pair
    that the token belongs to; `n_tokens`: of both sequences, prompts counted twice; `aux_loss`: of a mixture
    of experts."""

    log_probs: Tensor
    entropy: Tensor
    mean_logits: Tensor
    is_top1: Tensor
    segments: Tensor
    n_tokens: Tensor
    aux_loss: Tensor | None = None

    def side(self, segment: int, reference: Tensor | None = None) -> Side:
        here = self.segments == segment
        return Side((self.log_probs * here).sum(1), here.sum(1), reference)

    def pairs(self, inputs: Batch) -> Pairs:
        return Pairs(
            self.side(CHOSEN, inputs.get("ref_chosen_logps")),
            self.side(REJECTED, inputs.get("ref_rejected_logps")),
            self.side(PROMPT),
            inputs.get("confidence"),
        )

    def metrics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """TRL's numbers per token, each as (sum, count)."""
        chosen, rejected = self.segments == CHOSEN, self.segments == REJECTED
        either = chosen | rejected
        return {
            "entropy": (self.entropy[either].sum(), either.sum()),
            "logits/chosen": (self.mean_logits[chosen].sum(), chosen.sum()),
            "logits/rejected": (self.mean_logits[rejected].sum(), rejected.sum()),
            "mean_token_accuracy": (self.is_top1[chosen].sum(), chosen.sum()),
        }


def score(model: Any, inputs: Batch, *, prompt: bool, router: bool = False) -> TokenScores:
    """Runs a model that has TRL's fused head on a batch in either layout.

    `prompt`: whether the prompt's tokens are scored as well; `router`: whether `aux_loss` is wanted.
    """
    return (_score_shared if "segments" in inputs else _score_padded)(model, inputs, prompt, router)


def _score_shared(model: Any, inputs: Batch, prompt: bool, router: bool) -> TokenScores:
    assert not router
    segments, labels = inputs["segments"], inputs["labels"]
    outputs = model(
        input_ids=inputs["input_ids"],
        position_ids=inputs["position_ids"],
        attention_mask=attention_mask(segments),
        shift_labels=labels if prompt else labels.masked_fill(segments == PROMPT, IGNORED),
        use_cache=False,
        fused_lm_head=True,
    )
    return TokenScores(
        outputs.log_probs,
        outputs.entropy.detach(),
        outputs.mean_logits,
        outputs.is_top1,
        segments,
        count_tokens(segments),
    )


def _score_padded(model: Any, inputs: Batch, prompt: bool, router: bool) -> TokenScores:
    """TRL's layout: all chosen sequences, then all rejected ones, each a row."""
    import torch

    ids, attended, completion = (inputs[name] for name in ("input_ids", "attention_mask", "completion_mask"))
    outputs = model(
        input_ids=ids,
        attention_mask=attended,
        labels=ids.masked_fill((attended if prompt else completion) == 0, IGNORED),
        use_cache=False,
        fused_lm_head=True,
        **({"output_router_logits": True} if router else {}),
    )
    chosen, rejected = completion[:, 1:].bool().chunk(2)
    segments = torch.full_like(torch.cat([chosen, rejected], dim=1).long(), PADDING)
    width = chosen.shape[1]
    segments[:, :width][attended[: len(chosen), 1:].bool()] = PROMPT
    segments[:, :width][chosen] = CHOSEN
    segments[:, width:][rejected] = REJECTED

    def beside(values: Tensor) -> Tensor:
        return torch.cat(values.chunk(2), dim=1)

    return TokenScores(
        beside(outputs.log_probs),
        beside(outputs.entropy.detach()),
        beside(outputs.mean_logits),
        beside(outputs.is_top1),
        segments,
        attended.sum(),
        outputs.aux_loss,
    )
