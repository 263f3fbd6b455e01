"""Reward models: transformers and vLLM give one score."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from tiny_models import make_causal_lm, make_reward_model

from prefgen.errors import RequestRefusedError, UsageError
from prefgen.messages import Messages, user
from prefgen.models.transformers_reward import open_transformers_reward
from prefgen.models.vllm_reward import open_vllm_reward

# vLLM makes torch import a module of its own that still uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
TEXTS: list[tuple[Messages, str]] = [
    (user("Where is my order? " * (1 + i % 4)), "I am sorry to hear that. " * (1 + 2 * i % 13) + f"{i}")
    for i in range(20)
]


async def transformers_scores(folder: Path, batch_size: int = 16) -> list[float]:
    model = await open_transformers_reward(str(folder), "transformers/x", {"batch_size": batch_size})
    scores = await asyncio.gather(*(model.score(*text) for text in TEXTS))
    await model.aclose()
    return scores


@pytest.mark.parametrize("pad_token", ["<pad>", "</s>"])
async def test_a_batch_gives_the_scores_of_single_texts(tmp_path: Path, pad_token: str) -> None:
    folder = make_reward_model(tmp_path, pad_token=pad_token)
    together, alone = await transformers_scores(folder), await transformers_scores(folder, batch_size=1)
    assert together == pytest.approx(alone, abs=1e-4)
    assert max(together) - min(together) > 0.1


async def test_padding_with_the_end_of_text_changes_no_score(tmp_path: Path) -> None:
    """transformers itself would read the score before the end of the text."""
    plain = make_reward_model(tmp_path / "plain")
    trap = Path(shutil.copytree(plain, tmp_path / "trap"))
    config = json.loads((trap / "config.json").read_text())
    (trap / "config.json").write_text(json.dumps({**config, "pad_token_id": config["eos_token_id"]}))
    assert await transformers_scores(trap) == pytest.approx(await transformers_scores(plain), abs=1e-4)


async def test_without_a_template_the_prompt_and_the_answer_are_lines(tmp_path: Path) -> None:
    folder = make_reward_model(tmp_path, chat_template=None)
    model = await open_transformers_reward(str(folder), "transformers/x")
    ids = model._chat.reward_text(user("question"), "answer")
    assert model._loaded.tokenizer.decode(ids) == "question\nanswer"
    await model.aclose()


async def test_more_than_one_label_is_refused(tmp_path: Path) -> None:
    folder = make_reward_model(tmp_path, labels=3)
    with pytest.raises(UsageError, match="one label, this one has 3"):
        await open_transformers_reward(str(folder), "transformers/x")


async def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    folder = make_causal_lm(tmp_path)
    with pytest.raises(UsageError, match="this is LlamaForCausalLM"):
        await open_transformers_reward(str(folder), "transformers/x")


async def test_a_text_too_long_is_refused(tmp_path: Path) -> None:
    model = await open_transformers_reward(str(make_reward_model(tmp_path)), "transformers/x")
    with pytest.raises(RequestRefusedError, match="the model takes 512"):
        await model.score(user("A B " * 400), "yes")
    await model.aclose()


async def test_an_adapter_brings_its_head(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = make_causal_lm(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=4)).save_pretrained(tmp_path / "adapter")
    assert await transformers_scores(tmp_path / "adapter") == await transformers_scores(tmp_path / "adapter")
    with pytest.raises(UsageError, match="merge_and_unload"):
        await open_vllm_reward(str(tmp_path / "adapter"), "vllm/x")


@pytest.mark.vllm
async def test_vllm_gives_the_same_raw_scores(tmp_path: Path) -> None:
    folder = make_reward_model(tmp_path, pad_token="</s>")
    model = await open_vllm_reward(str(folder), "vllm/x")
    try:
        scores = await asyncio.gather(*(model.score(*text) for text in TEXTS))
        with pytest.raises(RequestRefusedError, match="the model takes 512"):
            await model.score(user("A B " * 400), "yes")
    finally:
        await model.aclose()
    assert scores == pytest.approx(await transformers_scores(folder), abs=1e-2)
    assert min(scores) < 0 or max(scores) > 1, "raw logits, no sigmoid"


@pytest.mark.vllm
async def test_vllm_refuses_what_is_no_reward_model(tmp_path: Path) -> None:
    folder = make_reward_model(tmp_path, labels=3)
    with pytest.raises(UsageError, match="one label, this one has 3"):
        await open_vllm_reward(str(folder), "vllm/x")
