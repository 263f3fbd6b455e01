"""What a careful person would ask before a training starts, and the answers that forbid it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from prefgen.errors import UsageError
from trainers.config import StageConfig
from trainers.preflight import Encoded, encode
from trainers.sampling import Ids, at_rest, think

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trainers.rows import Row
    from trainers.stage import Stage

MOST_EPOCHS = 2.0
"""Passes over preference pairs after which held-out quality falls as a rule (DPO and KTO)."""
ROWS_ASKED = 8
HIGHEST_LOSS = 4.0
"""Nats a token. A model finds fluent text of its own language at 1 to 3; 4 is a perplexity of 55."""
SMALL = 100_000_000
"""Weights below which a model takes far higher learning rates than those below."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Usual peak learning rates (lowest, highest) of full training and of LoRA."""

    full: tuple[float, float]
    lora: tuple[float, float]

    def usual(self, adapter: bool) -> tuple[float, float]:
        return self.lora if adapter else self.full


USUAL_RATES: Mapping[str, Rates] = {
    "sft": Rates((1e-6, 1e-4), (1e-5, 1e-3)),
    "reward": Rates((1e-6, 1e-4), (1e-5, 1e-3)),
    "dpo": Rates((1e-7, 5e-6), (1e-6, 5e-5)),
    "kto": Rates((1e-7, 5e-6), (1e-6, 5e-5)),
    "orpo": Rates((1e-6, 5e-5), (1e-5, 5e-4)),
    "grpo": Rates((1e-7, 1e-5), (1e-6, 1e-4)),
    "ppo": Rates((1e-7, 2e-5), (1e-6, 2e-4)),
}
"""A factor of about ten around published settings, for models of 0.1 to 70 billion weights. Full training:
SFT 5e-6 and DPO 5e-7 (Tulu 3, arXiv 2411.15124), SFT 2e-5 and DPO 5e-7 (Zephyr, 2310.16944), reward models
9e-6 and PPO 9.65e-6 (InstructGPT, 2203.02155), KTO 5e-7 (2402.01306), ORPO 8e-6 (2403.07691), GRPO 1e-6
(2402.03300). LoRA: ten times as much, the best ratio found in "LoRA Without Regret" (Schulman 2025)."""


def check_rate(stage: str, rate: float, adapter: bool, weights: int) -> str | None:
    """A warning where the learning rate is outside of what is usual for the stage and a model of this
    size."""
    if stage not in USUAL_RATES or weights < SMALL:
        return None
    low, high = USUAL_RATES[stage].usual(adapter)
    if low <= rate <= high:
        return None
    kind = "with LoRA" if adapter else "in full"
    return f"--learning-rate {rate:g} is outside of what is usual for {stage} {kind}: {low:g} to {high:g}"


def check_epochs(stage: str, epochs: float) -> str | None:
    """`epochs`: passes that will be made."""
    if stage not in ("dpo", "kto") or epochs <= MOST_EPOCHS:
        return None
    return (
        f"{epochs:.3g} passes over the rows: beyond {MOST_EPOCHS:g}, {stage} overfits as a rule; lower "
        "--epochs, or watch the held-out loss with --early-stopping-patience 2"
    )


def planned_epochs(config: StageConfig, rows: int) -> float:
    """Passes over `rows` that the options come to."""
    rows_a_step = config.batch_size * config.gradient_accumulation
    return config.max_steps * rows_a_step / rows if config.max_steps else config.epochs


def check_judge(config: StageConfig) -> str | None:
    """A warning where the judge that watches is one the labels come from."""
    if config.watched_by is None or config.watched_by not in judges_of(config.data):
        return None
    return (
        f"{config.watched_by} watches this training and made its labels: it cannot see where the model "
        "games it; watch with a model of another family"
    )


def judges_of(data: Path) -> frozenset[str]:
    """The models that judged a run directory, by its manifest; none where `data` is one file."""
    path = data / "manifest.json"
    if not path.is_file():
        return frozenset()
    models = json.loads(path.read_text("utf-8")).get("models", {})
    entries = (models.get(role) for role in models if role.startswith(("judge", "reward_model")))
    listed = (entry if isinstance(entry, list) else [entry] for entry in entries)
    return frozenset(str(entry.get("spec")) for group in listed for entry in group)


# ------------------------------------------------------------------------------------------------ base models


def check_start(
    config: StageConfig,
    stage: Stage,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
) -> str | None:
    """Looks whether the start was never taught to answer; a warning, or UsageError, as the stage says."""
    if stage.base_model == "fits" or config.allow_base_model:
        return None
    fault = base_model_fault(
        tokenizer.chat_template, start_loss(config, model, tokenizer, rows), len(tokenizer)
    )
    if fault is None:
        return None
    text = f"{config.model} looks like a raw base model: {fault}"
    if stage.base_model == "warn":
        return f"{text}; train it on demonstrations first (prefgen train sft)"
    raise UsageError(
        f"{text}. {stage.name} only shifts what a model can say already: train it on demonstrations first "
        "(prefgen train sft), or add --allow-base-model"
    )


def base_model_fault(template: object, loss: float | None, vocabulary: int) -> str | None:
    """Why a model seems not to have been taught to answer, or None.

    `loss`: nats a token on good responses, None where there are none. The limit is half of what guessing at
    random costs, ln(vocabulary), and at most 4: it catches a model that does not know the language or the
    chat template. A base model with a template that writes fluently stays below it, and is not found out.
    """
    limit = min(HIGHEST_LOSS, math.log(vocabulary) / 2)
    if not template:
        return "its tokenizer has no chat template"
    if loss is not None and loss > limit:
        return f"good responses cost it {loss:.2f} nats a token, and {limit:.2f} is the limit"
    return None


def start_loss(
    config: StageConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]
) -> float | None:
    """Mean loss of the start on the first few good responses, nats a token; None where the rows have none."""
    good = [row for row in rows if row.completions and row.label is not False][:ROWS_ASKED]
    parts = [_split(encode(row, tokenizer), config.max_length) for row in good]
    parts = [(prompt, answer) for prompt, answer in parts if prompt and answer]
    if not parts:
        return None
    with at_rest(model, config.seed, bf16=False):
        told = think(
            model, [prompt for prompt, _ in parts], [answer for _, answer in parts], tokenizer.pad_token_id
        )
    return -fmean(value for thoughts in told for value in thoughts.log_probs)


def _split(encoded: Encoded, max_length: int) -> tuple[Ids, Ids]:
    ids = encoded.sequences[0][:max_length]
    return ids[: encoded.shared], ids[encoded.shared :]
