"""A reward model on transformers: a sequence classifier with one label, its raw logit.

transformers reads the score at the last token that is not the padding token. Where padding and end of
text are one token, as TRL leaves them for a tokenizer without padding, that is the token before the
end; so each batch is padded with a token that ends none of its texts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from prefgen.errors import RequestRefusedError
from prefgen.messages import Json, Messages
from prefgen.models.batching import Batcher
from prefgen.models.local import ChatTokenizer, adapter_base, check_reward_config, find_folder
from prefgen.models.transformers import Loaded, load


async def open_transformers_reward(
    path: str, spec: str, options: Mapping[str, Json] | None = None
) -> TransformersRewardModel:
    """Options and errors as `open_transformers`; UsageError also for more than one label."""
    return TransformersRewardModel(await asyncio.to_thread(_load, path, spec, options or {}))


def _load(path: str, spec: str, options: Mapping[str, Json]) -> Loaded:
    if adapter_base(find_folder(path, spec)) is not None:
        # The adapter brings the head; its base is a model of any kind.
        return load(path, spec, options, "AutoModelForSequenceClassification", num_labels=1)
    _check(path, spec)
    return load(path, spec, options, "AutoModelForSequenceClassification")


def _check(path: str, spec: str) -> None:
    import transformers

    config = transformers.AutoConfig.from_pretrained(find_folder(path, spec) or path, trust_remote_code=False)
    check_reward_config(spec, config.architectures, config.num_labels)


class TransformersRewardModel:
    """A `RewardModel` on transformers."""

    def __init__(self, loaded: Loaded) -> None:
        self.spec, self.identity = loaded.spec, loaded.identity
        self._loaded = loaded
        self._chat = ChatTokenizer(loaded.tokenizer, loaded.spec)
        self._batcher = Batcher(self._scores, lambda ids: (len(ids),), loaded.batch_size, loaded.batch_tokens)

    async def score(self, messages: Messages, response: str) -> float:
        ids = self._chat.reward_text(messages, response)
        if len(ids) > self._loaded.context:
            raise RequestRefusedError(
                f"{self.spec}: the text has {len(ids)} tokens, the model takes {self._loaded.context}"
            )
        return await self._batcher.submit(ids)

    async def aclose(self) -> None:
        await self._batcher.aclose()

    def _scores(self, texts: list[list[int]]) -> list[float]:
        import torch

        pad = next(token for token in range(len(texts) + 1) if token not in {text[-1] for text in texts})
        model, device = self._loaded.model, self._loaded.device
        model.config.get_text_config().pad_token_id = model.config.pad_token_id = pad
        width = max(len(text) for text in texts)
        ids = torch.tensor([text + [pad] * (width - len(text)) for text in texts], device=device)
        mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts], device=device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits
        return [float(score) for score in logits[:, 0]]
