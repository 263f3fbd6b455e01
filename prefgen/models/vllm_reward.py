"""A reward model on vLLM: a sequence classifier with one label, its raw logit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefgen.errors import UsageError
from prefgen.messages import Json, Messages
from prefgen.models.local import (
    ChatTokenizer,
    adapter_base,
    check_reward_config,
    find_folder,
    load_tokenizer,
)
from prefgen.models.vllm_engine import LocalEngine, start


async def open_vllm_reward(
    path: str, spec: str, options: Mapping[str, Json] | None = None, share: int = 1
) -> VLLMRewardModel:
    """Starts a pooling engine; arguments and errors as `open_vllm`.

    Raises UsageError also for a model with more than one label, and for a LoRA adapter.
    """
    _refuse_adapter(spec, find_folder(path, spec))
    engine = await start(path, spec, options, share, runner="pooling")
    try:
        config = engine.llm.model_config
        check_reward_config(spec, config.hf_config.architectures, config.hf_config.num_labels)
        tokenizer = await asyncio.to_thread(load_tokenizer, config.tokenizer, spec)
    except BaseException:
        await engine.aclose()
        raise
    return VLLMRewardModel(engine, tokenizer)


class VLLMRewardModel:
    """A `RewardModel` on a running pooling engine."""

    def __init__(self, engine: LocalEngine, tokenizer: Any) -> None:
        self.spec, self.identity = engine.spec, f"vllm:{engine.identity}"
        self._engine = engine
        self._chat = ChatTokenizer(tokenizer, engine.spec)

    async def score(self, messages: Messages, response: str) -> float:
        from vllm.inputs import TokensPrompt
        from vllm.pooling_params import PoolingParams

        async with self._engine.errors():
            ids = self._chat.reward_text(messages, response)
            self._engine.check_length(len(ids), reserve=0)
            params = PoolingParams(task="classify", use_activation=False)
            prompt = TokensPrompt(prompt_token_ids=ids)
            async for output in self._engine.llm.encode(prompt, params, self._engine.request_id()):
                score = float(output.outputs.data.reshape(-1)[0])
        return score

    async def aclose(self) -> None:
        await self._engine.aclose()


def _refuse_adapter(spec: str, folder: Path | None) -> None:
    if adapter_base(folder) is not None:
        merged = f"{folder}-merged"
        raise UsageError(
            f"{spec}: vLLM takes no reward model that is a LoRA adapter; use transformers/{folder}, or merge "
            'it:\n  python -c "from peft import AutoPeftModelForSequenceClassification as M; '
            f"M.from_pretrained('{folder}', num_labels=1).merge_and_unload().save_pretrained('{merged}')\"\n"
            f"and copy the tokenizer's files to {merged}"
        )
