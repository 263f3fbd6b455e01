"""The reward adapter over `/classify` and `/score`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from models.conftest import FakeServer

from prefgen.errors import ModelUnavailableError, RateLimitError, TransientError
from prefgen.messages import Message, user
from prefgen.models.openai_reward import OpenAIRewardModel, as_text, pair_payload

CHAT = (Message("system", "Be brief."), Message("user", "Hello?"))
MISSING: dict[str, Any] = {"detail": "Not Found"}


def classified(*probs: float) -> dict[str, Any]:
    return {"model": "rm", "data": [{"index": 0, "label": "LABEL_0", "probs": list(probs)}]}


@pytest.fixture
async def model(fake: FakeServer) -> AsyncIterator[OpenAIRewardModel]:
    model = OpenAIRewardModel("rm", f"openai/rm@{fake.url}/v1", f"{fake.url}/v1")
    yield model
    await model.aclose()


async def test_the_raw_logit_of_the_whole_conversation(fake: FakeServer, model: OpenAIRewardModel) -> None:
    fake.says(classified(-3.5))
    assert await model.score(CHAT, "Hi.") == -3.5
    assert fake.paths == ["/classify"]
    assert fake.sent[0] == {
        "model": "rm",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": "Hi."},
        ],
        "add_generation_prompt": False,
        "use_activation": False,
    }


async def test_a_tokenizer_without_a_template_gets_text(fake: FakeServer, model: OpenAIRewardModel) -> None:
    fake.says({"error": {"message": "you must provide a chat template"}}, 400)
    fake.says(classified(1.5))
    assert [await model.score(CHAT, "Hi.") for _ in range(2)] == [1.5, 1.5]
    assert [sent.get("input") for sent in fake.sent] == [
        None,
        *["System: Be brief.\n\nUser: Hello?\n\nAssistant: Hi."] * 2,
    ]


async def test_score_where_there_is_no_classify(fake: FakeServer, model: OpenAIRewardModel) -> None:
    fake.says(MISSING, 404)
    fake.says({"data": [{"index": 0, "score": 0.25}]})
    assert [await model.score(user("Hello?"), "Hi.") for _ in range(2)] == [0.25, 0.25]
    assert fake.paths == ["/classify", "/score", "/score"]
    assert fake.sent[1] == {"model": "rm", "text_1": "Hello?", "text_2": "Hi.", "use_activation": False}


async def test_neither_route(fake: FakeServer, model: OpenAIRewardModel) -> None:
    fake.says(MISSING, 404)
    with pytest.raises(ModelUnavailableError, match="/score"):
        await model.score(CHAT, "Hi.")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (classified(0.1, 0.9), 200, ModelUnavailableError),
        ({"error": {"message": "The model `rm` does not exist."}}, 404, ModelUnavailableError),
        ({"data": []}, 200, TransientError),
        ('{"data": [{"probs": [NaN]}]}', 200, TransientError),
        ({"error": {"message": "wait"}}, 429, RateLimitError),
    ],
)
async def test_failures(
    fake: FakeServer, model: OpenAIRewardModel, body: Any, status: int, kind: type[Exception]
) -> None:
    fake.says(body, status)
    with pytest.raises(kind):
        await model.score(CHAT, "Hi.")
    assert fake.paths == ["/classify"]


def test_text_forms() -> None:
    assert as_text(CHAT) == "System: Be brief.\n\nUser: Hello?"
    assert pair_payload("rm", CHAT, "Hi.")["text_1"] == "System: Be brief.\n\nUser: Hello?"
