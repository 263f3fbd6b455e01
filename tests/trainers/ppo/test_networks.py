"""Policy, value function and reference on one backbone and on models of their own."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

from trainers.loading import disable_dropout
from trainers.ppo.networks import (
    HEAD_FILE,
    Networks,
    SeparateModels,
    SharedBackbone,
    checkpoint_activations,
    restore_weights,
    trained_weights,
)
from trainers.ppo.objective import token_log_probs

IDS = torch.tensor([[7, 300, 12, 45, 99, 1], [8, 9, 10, 11, 12, 13]])
KEEP = 3


def load(model: Path) -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def make(kind: str, model: Path, change: bool = False) -> Networks:
    """Networks at the start of training, or with all they train changed by noise."""
    torch.manual_seed(0)
    start = load(model)
    networks: Networks = (
        SharedBackbone(start, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        if kind == "lora"
        else SeparateModels(start, copy.deepcopy(start).requires_grad_(False))
    )
    if change:
        with torch.no_grad():
            for weight in (*networks.policy_parameters(), *networks.value_parameters()):
                weight += 0.05 * torch.randn_like(weight)
    return networks


both = pytest.mark.parametrize("kind", ["lora", "full"])


@both
def test_at_the_start_the_policy_is_its_reference_and_nothing_has_a_value(kind: str, model: Path) -> None:
    networks = make(kind, model)
    attention = torch.ones_like(IDS)
    with torch.no_grad():
        policy = networks.policy_logits(IDS, attention, KEEP)
        assert torch.equal(policy, networks.reference_logits(IDS, attention, KEEP))
        assert torch.equal(policy, load(model)(IDS).logits[:, -KEEP - 1 : -1])
        assert networks.values(IDS, attention, KEEP).tolist() == [[0.0] * KEEP] * 2


@both
def test_policy_value_and_reference_do_not_touch_each_other(kind: str, model: Path) -> None:
    start, networks = make(kind, model), make(kind, model, change=True)
    attention = torch.ones_like(IDS)
    with torch.no_grad():
        reference = networks.reference_logits(IDS, attention, KEEP)
        policy = networks.policy_logits(IDS, attention, KEEP)
        values = networks.values(IDS, attention, KEEP)
        assert torch.equal(reference, start.reference_logits(IDS, attention, KEEP))
        assert float((policy - reference).abs().max()) > 0.01
        for weight in networks.value_parameters():
            weight += 1.0
        assert torch.equal(networks.policy_logits(IDS, attention, KEEP), policy)
        assert float((networks.values(IDS, attention, KEEP) - values).abs().max()) > 0.01


@both
@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_loss_reaches_its_own_weights_alone(kind: str, checkpointing: bool, model: Path) -> None:
    networks = make(kind, model, change=True)
    attention = torch.ones_like(IDS)
    if checkpointing:
        checkpoint_activations(networks)
        for module in networks.modules():
            module.train()
    networks.policy_logits(IDS, attention, KEEP).sum().backward()
    assert all(weight.grad is None for weight in networks.value_parameters())
    policy = [weight.grad.clone() for weight in networks.policy_parameters() if weight.grad is not None]
    assert policy
    networks.values(IDS, attention, KEEP).sum().backward()
    after = [weight.grad for weight in networks.policy_parameters() if weight.grad is not None]
    assert all(torch.equal(early, late) for early, late in zip(policy, after, strict=True))
    assert any(bool(weight.grad.any()) for weight in networks.value_parameters() if weight.grad is not None)
    with torch.no_grad():
        networks.reference_logits(IDS, attention, KEEP)
    assert all(
        weight.requires_grad for weight in (*networks.policy_parameters(), *networks.value_parameters())
    )


@both
def test_gradients_are_the_same_with_recomputed_activations(kind: str, model: Path) -> None:
    found = []
    for checkpointing in (False, True):
        networks = make(kind, model, change=True)
        if checkpointing:
            checkpoint_activations(networks)
        for module in networks.modules():
            module.train()
        attention = torch.ones_like(IDS)
        networks.policy_logits(IDS, attention, KEEP).sum().backward()
        networks.values(IDS, attention, KEEP).sum().backward()
        weights = [*networks.policy_parameters(), *networks.value_parameters()]
        found.append(torch.cat([weight.grad.reshape(-1) for weight in weights if weight.grad is not None]))
    assert torch.allclose(*found, atol=1e-6)


@both
def test_padding_changes_nothing(kind: str, model: Path) -> None:
    """The same tokens, alone, and with padding left and right in a batch with a longer text."""
    networks = make(kind, model, change=True)
    text, keep = torch.tensor([[5, 6, 7, 8, 9]]), 3
    padded = torch.tensor([[0, 0, 0, 5, 6, 7, 8, 9, 0, 0], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]])
    attention = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 0, 0], [1] * 10])
    with torch.no_grad():
        alone = token_log_probs(
            networks.policy_logits(text, torch.ones_like(text), keep), text[:, -keep:], 1.0
        )
        batched = token_log_probs(
            networks.policy_logits(padded, attention, keep + 2), padded[:, -keep - 2 :], 1.0
        )
        assert batched[0, :keep].tolist() == pytest.approx(alone[0].tolist(), abs=1e-5)
        values = networks.values(text, torch.ones_like(text), keep)
        values_batched = networks.values(padded, attention, keep + 2)
        assert values_batched[0, :keep].tolist() == pytest.approx(values[0].tolist(), abs=1e-5)


@both
def test_weights_for_an_engine_are_those_of_the_policy_as_one_model(kind: str, model: Path) -> None:
    networks = make(kind, model, change=True)
    plain = load(model)
    with torch.no_grad():
        given = dict(networks.policy_weights())
        assert given.keys() == dict(plain.named_parameters()).keys()
        plain.load_state_dict(given, strict=False)
        expected = networks.policy_logits(IDS, torch.ones_like(IDS), KEEP)
        assert torch.allclose(plain(IDS).logits[:, -KEEP - 1 : -1], expected, atol=1e-5)


@both
def test_what_is_saved_is_the_policy_and_the_value_function(kind: str, model: Path, tmp_path: Path) -> None:
    networks = make(kind, model, change=True)
    attention = torch.ones_like(IDS)
    with torch.no_grad():
        policy = networks.policy_logits(IDS, attention, KEEP)
        values = networks.values(IDS, attention, KEEP)
    networks.use_policy()
    networks.policy.save_pretrained(tmp_path)
    networks.save_value(tmp_path / "value")
    if kind == "lora":
        again = PeftModel.from_pretrained(load(model), str(tmp_path))
        trunk = PeftModel.from_pretrained(load(model), str(tmp_path / "value")).base_model.model.model
    else:
        again = load(tmp_path)
        trunk = AutoModel.from_pretrained(tmp_path / "value", dtype=torch.float32)
    head = load_file(tmp_path / "value" / HEAD_FILE)
    with torch.no_grad():
        assert torch.allclose(again.eval()(IDS).logits[:, -KEEP - 1 : -1], policy, atol=1e-6)
        hidden = trunk.eval()(IDS).last_hidden_state[:, -KEEP - 1 : -1]
        assert torch.allclose((hidden @ head["weight"].T + head["bias"]).squeeze(-1), values, atol=1e-6)


@both
def test_a_checkpoint_holds_all_that_training_changes(kind: str, model: Path) -> None:
    changed, fresh = make(kind, model, change=True), make(kind, model)
    restore_weights(fresh, trained_weights(changed))
    attention = torch.ones_like(IDS)
    with torch.no_grad():
        for ask in ("policy_logits", "values"):
            one, other = (getattr(networks, ask)(IDS, attention, KEEP) for networks in (changed, fresh))
            assert torch.equal(one, other)


def test_dropout_is_off_in_training_mode_too(model: Path) -> None:
    networks = make("full", model, change=True)
    part = torch.nn.Sequential(torch.nn.Dropout(0.5))
    for layer in networks.policy.model.layers:
        layer.self_attn.attention_dropout = 0.5
    for module in (part, *networks.modules()):
        disable_dropout(module)
    for module in (part, *networks.modules()):
        module.train()
    assert torch.equal(part(torch.ones(50)), torch.ones(50))
    attention = torch.ones_like(IDS)
    with torch.no_grad():
        one, other = (networks.policy_logits(IDS, attention, KEEP) for _ in range(2))
    assert torch.equal(one, other)
