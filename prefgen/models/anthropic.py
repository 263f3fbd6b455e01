"""Anthropic's messages, and servers that speak them (vLLM does)."""

from __future__ import annotations

import os
from itertools import groupby
from typing import cast

import httpx2
from pydantic import BaseModel

from prefgen.completion import (
    Capabilities,
    Completion,
    CompletionRequest,
    FinishReason,
    Reply,
    without_system,
)
from prefgen.messages import Messages
from prefgen.models.answers import answer_text, choice_schema
from prefgen.models.http import Endpoint, each, find_key, open_http, parse_body

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
        tls = httpx2.create_ssl_context()
        client = anthropic.AsyncAnthropic(
            api_key=key, base_url=url, max_retries=0, http_client=open_http(tls)
        )
        self._endpoint = Endpoint(
            spec, name, url, "ANTHROPIC_API_KEY", key, anthropic, client, tls, models_path="/v1/models"
        )

    async def complete(self, request: CompletionRequest) -> Reply:
        """One call a sample, all at once; see `prefgen.models.http` for what it raises."""
        return await each(self._draw(request, sample) for sample in request.samples)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def _draw(self, request: CompletionRequest, sample: int) -> Reply:
        payload = build_payload(self.name, request, (sample,), self.capabilities)
        return parse_response(await self._endpoint.post("/v1/messages", payload), request)


def build_payload(
    name: str, request: CompletionRequest, samples: tuple[int, ...], capabilities: Capabilities
) -> dict[str, object]:
    """The JSON of one draw: this API has no `n` and no seed, so `samples` decides nothing here."""
    sampling, messages = request.sampling, request.messages
    if capabilities.lacks("system_role"):
        messages = without_system(messages)
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    payload: dict[str, object] = {
        "model": name,
        "max_tokens": sampling.max_tokens,
        "messages": _turns(messages),
        **({"system": system} if system else {}),
    }
    optional = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    payload |= {
        key: value for key, value in optional.items() if value is not None and not capabilities.lacks(key)
    }
    if (request.choices or request.schema is not None) and not capabilities.lacks("structured_output"):
        payload["output_config"] = {"format": {"type": "json_schema", "schema": _schema(request)}}
    return payload


def _turns(messages: Messages) -> list[dict[str, str]]:
    spoken = (message for message in messages if message.role != "system")
    return [
        {"role": role, "content": "\n\n".join(message.content for message in turn)}
        for role, turn in groupby(spoken, key=lambda message: message.role)
    ]


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
    )
    return Reply((completion,), answer.model)
