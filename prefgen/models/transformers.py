"""transformers in this process: the fallback for machines without vLLM.

Requests that arrive together run as one left-padded batch. The sampling loop is our own, because
`generate` draws a whole batch from one random generator: here each draw has a generator with the seed
`seed + sample`, so a sample does not depend on what else is in its batch (but for the rounding of
padded arithmetic). Of the model's generation config, temperature, top-p, top-k and the ends are obeyed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prefgen.completion import Capabilities, Completion, CompletionRequest, Reply
from prefgen.errors import (
    MissingExtraError,
    ModelUnavailableError,
    RequestRefusedError,
    UnsupportedParameterError,
    UsageError,
)
from prefgen.messages import Json
from prefgen.models.answers import cut_thinking
from prefgen.models.batching import Batcher
from prefgen.models.local import (
    ChatTokenizer,
    adapter_base,
    check_options,
    check_safetensors,
    find_folder,
    load_tokenizer,
    reason,
    sum_logprobs,
    weights_identity,
)

if TYPE_CHECKING:
    from torch import Tensor

_OPTIONS = ("dtype", "device", "batch_size", "batch_tokens", "use_safetensors")
_BATCH = {"batch_size": 64, "batch_tokens": 32_768}


@dataclass(slots=True)
class Loaded:
    """Weights ready to run. `context`: tokens the model takes at most; `batch_size`, `batch_tokens`: what a
    batch holds at most, see `prefgen.models.batching`."""

    model: Any
    tokenizer: Any
    spec: str
    identity: str
    device: str
    batch_size: int
    batch_tokens: int
    context: int


async def open_transformers(
    path: str, spec: str, options: Mapping[str, Json] | None = None
) -> TransformersModel:
    """Loads the weights. `options`: dtype (the model's own), device (cuda where there is one), batch_size (at
    most 64 requests), batch_tokens (at most 32,768 of prompts, answers and padding together),
    use_safetensors (true; false takes pickled weights too).

    Raises UsageError, MissingExtraError, ModelUnavailableError.
    """
    loaded = await asyncio.to_thread(load, path, spec, options or {}, "AutoModelForCausalLM")
    return TransformersModel(path, loaded)


def load(name: str, spec: str, options: Mapping[str, Json], auto: str, **settings: Any) -> Loaded:
    """A model through the class `auto` of transformers, with the adapter merged where `name` is one."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")
    import torch
    import transformers

    check_options(spec, options, _OPTIONS)
    folder = find_folder(name, spec)
    base = adapter_base(folder)
    safe = options.get("use_safetensors", True) is not False
    if safe:
        check_safetensors(folder, spec)
    device = str(options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = options.get("dtype", "auto")
    try:
        with _without_progress():
            model, found = getattr(transformers, auto).from_pretrained(
                base or folder or name,
                dtype=dtype,
                output_loading_info=True,
                use_safetensors=True if safe else None,
                trust_remote_code=False,
                **settings,
            )
            if base is not None:
                model = _merged(model, str(folder))
            model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelUnavailableError(f"{spec}: transformers cannot load it: {reason(error, name)}") from error
    if found["missing_keys"] and base is None:
        raise UsageError(f"{spec}: its files lack weights: {', '.join(sorted(found['missing_keys'])[:5])}")
    tokenizer = load_tokenizer(str(folder) if _has_tokenizer(folder) else base or name, spec)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
    identity = f"transformers:{weights_identity(name, folder)}"
    rows, tokens = (_batch_limit(spec, options, name) for name in _BATCH)
    return Loaded(model, tokenizer, spec, identity, device, rows, tokens, context)


def _batch_limit(spec: str, options: Mapping[str, Json], name: str) -> int:
    limit = options.get(name, _BATCH[name])
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        kind = "requests" if name == "batch_size" else "tokens"
        raise UsageError(f"{spec}: {name} is a number of {kind}, at least 1, not {limit!r}")
    return limit


def _has_tokenizer(folder: Any) -> bool:
    return folder is not None and (folder / "tokenizer_config.json").is_file()


def _merged(model: Any, adapter: str) -> Any:
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("peft", "train")
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter).merge_and_unload()


@contextmanager
def _without_progress() -> Iterator[None]:
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@dataclass(slots=True)
class _Draw:
    """One text to write, and what was written so far. `choices`: token sequences, one of which it
    must be. `first`: log-probabilities of `labels` before the first token."""

    prompt: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    generator: Any
    choices: list[list[int]]
    labels: list[int]
    tokens: list[int] = field(default_factory=list)
    first: dict[int, float] = field(default_factory=dict)
    ended: bool = False

    def step(self, logits: Tensor, ends: list[int]) -> int:
        """Takes the next token from logits over the vocabulary, and returns it."""
        if not self.tokens and self.labels:
            logprobs = logits.log_softmax(-1)
            self.first = {token: float(logprobs[token]) for token in self.labels}
        token = self._sample(self._allowed(logits, ends))
        if token not in ends:
            self.tokens.append(token)
        self.ended = token in ends or self.tokens in self.choices
        return token

    @property
    def done(self) -> bool:
        return self.ended or len(self.tokens) >= self.max_tokens

    def _allowed(self, logits: Tensor, ends: list[int]) -> Tensor:
        if not self.choices:
            return logits
        at = len(self.tokens)
        following = [choice[at] for choice in self.choices if choice[:at] == self.tokens and len(choice) > at]
        masked = logits.new_full(logits.shape, float("-inf"))
        masked[following] = logits[following]
        return masked

    def _sample(self, logits: Tensor) -> int:
        import torch

        if self.temperature == 0:
            return int(logits.argmax())
        ordered, order = (logits / self.temperature).softmax(-1).sort(descending=True)
        keep = ordered.cumsum(-1) - ordered < self.top_p
        if self.top_k > 0:
            keep[self.top_k :] = False
        return int(order[torch.multinomial(ordered * keep, 1, generator=self.generator)])


class TransformersModel:
    """A `Model` on transformers."""

    def __init__(self, name: str, loaded: Loaded) -> None:
        self.spec, self.identity = loaded.spec, loaded.identity
        self.capabilities = Capabilities(temperature=True, top_p=True, logprobs=True, n=True, seed=True)
        self._name, self._loaded = name, loaded
        self._chat = ChatTokenizer(loaded.tokenizer, loaded.spec, self.capabilities)
        self._ends = _ends(loaded)
        self._batcher = Batcher(
            self._write,
            lambda draw: (draw.max_tokens, len(draw.prompt)),
            loaded.batch_size,
            loaded.batch_tokens,
        )
        forward = inspect.signature(loaded.model.forward).parameters
        # The logits of a whole prompt can take more memory than the model.
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in forward else {}

    async def complete(self, request: CompletionRequest) -> Reply:
        if request.schema is not None and not self.capabilities.lacks("structured_output"):
            words = "transformers has no JSON grammar; for structured output use vllm/"
            raise UnsupportedParameterError("structured_output", f"{self.spec}: {words}")
        free = not (request.label_words or request.choices)
        prompt, opened = self._chat.prompt(request.messages, thinking=free)
        room = self._loaded.context - 1
        if len(prompt) > room:
            raise RequestRefusedError(
                f"{self.spec}: the prompt has {len(prompt)} tokens, the model takes {room}"
            )
        labels = self._chat.label_ids(request.label_words)
        async with asyncio.TaskGroup() as group:
            draws = [self._draw(request, sample, prompt, labels) for sample in request.samples]
            tasks = [group.create_task(self._batcher.submit(draw)) for draw in draws]
        completions = [self._read(task.result(), labels, opened) for task in tasks]
        counted = replace(completions[0], input_tokens=len(prompt))
        return Reply((counted, *(replace(other, input_tokens=0) for other in completions[1:])), self._name)

    async def aclose(self) -> None:
        await self._batcher.aclose()

    def _draw(
        self, request: CompletionRequest, sample: int, prompt: list[int], labels: dict[str, list[int]]
    ) -> _Draw:
        import torch

        sampling, own = request.sampling, self._loaded.model.generation_config
        generator = torch.Generator()
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed + sample)
        encode = self._loaded.tokenizer
        return _Draw(
            prompt,
            min(sampling.max_tokens, self._loaded.context - len(prompt)),
            _first_given(sampling.temperature, own.temperature, 1.0),
            _first_given(sampling.top_p, own.top_p, 1.0),
            own.top_k or 0,
            generator,
            [encode(choice, add_special_tokens=False)["input_ids"] for choice in request.choices],
            sorted({token for ids in labels.values() for token in ids}),
        )

    def _read(self, draw: _Draw, labels: dict[str, list[int]], opened: bool) -> Completion:
        written = self._loaded.tokenizer.decode(draw.tokens, skip_special_tokens=True)
        text = cut_thinking(written, opened)
        if text != written:
            self.capabilities.reasoning = True
        logprobs = sum_logprobs(draw.first, labels) if labels and text == written else None
        return Completion(text, "stop" if draw.ended else "length", logprobs, output_tokens=len(draw.tokens))

    def _write(self, draws: list[_Draw]) -> list[_Draw]:
        """Runs in the worker thread: all draws to their ends, those that are done left out by halves."""
        import torch

        width = max(len(draw.prompt) for draw in draws)
        pad = self._ends[0] if self._ends else 0
        rows = [[pad] * (width - len(draw.prompt)) + draw.prompt for draw in draws]
        device = self._loaded.device
        ids = torch.tensor(rows, device=device)
        mask = torch.tensor(
            [[0] * (width - len(d.prompt)) + [1] * len(d.prompt) for d in draws], device=device
        )
        cache, going = None, draws
        with torch.inference_mode():
            while not all(draw.done for draw in going):
                positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
                output = self._loaded.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    **self._last_only,
                )
                cache, logits = output.past_key_values, output.logits[:, -1].float().cpu()
                taken = [
                    pad if d.done else d.step(row, self._ends) for d, row in zip(going, logits, strict=True)
                ]
                ids = torch.tensor(taken, device=device).unsqueeze(-1)
                mask = torch.cat([mask, mask.new_ones(len(going), 1)], dim=-1)
                left = [row for row, draw in enumerate(going) if not draw.done]
                if 0 < len(left) <= len(going) // 2:
                    rows = torch.tensor(left, device=device)
                    cache.batch_select_indices(rows)
                    ids, mask, going = ids[rows], mask[rows], [going[row] for row in left]
        return draws


def _ends(loaded: Loaded) -> list[int]:
    own = loaded.model.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [own]
    return sorted({token for token in (*ends, loaded.tokenizer.eos_token_id) if token is not None})


def _first_given(*values: float | None) -> float:
    return next(float(value) for value in values if value is not None)
