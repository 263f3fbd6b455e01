"""Policy, value function and reference: one backbone with adapters, or models of their own.

With LoRA one set of frozen weights serves all three: the adapter "default" makes it the policy, the adapter
"value" with a linear head the value function, and without an adapter it is the reference. In full training
the value function has a trunk of its own, as the adapters do: on a shared one the gradients of its loss,
whose scale is that of the reward squared, would move the policy too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import Tensor
    from torch.nn import Linear, Module, Parameter
    from transformers import PreTrainedModel

POLICY, VALUE = "default", "value"
HEAD_FILE = "value_head.safetensors"


class Networks(Protocol):
    """Takes `ids` and `attention` of shape (responses, width) and answers for the last `keep` tokens.

    With gradient checkpointing the backward pass runs the forward pass again, and with whatever adapter is
    then on: after a call that needs gradients, `backward` comes before the next call.
    """

    policy: PreTrainedModel | PeftModel
    """The model that samples and that is saved."""

    def policy_logits(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        """Logits before each of the last `keep` tokens: (responses, keep, vocabulary)."""

    def reference_logits(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        """The same of the model that training started from."""

    def values(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        """Value of the state before each of the last `keep` tokens: (responses, keep), float32."""

    def use_policy(self) -> None:
        """Makes `policy` what its name says, for whoever calls it directly."""

    def policy_parameters(self) -> list[Parameter]: ...
    def value_parameters(self) -> list[Parameter]: ...
    def modules(self) -> list[Module]:
        """All that has a training mode."""

    def policy_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of the policy's weights as one model, an adapter merged, made one at a time."""

    def save_value(self, folder: Path) -> None:
        """Writes what `policy.save_pretrained` does not: the head, and the trunk where it is its own."""


def _positions(attention: Tensor) -> Tensor:
    """The first real token stands at 0 however much padding is left of it."""
    return (attention.long().cumsum(-1) - 1).clamp(min=0)


def _logits(model: Module, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
    output = model(
        input_ids=ids,
        attention_mask=attention,
        position_ids=_positions(attention),
        use_cache=False,
        logits_to_keep=keep + 1,
    )
    return output.logits[:, -keep - 1 : -1]


def _values(trunk: Module, head: Linear, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
    output = trunk(
        input_ids=ids, attention_mask=attention, position_ids=_positions(attention), use_cache=False
    )
    hidden = output.last_hidden_state[:, -keep - 1 : -1]
    # Outside of any autocast: a value in bfloat16 has three digits.
    return head(hidden.float()).squeeze(-1)


def _new_head(model: PreTrainedModel) -> Linear:
    """Says 0 for every state, so that nothing random stands at the beginning."""
    import torch

    head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1, device=model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def _save_head(head: Linear, folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, folder / HEAD_FILE)


class SharedBackbone:
    """One frozen model with an adapter for the policy and one for the value function."""

    def __init__(self, model: PreTrainedModel, adapter: LoraConfig) -> None:
        import peft

        if getattr(model, "is_loaded_in_4bit", False):
            model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        self.policy = peft.get_peft_model(model, adapter, adapter_name=POLICY)
        self.policy.add_adapter(VALUE, adapter)
        self.head = _new_head(model)
        self._trunk = model.base_model
        self._of = {name: _adapter_weights(self.policy, name) for name in (POLICY, VALUE)}
        self._activate(POLICY)

    def _activate(self, adapter: str) -> None:
        self.policy.set_adapter(adapter)
        self._thaw()

    def _thaw(self) -> None:
        """Whenever peft switches, it freezes the adapter that is off; to us both are always trained."""
        for weight in (*self._of[POLICY], *self._of[VALUE]):
            weight.requires_grad_(True)

    def use_policy(self) -> None:
        self._activate(POLICY)

    def policy_logits(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        self._activate(POLICY)
        return _logits(self.policy, ids, attention, keep)

    def reference_logits(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        with self.policy.disable_adapter():
            logits = _logits(self.policy, ids, attention, keep)
        self._thaw()
        return logits

    def values(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        self._activate(VALUE)
        return _values(self._trunk, self.head, ids, attention, keep)

    def policy_parameters(self) -> list[Parameter]:
        return self._of[POLICY]

    def value_parameters(self) -> list[Parameter]:
        return [*self._of[VALUE], *self.head.parameters()]

    def modules(self) -> list[Module]:
        return [self.policy, self.head]

    def policy_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Merged beside the base, since merging into it and back would round its weights."""
        from peft.tuners.lora import LoraLayer

        layers = {
            name: layer
            for name, layer in self.policy.get_base_model().named_modules()
            if isinstance(layer, LoraLayer)
        }
        for name, weight in self.policy.get_base_model().named_parameters():
            place, _, kind = name.partition(".base_layer.")
            if kind == "weight" and place in layers:
                yield f"{place}.weight", weight + layers[place].get_delta_weight(POLICY).to(weight.dtype)
            elif kind:
                yield f"{place}.{kind}", weight
            elif ".lora_" not in name:
                yield name, weight

    def save_value(self, folder: Path) -> None:
        _save_head(self.head, folder)


def _adapter_weights(model: PeftModel, adapter: str) -> list[Parameter]:
    return [weight for name, weight in model.named_parameters() if f".{adapter}." in f"{name}."]


class SeparateModels:
    """The policy, a value function that starts as its copy, and a frozen reference."""

    def __init__(self, model: PreTrainedModel, reference: PreTrainedModel) -> None:
        import copy

        self.policy = model
        self.reference = reference
        self.trunk = copy.deepcopy(model.base_model)
        self.head = _new_head(model)

    def use_policy(self) -> None:
        """The policy is a model of its own."""

    def policy_logits(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        return _logits(self.policy, ids, attention, keep)

    def reference_logits(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        return _logits(self.reference, ids, attention, keep)

    def values(self, ids: Tensor, attention: Tensor, keep: int) -> Tensor:
        return _values(self.trunk, self.head, ids, attention, keep)

    def policy_parameters(self) -> list[Parameter]:
        return list(self.policy.parameters())

    def value_parameters(self) -> list[Parameter]:
        return [*self.trunk.parameters(), *self.head.parameters()]

    def modules(self) -> list[Module]:
        return [self.policy, self.trunk, self.head]

    def policy_weights(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.policy.named_parameters())

    def save_value(self, folder: Path) -> None:
        self.trunk.save_pretrained(folder)
        _save_head(self.head, folder)


def trained_weights(networks: Networks) -> dict[str, Tensor]:
    """All that training changes, by a name that is the same in the next run."""
    return {
        f"{place}.{name}": weight
        for place, module in enumerate(networks.modules())
        for name, weight in module.named_parameters()
        if weight.requires_grad
    }


def restore_weights(networks: Networks, saved: Mapping[str, Tensor]) -> None:
    """Raises KeyError where the saved weights are of other networks."""
    import torch

    with torch.no_grad():
        for name, weight in trained_weights(networks).items():
            weight.copy_(saved[name])


def checkpoint_activations(networks: Networks) -> None:
    """Recomputes activations in the backward pass."""
    for module in networks.modules():
        enable: Any = getattr(module, "gradient_checkpointing_enable", None)
        if enable is not None:
            enable(gradient_checkpointing_kwargs={"use_reentrant": False})
