"""Looks at a model while it is trained: what it answers to the same prompts, evaluation after evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Protocol, TypeAlias

from prefgen.messages import Json, Messages, user
from prefgen.refusal import is_refusal
from prefgen.repetition import distinct, repetition
from prefgen.surface import formatting_density
from trainers.arguments import device_arguments
from trainers.config import StageConfig
from trainers.loading import end_tokens
from trainers.preflight import encode
from trainers.rewards import Sample, Score
from trainers.rows import Row, distinct_prompts
from trainers.sampling import Ids, at_rest, sample, think

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trainers.prepare import Prepared
    from trainers.stage import Stage

Values: TypeAlias = Mapping[str, tuple[float | None, ...]]
PAIRS_FOR_EACH_PROMPT = 8
"""A pair costs a reward model two forward passes, a prompt costs a policy a whole answer."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one evaluation saw. `numbers`: for `metrics.jsonl`; `values`: the same for each watched prompt (or
    pair), None where there is none; `samples`: what was answered, if anything."""

    numbers: Mapping[str, float]
    values: Values
    samples: tuple[Sample, ...] = ()


class Watcher(Protocol):
    start: Look | None

    def begin(self, model: PreTrainedModel) -> None:
        """Looks at the model before training and keeps that as `start`; a resumed run does so as well."""

    def look(self, model: PreTrainedModel) -> Look:
        """Leaves the model and all random numbers as they were."""


@dataclass(frozen=True, slots=True)
class WatchedPrompt:
    ids: Ids
    messages: Messages
    columns: Mapping[str, Json] = field(default_factory=dict)


def watched_prompts(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, count: int, longest: int
) -> list[WatchedPrompt]:
    """The first `count` prompts of at most `longest` tokens, in the order of their hashes."""
    found: list[WatchedPrompt] = []
    for row in sorted(distinct_prompts(rows), key=lambda row: row.prompt_hash):
        if len(found) == count:
            break
        ids = encode(row, tokenizer).prompt
        if 0 < len(ids) <= longest:
            messages = user(row.prompt) if isinstance(row.prompt, str) else row.prompt
            found.append(WatchedPrompt(ids, messages, row.columns))
    return found


@dataclass
class PolicyWatcher:
    """Samples a policy with the same random numbers at each look, so that looks differ by the model alone.

    `frozen`: a copy of the start, if one is held anyway. `held_out`: a judge that the training does not use.
    Values of a prompt: `kl` (nats an answer, to the model under the adapter or to `frozen`, see `think`) or,
    where neither is there, `kl_start`; `entropy` (nats a token), `length` (tokens without the end),
    `repetition`, `refusal` and `finished` (0 or 1), `formatting` (marks for 100 words), `held_out`.

    `kl_start` is the divergence the other way round, KL(start || policy), on the start's own answers: it
    needs the start's log-probabilities once and no second model. It sums (r - 1) - log r with r = policy /
    start over the tokens (k3 of Schulman 2020, joschu.net/blog/kl-approx.html), which is never below 0.
    """

    prompts: Sequence[WatchedPrompt]
    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]
    max_new_tokens: int
    seed: int = 0
    bf16: bool = False
    frozen: PreTrainedModel | None = None
    held_out: Score | None = None
    start: Look | None = None
    _first: list[Ids] = field(default_factory=list)
    _first_log_probs: list[tuple[float, ...]] = field(default_factory=list)

    def begin(self, model: PreTrainedModel) -> None:
        self.start = self.look(model)

    def look(self, model: PreTrainedModel) -> Look:
        ids, pad = [prompt.ids for prompt in self.prompts], int(self.tokenizer.pad_token_id)
        with at_rest(model, self.seed, self.bf16):
            answers = sample(model, ids, pad, self.ends, self.max_new_tokens)
            thoughts = think(model, ids, answers, pad, self.frozen)
            if not self._first:
                self._first, self._first_log_probs = answers, [thought.log_probs for thought in thoughts]
            values: dict[str, tuple[float | None, ...]] = {
                "entropy": tuple(thought.entropy for thought in thoughts)
            }
            if thoughts[0].kl is None:
                again = think(model, ids, self._first, pad)
                pairs = zip(self._first_log_probs, again, strict=True)
                values["kl_start"] = tuple(k3(first, now.log_probs) for first, now in pairs)
            else:
                values["kl"] = tuple(thought.kl for thought in thoughts)
            samples = tuple(map(self._read, self.prompts, answers))
            # Inside, since a judge in this process draws from the same random numbers.
            values |= _of_texts(samples) | {"length": tuple(map(self._length, answers))}
            if self.held_out is not None:
                values["held_out"] = tuple(self.held_out(samples))
        return Look(self._numbers(values, samples), values, samples)

    def _read(self, prompt: WatchedPrompt, answer: Ids) -> Sample:
        text = self.tokenizer.decode(list(answer), skip_special_tokens=True).strip()
        return Sample(prompt.messages, text, answer[-1] in self.ends, prompt.columns)

    def _length(self, answer: Ids) -> float:
        return len(answer) - (answer[-1] in self.ends)

    def _numbers(self, values: Values, samples: Sequence[Sample]) -> dict[str, float]:
        numbers = {name: mean for name, found in values.items() if (mean := mean_known(found)) is not None}
        at_start = self.start.numbers["length"] if self.start else numbers["length"]
        if at_start:
            numbers["length_ratio"] = numbers["length"] / at_start
        if "held_out" in values:
            numbers["held_out_scored"] = sum(score is not None for score in values["held_out"])
        return numbers | {"distinct_2": distinct(sample.completion for sample in samples)}


def _of_texts(samples: Sequence[Sample]) -> dict[str, tuple[float | None, ...]]:
    texts = [sample.completion for sample in samples]
    return {
        "repetition": tuple(map(repetition, texts)),
        "refusal": tuple(float(is_refusal(text)) for text in texts),
        "formatting": tuple(map(formatting_density, texts)),
        "finished": tuple(float(sample.finished) for sample in samples),
    }


@dataclass
class RewardWatcher:
    """Scores pairs with a reward model in training. Values of a pair: `reward_lead` (chosen - rejected) and
    `length_lead` (tokens), from which the alarms read whether reward follows length."""

    pairs: Sequence[tuple[Ids, Ids]]
    bf16: bool = False
    start: Look | None = None

    def begin(self, model: PreTrainedModel) -> None:
        self.start = self.look(model)

    def look(self, model: PreTrainedModel) -> Look:
        with at_rest(model, 0, self.bf16):
            rewards = [(_reward(model, chosen), _reward(model, rejected)) for chosen, rejected in self.pairs]
        leads = tuple(chosen - rejected for chosen, rejected in rewards)
        longer = tuple(float(len(chosen) - len(rejected)) for chosen, rejected in self.pairs)
        found = correlation(leads, longer)
        numbers = {} if found is None else {"reward_length_correlation": found}
        return Look(numbers, {"reward_lead": leads, "length_lead": longer})


def _reward(model: PreTrainedModel, ids: Ids) -> float:
    """Of one sequence alone, and so without padding."""
    import torch

    return float(model(torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0, 0])


def watched_pairs(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, count: int, max_length: int
) -> list[tuple[Ids, Ids]]:
    """Token ids of up to `count` pairs, in the order of their prompts' hashes."""
    chosen = sorted(rows, key=lambda row: row.prompt_hash)[:count]
    encoded = (encode(row, tokenizer).sequences for row in chosen)
    return [(first[:max_length], second[:max_length]) for first, second in encoded]


def make_watcher(
    config: StageConfig,
    stage: Stage,
    prepared: Prepared,
    frozen: PreTrainedModel | None,
    held_out: Score | None,
) -> Watcher | None:
    """The watcher of a stage, on held-out rows where there are any; None where nothing is watched."""
    rows, count = prepared.eval.rows or prepared.train.rows, config.watch_prompts
    bf16 = device_arguments(config)["bf16"]
    if not count:
        return None
    if stage.head == "reward":
        pairs = watched_pairs(rows, prepared.tokenizer, PAIRS_FOR_EACH_PROMPT * count, prepared.max_length)
        return RewardWatcher(pairs, bf16)
    most = min(config.watch_tokens, prepared.max_length // 2)
    prompts = watched_prompts(rows, prepared.tokenizer, count, prepared.max_length - most)
    if not prompts:
        return None
    ends = end_tokens(config.model, prepared.tokenizer)
    return PolicyWatcher(prompts, prepared.tokenizer, ends, most, config.seed, bf16, frozen, held_out)


# ------------------------------------------------------------------------------------------------- arithmetic


def k3(start: Sequence[float], now: Sequence[float]) -> float:
    """Sum over tokens of (r - 1) - log r, r = exp(now - start); both hold the tokens' log-probabilities."""
    return math.fsum(math.expm1(b - a) - (b - a) for a, b in zip(start, now, strict=True))


def correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Of differences within pairs: sum of products over the root of the sums of squares. Which side of a pair
    comes first does not matter, so nothing is taken off as a mean. None where one side never differs."""
    products = math.fsum(a * b for a, b in zip(left, right, strict=True))
    squares = math.fsum(a * a for a in left) * math.fsum(b * b for b in right)
    return products / math.sqrt(squares) if squares else None


def mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
