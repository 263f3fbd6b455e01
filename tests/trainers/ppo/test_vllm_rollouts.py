"""A real vLLM that follows the policy's weights, in a process of its own: it leaves much behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import make_causal_lm

CODE = """
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from trainers.ppo import PPOConfig
from trainers.ppo.networks import SharedBackbone
from trainers.ppo.rollout import TransformersSampler, VLLMSampler, choose_engine, cut

config = PPOConfig(
    model=sys.argv[1], data=Path("d"), out=Path("o"), max_new_tokens=12, max_length=64,
    temperature=1e-6, rollouts="vllm",
)
assert choose_engine(config).name == "vllm"
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32).eval()
adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
networks = SharedBackbone(model, adapter)
ends, prompts = frozenset({0}), [[9, 8, 7], [50], [60, 61, 62, 63, 64, 65]]
ours = TransformersSampler(config, networks, ends, 1, nullcontext)
theirs = VLLMSampler(config, networks, ends)
seen = []


def gap(prompt, one, other):
    # How much likelier our own choice is where the texts part, in nats; 0 where they do not.
    places = [at for at, (a, b) in enumerate(zip(one, other)) if a != b]
    if not places:
        return 0.0
    at = places[0]
    ids = torch.tensor([[*prompt, *one[:at]]])
    with torch.no_grad():
        networks.use_policy()
        told = networks.policy(ids).logits[0, -1].log_softmax(-1)
    return abs(float(told[one[at]] - told[other[at]]))


for _ in range(3):
    one, other = ([cut(ids, ends) for ids in writer.sample(prompts, seed=1)] for writer in (ours, theirs))
    gaps = [gap(*each) for each in zip(prompts, one, other)]
    assert max(gaps) < 0.1, (gaps, one, other)
    seen.append(one)
    with torch.no_grad():
        for weight in networks.policy_parameters():
            weight += 0.2 * torch.randn_like(weight)
assert seen[0] != seen[1] != seen[2]
theirs.close()
print("followed")
"""


@pytest.mark.vllm
def test_vllm_writes_what_the_policy_of_the_moment_would(tmp_path: Path) -> None:
    """Greedy in both engines (vLLM takes what is below 1e-5 for 0); the adapter changes between the batches.
    The texts may part only where our model too finds both tokens nearly alike: 0.06 nats have been seen."""
    model = make_causal_lm(tmp_path / "model", std=0.5)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(model)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("followed\n")
