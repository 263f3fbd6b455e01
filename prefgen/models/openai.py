"""OpenAI's chat completions, and every server that speaks them (vLLM, llama.cpp, Ollama, gateways)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from prefgen.completion import (
    Capabilities,
    Completion,
    CompletionRequest,
    FinishReason,
    Reply,
    without_system,
)
from prefgen.errors import RequestRefusedError, UnsupportedParameterError
from prefgen.messages import as_dicts
from prefgen.models.answers import answer_text, choice_schema
from prefgen.models.http import Endpoint, each, find_key, open_http, parse_body, tls_of
from prefgen.models.prefixes import Prefixes, prefix_key

DEFAULT_URL = "https://api.openai.com/v1"
TOP_LOGPROBS = 20
# Token texts of one word differ by the space or quote before it; ▁ and Ġ are undecoded spaces.
_AROUND = " \t\r\n▁Ġ\"'`“”‘’"
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "refusal"}


class OpenAIModel:
    """A chat model at OpenAI, or at `base_url`. Raises ModelUnavailableError where there is no key.

    `OPENAI_BASE_URL` stands in for a missing `base_url`, and is then part of `identity`.
    """

    def __init__(self, name: str, spec: str, base_url: str | None = None, api_key: str | None = None) -> None:
        self.name, self.spec = name, spec
        url = base_url or os.environ.get("OPENAI_BASE_URL")
        self.identity = spec if base_url or not url else f"{spec}@{url}"
        self.capabilities = Capabilities()
        self._official = is_official(url or DEFAULT_URL)
        self._limit = "max_completion_tokens" if self._official else "max_tokens"
        self._prefixes = Prefixes()
        self.endpoint = open_endpoint(name, spec, url, api_key)

    async def complete(self, request: CompletionRequest) -> Reply:
        """One call for a run of indices, else one a sample; see `prefgen.models.http` for what it raises."""
        samples = request.samples
        in_a_row = samples == tuple(range(samples[0], samples[0] + len(samples)))
        if len(samples) == 1 or (in_a_row and not self.capabilities.lacks("n")):
            return await self._draw(request, samples)
        return await each(self._draw(request, (sample,)) for sample in samples)

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    def payload(
        self, request: CompletionRequest, samples: tuple[int, ...], cache_key: str | None = None
    ) -> dict[str, object]:
        """The JSON of one call, as far as the model's capabilities are known."""
        return build_payload(
            self.name,
            request,
            samples,
            self.capabilities,
            official=self._official,
            limit=self._limit,
            cache_key=cache_key,
        )

    def read(self, body: bytes, request: CompletionRequest, samples: tuple[int, ...]) -> Reply:
        """The answer to one call, and what it tells of the model. Raises UnsupportedParameterError where it
        holds too few draws, else as `parse_response`."""
        reply = parse_response(body, request)
        if len(reply.completions) < len(samples):
            # Servers that do not know `n` ignore it.
            words = f"{self.spec}: asked for {len(samples)} draws, got {len(reply.completions)}"
            raise UnsupportedParameterError("n", words)
        if request.label_words and not self.capabilities.lacks("logprobs"):
            self._learn_logprobs(reply)
        if len(reply.completions) > len(samples):
            return replace(reply, completions=reply.completions[: len(samples)])
        return reply

    async def _draw(self, request: CompletionRequest, samples: tuple[int, ...]) -> Reply:
        # Other servers' caches need no key, and hold a beginning as soon as it is being read.
        marks = self._prefixes.worth(request, len(samples)) if self._official else ()
        payload = self.payload(request, samples, prefix_key(request, marks[-1]).hex()[:32] if marks else None)
        async with self._prefixes.turn(request, marks):
            return self.read(await self._send(payload), request, samples)

    async def _send(self, payload: dict[str, object]) -> bytes:
        try:
            return await self.endpoint.post("/chat/completions", payload)
        except RequestRefusedError as error:
            if "max_tokens" not in payload or "max_completion_tokens" not in str(error):
                raise
        self._limit = "max_completion_tokens"
        payload[self._limit] = payload.pop("max_tokens")
        return await self.endpoint.post("/chat/completions", payload)

    def _learn_logprobs(self, reply: Reply) -> None:
        if any(completion.label_logprobs is not None for completion in reply.completions):
            self.capabilities.logprobs = True
        elif any(completion.text for completion in reply.completions):
            self.capabilities.learn_missing("logprobs", f"{self.spec}: asked for, and none came back")


def open_endpoint(name: str, spec: str, url: str | None, api_key: str | None) -> Endpoint:
    import openai

    key = find_key("OPENAI_API_KEY", api_key, url, spec)
    url = url or DEFAULT_URL
    tls = tls_of(url)
    client = openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=0, http_client=open_http(tls))
    return Endpoint(spec, name, url, "OPENAI_API_KEY", key, openai, client, tls)


def is_official(url: str) -> bool:
    """OpenAI's own service: newer parameter names there, extensions elsewhere."""
    host = urlsplit(url).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def build_payload(
    name: str,
    request: CompletionRequest,
    samples: tuple[int, ...],
    capabilities: Capabilities,
    *,
    official: bool = False,
    limit: str = "max_tokens",
    cache_key: str | None = None,
) -> dict[str, object]:
    """The JSON to send; what the model is known to lack is left out.

    The one seed sent, `seed + samples[0]`, governs all draws of the call (vLLM gives draw i seed + i).
    `limit`: the name the token limit goes by. `cache_key`: the same for calls that begin alike, which go to
    one of the provider's machines.
    """
    sampling, lacks = request.sampling, capabilities.lacks
    messages = without_system(request.messages) if lacks("system_role") else request.messages
    optional: dict[str, object] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": None if sampling.seed is None else sampling.seed + samples[0],
        "n": len(samples) if len(samples) > 1 else None,
    }
    payload: dict[str, object] = {"model": name, "messages": as_dicts(messages), limit: sampling.max_tokens}
    payload |= {key: value for key, value in optional.items() if value is not None and not lacks(key)}
    if cache_key is not None and not lacks("prompt_cache"):
        payload["prompt_cache_key"] = cache_key
    if request.label_words and not lacks("logprobs"):
        payload |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if not lacks("structured_output"):
        payload |= _structure(request, official)
    return payload


def _structure(request: CompletionRequest, official: bool) -> dict[str, object]:
    if request.choices and not official:
        # A plain word, with its log-probabilities on the first token, is worth the extension.
        return {"structured_outputs": {"choice": list(request.choices)}}
    schema = choice_schema(request.choices) if request.choices else request.schema
    if schema is None:
        return {}
    form = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


class _TopToken(BaseModel):
    token: str
    logprob: float


class _Token(_TopToken):
    top_logprobs: list[_TopToken] = []


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning: object = None
    reasoning_content: object = None


class _Choice(BaseModel):
    index: int = 0
    finish_reason: str | None = None
    message: _Message
    logprobs: _Logprobs | None = None


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Body(BaseModel):
    model: str = ""
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def parse_response(body: bytes, request: CompletionRequest) -> Reply:
    """Every choice of an answer, in order. Raises TransientError if the body is not one.

    Input and cached tokens stand on the first draw. The provider counts output tokens over all draws:
    each gets an even share, so that the sum is right.
    """
    answer = parse_body(_Body, body)
    choices, usage = sorted(answer.choices, key=lambda choice: choice.index), answer.usage or _Usage()
    details = usage.prompt_tokens_details or _PromptDetails()
    shares = _shares(usage.completion_tokens, len(choices))
    read = (usage.prompt_tokens, details.cached_tokens, details.cache_write_tokens)
    nothing = (None if usage.prompt_tokens is None else 0, None, None)
    completions = [
        _completion(choice, request, share, nothing if index else read)
        for index, (choice, share) in enumerate(zip(choices, shares, strict=True))
    ]
    return Reply(tuple(completions), answer.model)


def _shares(total: int | None, draws: int) -> list[int | None]:
    if total is None:
        return [None] * draws
    return [total // draws + (position < total % draws) for position in range(draws)]


def _completion(
    choice: _Choice,
    request: CompletionRequest,
    written: int | None,
    read: tuple[int | None, int | None, int | None],
) -> Completion:
    """`read`: the tokens of the input, those of them from the cache, and those put into it."""
    message = choice.message
    tokens = (read[0], written, *read[1:])
    if message.refusal:
        return Completion(message.refusal, "refusal", None, *tokens)
    raw = message.content or ""
    text = answer_text(raw, request.choices)
    logprobs = None
    if request.label_words and choice.logprobs and choice.logprobs.content:
        thought = bool(message.reasoning or message.reasoning_content) or text != raw
        logprobs = label_logprobs(choice.logprobs.content, text, thought, request.label_words)
    finish = _FINISH.get(choice.finish_reason or "", "other")
    if finish == "length" and _is_whole(text, request.choices):
        finish = "stop"
    return Completion(text, finish, logprobs, *tokens)


def _is_whole(text: str, choices: tuple[str, ...]) -> bool:
    """A choice that fits the token limit exactly is reported as cut; it is not, unless another goes on."""
    return text in choices and not any(other != text and other.startswith(text) for other in choices)


def label_logprobs(
    tokens: Sequence[_Token], text: str, thought: bool, words: Iterable[str]
) -> dict[str, float]:
    """Natural log-probability of each word as the first token of `text` that is more than space or quotes.

    Variants (" A", "(A", '"A') are summed; a word outside the list returned is absent. `thought`: the
    tokens hold more than the answer, which is then at their end.
    """
    start = _start("".join(token.token for token in tokens), text, thought)
    end = 0
    for token in tokens:
        end += len(token.token)
        if end > start >= 0 and _bare(token.token):
            return _sum_variants(token, words)
    return {}


def _start(joined: str, text: str, thought: bool) -> int:
    """Where the answer begins in the text of all tokens; -1: nowhere."""
    if not thought:
        return 0
    return joined.rfind(text) if text else -1


def _sum_variants(token: _Token, words: Iterable[str]) -> dict[str, float]:
    # -9999 is how OpenAI and vLLM write a probability of nought.
    seen = {top.token: top.logprob for top in (token, *token.top_logprobs) if top.logprob > -9999}
    sums = {}
    for word in words:
        variants = [logprob for text, logprob in seen.items() if _bare(text) == word]
        if variants:
            most = max(variants)
            sums[word] = min(0.0, most + math.log(sum(math.exp(each - most) for each in variants)))
    return sums


def _bare(token: str) -> str:
    return token.strip(_AROUND).removeprefix("(").strip(_AROUND)
