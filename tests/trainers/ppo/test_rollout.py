from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from prefgen.errors import UsageError
from trainers.ppo import rollout
from trainers.ppo.config import PPOConfig
from trainers.ppo.networks import SeparateModels
from trainers.ppo.rollout import TransformersSampler, choose_engine, cut, lay_out

END = frozenset({1})
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


def config(model: Path, **options: Any) -> PPOConfig:
    return PPOConfig(model=str(model), data=Path("d"), out=Path("o"), max_new_tokens=6, **options)


def test_a_response_ends_with_its_first_end_token() -> None:
    assert cut([4, 1, 0, 1], END) == [4, 1]
    assert cut([1, 0], END) == [1]
    assert cut([4, 5], END) == [4, 5]


def test_prompts_are_padded_left_and_responses_right() -> None:
    """Padding that is an end token itself (pad = end, as many models have it) is no end."""
    batch = lay_out([[5, 6, 7], [8]], [[20, 1, 1], [30, 31, 32, 33]], END, pad=1)
    assert batch.ids.tolist() == [[5, 6, 7, 20, 1, 1, 1], [1, 1, 8, 30, 31, 32, 33]]
    assert batch.attention.tolist() == [[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]]
    assert batch.mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.finished.tolist() == [True, False]
    assert batch.responses == [[20], [30, 31, 32, 33]]
    assert batch.tokens.tolist() == [[20, 1, 1, 1], [30, 31, 32, 33]]


def test_a_selection_has_no_column_of_padding() -> None:
    batch = lay_out([[5, 6, 7], [8], [9, 9]], [[20, 1], [30, 31, 32], [1]], END, pad=0)
    assert batch.select([0]).ids.tolist() == [[5, 6, 7, 20, 1]]
    some = batch.select([2, 1])
    assert some.ids.tolist() == [[9, 9, 1, 0, 0], [0, 8, 30, 31, 32]]
    assert some.tokens.tolist() == [[1, 0, 0], [30, 31, 32]]
    assert some.mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert some.responses == [[], [30, 31, 32]]
    assert some.finished.tolist() == [True, False]


def sampler(model: Path, **options: Any) -> tuple[TransformersSampler, Any]:
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    networks = SeparateModels(policy, policy)
    return TransformersSampler(config(model, **options), networks, END, 0, nullcontext), policy


def test_the_seed_gives_the_responses_and_leaves_other_randomness_alone(model: Path) -> None:
    writer, _ = sampler(model)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = writer.sample(PROMPTS, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert writer.sample(PROMPTS, seed=1) == first
    assert writer.sample(PROMPTS, seed=2) != first
    assert all(len(response) <= 6 for response in first)


def test_a_models_own_sampling_settings_do_not_bend_the_policy(model: Path) -> None:
    writer, policy = sampler(model)
    free = writer.sample(PROMPTS, seed=1)
    policy.generation_config.update(top_k=1, top_p=0.1, repetition_penalty=3.0, min_new_tokens=5)
    before = policy.generation_config
    assert writer.sample(PROMPTS, seed=1) == free
    assert policy.generation_config is before


def test_padding_does_not_change_what_is_likely(model: Path) -> None:
    """Nearly greedy, so that a prompt's response is the same alone and beside longer ones."""
    writer, _ = sampler(model, temperature=1e-4)
    together = writer.sample(PROMPTS, seed=1)
    alone = [writer.sample([prompt], seed=1)[0] for prompt in PROMPTS]
    assert [cut(response, END) for response in together] == [cut(response, END) for response in alone]


def test_who_writes_the_rollouts(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model has tied embeddings, which vLLM cannot follow on a CPU."""
    assert choose_engine(config(model, rollouts="transformers")).reason == "asked for"
    assert "CPU" in choose_engine(config(model)).reason
    with pytest.raises(UsageError, match=r"tied embeddings; use --rollouts transformers"):
        choose_engine(config(model, rollouts="vllm"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_engine(config(model)).name == "vllm"
    assert choose_engine(config(model, qlora=True)) == rollout.Engine(
        "transformers", "the weights are in 4 bits, which vLLM cannot be given"
    )
    monkeypatch.setattr(rollout.importlib.util, "find_spec", lambda name: None)
    assert "not installed" in choose_engine(config(model)).reason
