"""vLLM in this process: one engine a model, many requests at once.

Draws: vLLM gives child i of a request the seed `seed + i`, so a sample is the same text whether it is
asked for alone or among others. Log-probabilities are those of the model's own distribution: before
temperature and top-p, and before any constraint (vLLM masks the logits of a constrained request before
it takes the logarithms, so such a request gets an unconstrained one beside it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prefgen.completion import Capabilities, Completion, CompletionRequest, FinishReason, Reply
from prefgen.messages import Json
from prefgen.models.answers import cut_thinking
from prefgen.models.local import ChatTokenizer, load_tokenizer, pick, sum_logprobs
from prefgen.models.vllm_engine import LocalEngine, start

_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


async def open_vllm(
    path: str, spec: str, options: Mapping[str, Json] | None = None, share: int = 1
) -> VLLMModel:
    """Starts the engine, about 15 s. `options`: vLLM's engine arguments. `share`: how many engines this
    process will hold, so that they divide a GPU.

    Raises UsageError, MissingExtraError, ModelUnavailableError.
    """
    engine = await start(path, spec, options, share, runner="generate")
    try:
        named = engine.llm.model_config
        tokenizer = await asyncio.to_thread(load_tokenizer, named.tokenizer, spec)
    except BaseException:
        await engine.aclose()
        raise
    return VLLMModel(path, engine, tokenizer)


class VLLMModel:
    """A `Model` on a running engine."""

    def __init__(self, name: str, engine: LocalEngine, tokenizer: Any) -> None:
        self.spec, self.identity = engine.spec, f"vllm:{engine.identity}"
        self.capabilities = Capabilities(
            temperature=True, top_p=True, logprobs=True, n=True, seed=True, structured_output=True
        )
        self._name, self._engine = name, engine
        self._chat = ChatTokenizer(tokenizer, engine.spec, self.capabilities)
        # A temperature that a request leaves open is the one in the model's generation config.
        self._defaults: dict[str, Any] = engine.llm.model_config.get_diff_sampling_param()

    async def complete(self, request: CompletionRequest) -> Reply:
        async with self._engine.errors():
            free = not (request.label_words or request.choices or request.schema)
            prompt, opened = self._chat.prompt(request.messages, thinking=free)
            self._engine.check_length(len(prompt), reserve=1)
            words = self._choice_tokens(request)
            if words is not None:
                completions = await self._choose(request, prompt, words)
            else:
                completions = await self._write(request, prompt, opened)
        first, *rest = completions
        counted = replace(first, input_tokens=len(prompt))
        others = (replace(other, input_tokens=0, cached_tokens=None) for other in rest)
        return Reply((counted, *others), self._name)

    @property
    def prefix_cache_hit_rate(self) -> float | None:
        """Share of the prompt tokens read from the prefix cache; None before the first request."""
        return self._engine.cache.hit_rate

    async def reload(self, path: str, spec: str) -> None:
        """Other weights in the running engine: see `prefgen.models.reloading.Reloadable`."""
        await self._engine.reload(path, spec)
        self.spec, self.identity, self._name = spec, f"vllm:{self._engine.identity}", path

    async def aclose(self) -> None:
        await self._engine.aclose()

    def _choice_tokens(self, request: CompletionRequest) -> dict[str, int] | None:
        """The token of each choice, where one token decides: then no grammar is needed."""
        top_p = request.sampling.top_p or 1.0
        tokens = {choice: self._chat.token_of(choice) for choice in request.choices}
        found = {choice: token for choice, token in tokens.items() if token is not None}
        return found if found and len(found) == len(tokens) and top_p >= 1.0 else None

    async def _choose(
        self, request: CompletionRequest, prompt: list[int], words: dict[str, int]
    ) -> list[Completion]:
        """One pass over the prompt; each draw is among the choices by their probabilities."""
        labels = self._chat.label_ids(request.label_words)
        tokens = sorted({*words.values(), *(token for ids in labels.values() for token in ids)})
        output = await self._generate(prompt, max_tokens=1, logprob_token_ids=tokens, temperature=0.0)
        logprobs = {token: found.logprob for token, found in output.outputs[0].logprobs[0].items()}
        among = {word: logprobs[token] for word, token in words.items()}
        temperature = self._temperature(request)
        return [
            Completion(
                pick(among, temperature, _seed(request, sample)),
                label_logprobs=sum_logprobs(logprobs, labels) or None,
                output_tokens=1,
                cached_tokens=output.num_cached_tokens,
            )
            for sample in request.samples
        ]

    async def _write(self, request: CompletionRequest, prompt: list[int], opened: bool) -> list[Completion]:
        labels = self._chat.label_ids(request.label_words)
        constrained = bool(request.choices) or request.schema is not None
        logprobs: dict[str, float] | None = None
        if labels and constrained:
            logprobs = await self._first_logprobs(prompt, labels)
        params = self._params(request, None if constrained else labels)
        if _contiguous(request.samples):
            groups = [(request.samples[0], len(request.samples))]
        else:
            groups = [(sample, 1) for sample in request.samples]
        outputs = await _together(
            self._generate(prompt, n=n, seed=_seed(request, sample), **params) for sample, n in groups
        )
        return [
            self._read(draw, output, labels, logprobs, opened)
            for output in outputs
            for draw in output.outputs
        ]

    def _read(
        self,
        draw: Any,
        output: Any,
        labels: dict[str, list[int]],
        logprobs: dict[str, float] | None,
        opened: bool,
    ) -> Completion:
        text = cut_thinking(draw.text, opened)
        if text != draw.text:
            self.capabilities.reasoning = True
        elif labels and logprobs is None and draw.logprobs:
            found = {token: entry.logprob for token, entry in draw.logprobs[0].items()}
            logprobs = sum_logprobs(found, labels)
        return Completion(
            text,
            _FINISH.get(draw.finish_reason, "other"),
            logprobs,
            output_tokens=len(draw.token_ids),
            # Of several draws vLLM tells the last one's, which finds what the first has put there.
            cached_tokens=output.num_cached_tokens if len(output.outputs) == 1 else None,
        )

    async def _first_logprobs(self, prompt: list[int], labels: dict[str, list[int]]) -> dict[str, float]:
        tokens = sorted({token for ids in labels.values() for token in ids})
        output = await self._generate(prompt, max_tokens=1, logprob_token_ids=tokens, temperature=0.0)
        found = {token: entry.logprob for token, entry in output.outputs[0].logprobs[0].items()}
        return sum_logprobs(found, labels)

    def _params(self, request: CompletionRequest, labels: dict[str, list[int]] | None) -> dict[str, Any]:
        from vllm.sampling_params import StructuredOutputsParams

        sampling = request.sampling
        params: dict[str, Any] = {**self._defaults, "max_tokens": sampling.max_tokens}
        if sampling.temperature is not None:
            params["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            params["top_p"] = sampling.top_p
        if labels:
            params["logprob_token_ids"] = sorted({token for ids in labels.values() for token in ids})
        if request.choices:
            params["structured_outputs"] = StructuredOutputsParams(choice=list(request.choices))
        elif request.schema is not None:
            params["structured_outputs"] = StructuredOutputsParams(json=dict(request.schema))
        return params

    def _temperature(self, request: CompletionRequest) -> float:
        given = request.sampling.temperature
        return float(self._defaults.get("temperature", 1.0)) if given is None else given

    async def _generate(self, prompt: list[int], **params: Any) -> Any:
        """vLLM's output of one prompt. Cancelling the task aborts the request in the engine."""
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        sampling = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **params)
        engine = self._engine
        last = None
        async for output in engine.llm.generate(
            TokensPrompt(prompt_token_ids=prompt), sampling, engine.request_id(), lora_request=engine.lora
        ):
            last = output
        return last


def _seed(request: CompletionRequest, sample: int) -> int | None:
    seed = request.sampling.seed
    return None if seed is None else seed + sample


def _contiguous(samples: tuple[int, ...]) -> bool:
    return samples == tuple(range(samples[0], samples[0] + len(samples)))


async def _together(calls: Any) -> list[Any]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
