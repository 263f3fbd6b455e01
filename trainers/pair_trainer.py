"""TRL's trainer for pairs, with a loss, a layout of the batch and reference log-probabilities of our own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from trl import DPOTrainer
from trl.trainer.utils import use_adapter

from prefgen.errors import GateError
from prefgen.messages import Json
from trainers import shared_prompt
from trainers.length_groups import LengthGroups
from trainers.pairs import Batch, Objective, score
from trainers.reference_cache import ReferenceCache, cache_key
from trainers.shared_prompt import Example

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from trl import DPOConfig

IDS = ["prompt_ids", "chosen_ids", "rejected_ids"]
COLUMNS = ("ref_chosen_logps", "ref_rejected_logps", "confidence")
Collate = Callable[[Sequence[Mapping[str, Any]]], dict[str, "Tensor"]]


@dataclass(frozen=True)
class Reference:
    """`model`: hash of the starting model's weights and what else changes its numbers, as its precision."""

    cache: ReferenceCache
    model: Mapping[str, Json]


class PairTrainer(DPOTrainer):  # type: ignore[misc]  # TRL is untyped here
    """`reference`: None for a loss without one; `score_prompt`: whether the loss needs the prompt's tokens.

    After construction `layout` says how pairs are laid out and why, `reference_counts` how many reference
    log-probabilities were on disk and how many were computed.
    """

    def __init__(
        self,
        objective: Objective,
        reference: Reference | None,
        args: DPOConfig,
        *,
        share_prompt: bool,
        group_by_length: bool,
        score_prompt: bool = False,
        **parts: Any,
    ) -> None:
        self.objective, self.reference = objective, reference
        self.group_by_length, self.score_prompt = group_by_length, score_prompt
        self.share_prompt = share_prompt
        self.layout = ""
        self._sums: dict[tuple[str, str], tuple[float, float]] = {}
        self.reference_counts = {"cached": 0, "computed": 0}
        # Told so, TRL keeps no reference model and calls `_precompute_ref_logps` before training.
        args.precompute_ref_log_probs = True
        super().__init__(args=args, **parts)

    # ---------------------------------------------------------------------------------------------- batches

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [*IDS, *COLUMNS]

    def _choose_layout(self, example: Mapping[str, Any]) -> None:
        """Shared rows where they are wanted and give the numbers that rows of their own give."""
        padded: Collate = self.data_collator  # type: ignore[has-type]
        shared = self._collate_shared
        start = self._start()
        plain = start.get_base_model() if hasattr(start, "peft_config") else start
        why = shared_prompt.obstacle(plain) if self.share_prompt else "as told"
        why = why or self._difference(padded([example]), shared([example]))
        self.layout = f"a row a response, as TRL does: {why}" if why else "a row a pair"
        self.data_collator = _with_columns(padded if why else shared)

    def _collate_shared(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        return shared_prompt.shared_rows(examples, self.processing_class.pad_token_id, self.args.max_length)

    def _difference(self, padded: Batch, shared: Batch) -> str | None:
        """A model that ignores mask or positions gives itself away in its numbers."""
        one, other = self._start_log_probs(padded), self._start_log_probs(shared)
        rounding = 3e-2 if self.args.bf16 or self.model.dtype == torch.bfloat16 else 1e-3
        if bool(((one - other).abs() <= rounding * one.abs().clamp(min=1)).all()):
            return None
        return f"in a shared row this model gives {other.tolist()} instead of {one.tolist()}"

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if not self.group_by_length:
            return super()._get_train_sampler(train_dataset)
        lengths = [sum(map(len, ids)) for ids in zip(*map(self.train_dataset.__getitem__, IDS), strict=True)]
        return LengthGroups(lengths, self.args.train_batch_size, self.args.seed)

    # -------------------------------------------------------------------------------------------- reference

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """TRL's hook, called for each data set once the model stands and before it is trained."""
        if not self.layout:
            self._choose_layout(dataset[0])
        if self.reference is None:
            return dataset
        # The first process computes what is missing, the others find it on disk.
        with self.accelerator.main_process_first():
            values = self._look_up(self.reference, list(dataset.select_columns(IDS)), batch_size)
        for column, side in zip(COLUMNS, zip(*values, strict=True), strict=False):
            dataset = dataset.add_column(column, list(side))
        return dataset

    def _look_up(
        self, reference: Reference, examples: Sequence[Example], batch_size: int
    ) -> list[tuple[float, float]]:
        """(chosen, rejected) of each pair, those that are not on disk computed, the longest first."""
        cache, keys = reference.cache, [self._keys(reference, example) for example in examples]
        known = cache.get([key for pair in keys for key in pair])
        missing = [index for index, pair in enumerate(keys) if not known.keys() >= set(pair)]
        missing.sort(key=lambda index: -sum(map(len, examples[index].values())))
        for start in range(0, len(missing), batch_size):
            some = missing[start : start + batch_size]
            values = self._start_log_probs(self.data_collator([examples[index] for index in some]))
            if not bool(values.isfinite().all()):
                raise GateError("the starting model gives log-probabilities that are not finite; use float32")
            cache.put(dict(zip((key for index in some for key in keys[index]), values.tolist(), strict=True)))
        self.reference_counts["computed"] += 2 * len(missing)
        self.reference_counts["cached"] += 2 * (len(keys) - len(missing))
        # What is on disk counts: another process may have stored a number first.
        known |= cache.get([key for index in missing for key in keys[index]])
        return [(known[chosen], known[rejected]) for chosen, rejected in keys]

    def _keys(self, reference: Reference, example: Example) -> tuple[bytes, bytes]:
        prompt, chosen, rejected = (example[name] for name in IDS)
        room = self.args.max_length - len(prompt)
        model = {**reference.model, "layout": self.layout.partition(":")[0]}
        return cache_key(model, prompt, chosen[:room]), cache_key(model, prompt, rejected[:room])

    def _start(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    def _start_log_probs(self, batch: Batch) -> Tensor:
        """Under the model before training, adapter off: of chosen and rejected of each pair in turn."""
        model = self._start().eval()
        without = use_adapter(model, None) if hasattr(model, "peft_config") else contextlib.nullcontext()
        batch = {name: values.to(model.device) for name, values in batch.items()}
        with torch.no_grad(), without, self.accelerator.autocast():
            pairs = score(model, batch, prompt=False).pairs(batch)
        return torch.stack([pairs.chosen.log_probs, pairs.rejected.log_probs], dim=1).flatten().cpu()

    # ------------------------------------------------------------------------------------------------- loss

    def _compute_loss(self, model: Any, inputs: Batch, return_outputs: bool) -> Tensor:
        assert not return_outputs, "logits are not kept"
        tokens = score(model, inputs, prompt=self.score_prompt, router=self.aux_loss_enabled)
        loss, logged = self.objective(tokens.pairs(inputs))
        if tokens.aux_loss is not None:
            loss = loss + self.router_aux_loss_coef * tokens.aux_loss
            logged = {**logged, "aux_loss": tokens.aux_loss}
        means = {name: (value.sum(), torch.tensor(value.numel())) for name, value in logged.items()}
        self._record("train" if self.model.training else "eval", means | tokens.metrics(), tokens.n_tokens)
        return loss

    def _record(self, mode: str, means: Mapping[str, tuple[Tensor, Tensor]], n_tokens: Tensor) -> None:
        """Sums and counts over all processes, as the means that TRL averages between two logs."""
        device = n_tokens.device
        rows = [torch.stack([part.detach().to(device).float() for part in mean]) for mean in means.values()]
        rows.append(torch.stack([n_tokens.float(), n_tokens.float()]))
        totals, counts = self.accelerator.reduce(torch.stack(rows), reduction="sum").T.tolist()
        for name, total, count in zip(means, totals[:-1], counts[:-1], strict=True):
            # TRL takes the mean over batches, in which the rows of a smaller last batch would count more.
            before = self._sums[mode, name] if self._metrics[mode][name] else (0.0, 0.0)
            self._sums[mode, name] = total, count = before[0] + total, before[1] + count
            self._metrics[mode][name] = [total / count if count else 0.0]
        if mode == "train":
            self._total_train_tokens += int(totals[-1])
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]


def _with_columns(collate: Collate) -> Collate:
    """A collator that passes on the numbers of a pair beside its tokens."""

    def both(examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        numbers = {
            name: torch.tensor([example[name] for example in examples])
            for name in COLUMNS
            if name in examples[0]
        }
        return {**collate(examples), **numbers}

    return both
