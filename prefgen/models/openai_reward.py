"""A reward model behind a server: vLLM's `/classify`, or `/score` where there is no `/classify`."""

from __future__ import annotations

import math

from pydantic import BaseModel, Field

from prefgen.errors import ModelUnavailableError, RequestRefusedError, TransientError
from prefgen.messages import Message, Messages, as_dicts
from prefgen.models.http import NoSuchRouteError, parse_body
from prefgen.models.openai import open_endpoint

_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


class OpenAIRewardModel:
    """Scores a response by the raw output of the server's one-label head.

    vLLM puts a sigmoid over one label unless told `use_activation: false`, which is always sent; a server
    that does not know the field may answer with probabilities, in the same order but squeezed.
    """

    def __init__(self, name: str, spec: str, base_url: str) -> None:
        self.name, self.spec, self.identity = name, spec, spec
        # These routes stand beside /v1, not under it.
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._endpoint = open_endpoint(name, spec, f"{self._root}/v1", None)
        self._has_classify, self._has_template = True, True

    async def score(self, messages: Messages, response: str) -> float:
        """The raw score, higher is better. Raises as `prefgen.models.http` says."""
        if self._has_classify:
            try:
                return await self._classify(messages, response)
            except NoSuchRouteError:
                self._has_classify = False
        return await self._score(messages, response)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def _classify(self, messages: Messages, response: str) -> float:
        if self._has_template:
            try:
                return await self._first_label(chat_payload(self.name, messages, response))
            except RequestRefusedError as error:
                if "chat template" not in str(error):
                    raise
                self._has_template = False
        return await self._first_label(text_payload(self.name, messages, response))

    async def _first_label(self, payload: dict[str, object]) -> float:
        body = await self._endpoint.post(f"{self._root}/classify", payload)
        labels = parse_body(_Classified, body).data[0].probs
        if len(labels) != 1:
            raise ModelUnavailableError(
                f"{self.spec} gives {len(labels)} labels; a reward model has one: "
                "serve one trained with num_labels=1"
            )
        return _finite(labels[0])

    async def _score(self, messages: Messages, response: str) -> float:
        body = await self._endpoint.post(f"{self._root}/score", pair_payload(self.name, messages, response))
        return _finite(parse_body(_Scored, body).data[0].score)


def chat_payload(name: str, messages: Messages, response: str) -> dict[str, object]:
    """For `/classify`: the whole conversation, rendered by the server's chat template."""
    conversation = (*messages, Message("assistant", response))
    return {
        "model": name,
        "messages": as_dicts(conversation),
        "add_generation_prompt": False,
        "use_activation": False,
    }


def text_payload(name: str, messages: Messages, response: str) -> dict[str, object]:
    """For `/classify` without a chat template: see `as_text`."""
    return {
        "model": name,
        "input": as_text((*messages, Message("assistant", response))),
        "use_activation": False,
    }


def pair_payload(name: str, messages: Messages, response: str) -> dict[str, object]:
    """For `/score`: the prompt and the response as a pair of texts; one user turn goes as it is."""
    alone = len(messages) == 1 and messages[0].role == "user"
    prompt = messages[0].content if alone else as_text(messages)
    return {"model": name, "text_1": prompt, "text_2": response, "use_activation": False}


def as_text(messages: Messages) -> str:
    """A conversation without a template: `User: …`, `Assistant: …`, an empty line between turns."""
    return "\n\n".join(f"{_SPEAKERS[message.role]}: {message.content}" for message in messages)


class _Labels(BaseModel):
    probs: list[float]


class _Classified(BaseModel):
    data: list[_Labels] = Field(min_length=1)


class _Number(BaseModel):
    score: float


class _Scored(BaseModel):
    data: list[_Number] = Field(min_length=1)


def _finite(score: float) -> float:
    if not math.isfinite(score):
        raise TransientError(f"the reward model answered {score}, not a number")
    return score
