"""Anthropic's messages, and servers that speak them (vLLM does)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

from pydantic import BaseModel

from prefgen.completion import (
    Capabilities,
    Completion,
    CompletionRequest,
    FinishReason,
    Reply,
    Shared,
    without_system,
)
from prefgen.errors import RequestRefusedError, UnsupportedParameterError
from prefgen.messages import Message
from prefgen.models.answers import answer_text, choice_schema
from prefgen.models.http import Endpoint, each, find_key, open_http, parse_body, tls_of
from prefgen.models.prefixes import Prefixes

DEFAULT_URL = "https://api.anthropic.com"
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicModel:
    """A chat model at Anthropic, or at `base_url` (without `/v1`). Raises ModelUnavailableError where there
    is no key. `ANTHROPIC_BASE_URL` stands in for a missing `base_url`, and is then part of `identity`."""

    def __init__(self, name: str, spec: str, base_url: str | None = None, api_key: str | None = None) -> None:
        import anthropic

        self.name, self.spec = name, spec
        url = base_url or os.environ.get("ANTHROPIC_BASE_URL")
        self.identity = spec if base_url or not url else f"{spec}@{url}"
        # The messages API takes none of these: draws differ by chance alone.
        self.capabilities = Capabilities(temperature=False, top_p=False, logprobs=False, n=False, seed=False)
        key = find_key("ANTHROPIC_API_KEY", api_key, url, spec)
        # The SDK adds /v1 itself; a URL pasted from an OpenAI-style server has it already.
        url = (url or DEFAULT_URL).rstrip("/").removesuffix("/v1")
        tls = tls_of(url)
        client = anthropic.AsyncAnthropic(
            api_key=key, base_url=url, max_retries=0, http_client=open_http(tls)
        )
        self._prefixes = Prefixes()
        self.endpoint = Endpoint(
            spec, name, url, "ANTHROPIC_API_KEY", key, anthropic, client, tls, models_path="/v1/models"
        )

    async def complete(self, request: CompletionRequest) -> Reply:
        """One call a sample, all at once; see `prefgen.models.http` for what it raises."""
        return await each(self._draw(request, sample) for sample in request.samples)

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    def payload(self, request: CompletionRequest, samples: tuple[int, ...]) -> dict[str, object]:
        """The JSON of one call, as far as the model's capabilities are known."""
        return build_payload(self.name, request, samples, self.capabilities)

    def read(self, body: bytes, request: CompletionRequest, samples: tuple[int, ...]) -> Reply:
        """The answer to one call; raises as `parse_response`."""
        return parse_response(body, request)

    async def _draw(self, request: CompletionRequest, sample: int) -> Reply:
        # Without a system role the marks would name other messages.
        plain = self.capabilities.lacks("prompt_cache") or self.capabilities.lacks("system_role")
        marks = () if plain else self._prefixes.worth(request)
        payload = build_payload(self.name, request, (sample,), self.capabilities, marks)
        async with self._prefixes.turn(request, marks):
            reply = self.read(await self._send(payload), request, (sample,))
        told = reply.completions[0]
        self._prefixes.learn(request, marks, (told.cached_tokens or 0) + (told.cache_write_tokens or 0))
        return reply

    async def _send(self, payload: dict[str, object]) -> bytes:
        try:
            return await self.endpoint.post("/v1/messages", payload)
        except RequestRefusedError as error:
            if "cache_control" in str(error):
                raise UnsupportedParameterError("prompt_cache", str(error)) from error
            raise


def build_payload(
    name: str,
    request: CompletionRequest,
    samples: tuple[int, ...],
    capabilities: Capabilities,
    marks: Sequence[Shared] = (),
) -> dict[str, object]:
    """The JSON of one draw: this API has no `n` and no seed, so `samples` decides nothing here.

    `marks`: where the cache is written and read, the shorter first (see `prefgen.models.prefixes`).
    """
    sampling, messages = request.sampling, request.messages
    if capabilities.lacks("system_role"):
        messages = without_system(messages)
    parts = [
        _Part(message, tuple(mark.end for mark in marks if mark.message == number))
        for number, message in enumerate(messages)
    ]
    system = _content(part for part in parts if part.message.role == "system")
    payload: dict[str, object] = {
        "model": name,
        "max_tokens": sampling.max_tokens,
        "messages": _turns(parts),
        **({"system": system} if system else {}),
    }
    optional = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    payload |= {
        key: value for key, value in optional.items() if value is not None and not capabilities.lacks(key)
    }
    if (request.choices or request.schema is not None) and not capabilities.lacks("structured_output"):
        payload["output_config"] = {"format": {"type": "json_schema", "schema": _schema(request)}}
    return payload


@dataclass(frozen=True, slots=True)
class _Part:
    """A message, and the places in it where a cached beginning ends."""

    message: Message
    ends: tuple[int, ...]


def _turns(parts: Sequence[_Part]) -> list[dict[str, object]]:
    spoken = (part for part in parts if part.message.role != "system")
    return [
        {"role": role, "content": _content(turn)}
        for role, turn in groupby(spoken, key=lambda part: part.message.role)
    ]


def _content(parts: Iterable[_Part]) -> str | list[dict[str, object]]:
    """One text; in blocks where a cached beginning ends in it."""
    blocks: list[dict[str, object]] = []
    text = ""
    for number, part in enumerate(parts):
        text += "\n\n" if number else ""
        start = 0
        for end in part.ends:
            text += part.message.content[start:end]
            blocks.append({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})
            text, start = "", end
        text += part.message.content[start:]
    if not blocks:
        return text
    # A block of white space is refused.
    return [*blocks, {"type": "text", "text": text}] if text.strip() else blocks


def _schema(request: CompletionRequest) -> dict[str, object]:
    from anthropic import transform_schema

    # Keywords the service refuses (minimum, maxLength, …) become part of the descriptions.
    schema = choice_schema(request.choices) if request.choices else dict(request.schema or {})
    return cast(dict[str, object], transform_schema(schema))


class _Block(BaseModel):
    type: str
    text: str | None = None


class _StopDetails(BaseModel):
    explanation: str | None = None


class _Usage(BaseModel):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Body(BaseModel):
    model: str = ""
    content: list[_Block]
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None


def parse_response(body: bytes, request: CompletionRequest) -> Reply:
    """The one draw of an answer; thinking blocks are dropped. Raises TransientError if it is no answer.

    `input_tokens` counts cached tokens too, as OpenAI does; Anthropic's own field leaves them out.
    """
    answer = parse_body(_Body, body)
    usage = answer.usage or _Usage()
    text = "".join(block.text or "" for block in answer.content if block.type == "text")
    finish = _FINISH.get(answer.stop_reason or "", "other")
    if finish == "refusal":
        text = text or (answer.stop_details and answer.stop_details.explanation) or ""
    else:
        text = answer_text(text, request.choices)
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    completion = Completion(
        text,
        finish,
        input_tokens=None if usage.input_tokens is None else usage.input_tokens + cached,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_creation_input_tokens,
    )
    return Reply((completion,), answer.model)
