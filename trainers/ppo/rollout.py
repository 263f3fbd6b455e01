"""Responses of the policy as it stands: written by transformers or vLLM, laid out for the trainer."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prefgen.errors import UsageError
from trainers.loading import load_config, longest_context
from trainers.ppo.config import PPOConfig
from trainers.ppo.networks import Networks
from trainers.ppo.schedule import chunks
from trainers.sampling import only_settings

if TYPE_CHECKING:
    from torch import Tensor

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A batch of responses. `ids`, `attention`: (responses, width), prompts padded on the left, responses on
    the right; `mask`: (responses, tokens), 1 on a response's tokens; `finished`: whether an end token is the
    last; `responses`: the same tokens without padding or end token."""

    ids: Tensor
    attention: Tensor
    mask: Tensor
    finished: Tensor
    responses: list[list[int]]

    @property
    def tokens(self) -> Tensor:
        """The responses' part of `ids`."""
        return self.ids[:, -self.mask.shape[1] :]

    def select(self, places: Sequence[int]) -> Rollouts:
        """Some of the responses, without the columns that are padding in all of them."""
        rows = list(places)
        attention, mask = self.attention[rows], self.mask[rows]
        start = int(attention.argmax(1).min())
        width = int(mask.sum(1).max())
        stop = attention.shape[1] - mask.shape[1] + width
        return Rollouts(
            self.ids[rows, start:stop],
            attention[:, start:stop],
            mask[:, :width],
            self.finished[rows],
            [self.responses[row] for row in rows],
        )


def cut(response: Ids, ends: Collection[int]) -> list[int]:
    """What stands before the first end token, and that token; all of it where there is none."""
    length = next((place + 1 for place, token in enumerate(response) if token in ends), len(response))
    return list(response[:length])


def lay_out(
    prompts: Sequence[Ids], responses: Sequence[Ids], ends: Collection[int], pad: int, device: Any = None
) -> Rollouts:
    """Tensors of prompts and what was written after them. A response has at least one token."""
    import torch

    written = [cut(response, ends) for response in responses]
    left, right = max(map(len, prompts)), max(map(len, written))
    rows, attention, mask = [], [], []
    for prompt, response in zip(prompts, written, strict=True):
        before, after = left - len(prompt), right - len(response)
        rows.append([pad] * before + [*prompt, *response] + [pad] * after)
        attention.append([0] * before + [1] * (len(prompt) + len(response)) + [0] * after)
        mask.append([1.0] * len(response) + [0.0] * after)
    finished = [response[-1] in ends for response in written]
    return Rollouts(
        torch.tensor(rows, device=device),
        torch.tensor(attention, device=device),
        torch.tensor(mask, device=device),
        torch.tensor(finished, device=device),
        [response[:-1] if done else response for response, done in zip(written, finished, strict=True)],
    )


class Sampler(Protocol):
    """Writes one response to each prompt."""

    def sample(self, prompts: Sequence[Ids], seed: int) -> list[list[int]]:
        """Token ids after each prompt, in order, at most `max_new_tokens`; what stands after an end token
        is without meaning."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Who writes the responses, and why it and not the other one."""

    name: Literal["vllm", "transformers"]
    reason: str


def choose_engine(config: PPOConfig) -> Engine:
    """The engine that `--rollouts` names, or for `auto` the one that suits the machine.

    Raises UsageError where vLLM is asked for and cannot follow the policy's weights here.
    """
    import torch

    cuda = torch.cuda.is_available()
    obstacle = _obstacle(config, cuda)
    if config.rollouts == "vllm" and obstacle:
        raise UsageError(f"--rollouts vllm: {obstacle}; use --rollouts transformers")
    if config.rollouts != "auto":
        return Engine(config.rollouts, "asked for")
    if not cuda:
        return Engine("transformers", "on a CPU vLLM takes longer to start than it saves on a small model")
    return Engine("transformers", obstacle) if obstacle else Engine("vllm", "faster on CUDA")


def _obstacle(config: PPOConfig, cuda: bool) -> str | None:
    """Why vLLM cannot write the rollouts, None where it can."""
    if importlib.util.find_spec("vllm") is None:
        return 'vLLM is not installed (pip install "prefgen[vllm]")'
    if config.qlora:
        return "the weights are in 4 bits, which vLLM cannot be given"
    if not cuda and load_config(config.model).get_text_config().tie_word_embeddings:
        return "on a CPU vLLM does not follow the output layer of a model with tied embeddings"
    return None


class TransformersSampler:
    """`generate` of the policy itself. The same seed and weights give the same tokens, bit by bit."""

    def __init__(
        self,
        config: PPOConfig,
        networks: Networks,
        ends: Collection[int],
        pad: int,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        import transformers

        self._networks, self._pad, self._autocast = networks, pad, autocast
        self._at_once = config.rollout_batch_size
        # Everything that would bend the distribution is switched off: the policy's own is what is trained.
        self._generation = transformers.GenerationConfig(
            do_sample=True,
            temperature=config.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=config.max_new_tokens,
            eos_token_id=sorted(ends) or None,
            pad_token_id=pad,
        )

    def sample(self, prompts: Sequence[Ids], seed: int) -> list[list[int]]:
        import torch

        self._networks.use_policy()
        own = only_settings(self._networks.policy, self._generation)
        with torch.random.fork_rng(), torch.no_grad(), self._autocast(), own:
            torch.manual_seed(seed)
            return [ids for some in chunks(prompts, self._at_once) for ids in self._write(some)]

    def _write(self, prompts: Sequence[Ids]) -> list[list[int]]:
        import torch

        policy, width = self._networks.policy, max(map(len, prompts))
        ids = [[self._pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        attention = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        written = policy.generate(
            input_ids=torch.tensor(ids, device=policy.device),
            attention_mask=torch.tensor(attention, device=policy.device),
            generation_config=self._generation,
        )
        return [list(row) for row in written[:, width:].tolist()]


class VLLMSampler:
    """A vLLM engine in this process that is given the policy's weights before each batch.

    Its sampling is seeded for each response, but its arithmetic depends on what it batches together: the
    same seed gives nearly, not bitwise, the same run.
    """

    def __init__(self, config: PPOConfig, networks: Networks, ends: Collection[int]) -> None:
        import torch

        # The weights are handed over as they are in memory, so the engine lives in this process.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        for name, value in {
            "LOGGING_LEVEL": "ERROR",
            "NO_USAGE_STATS": "1",
            "CPU_KVCACHE_SPACE": "1",
        }.items():
            os.environ.setdefault(f"VLLM_{name}", value)
        import vllm

        self._networks, self._ends, self._config = networks, sorted(ends), config
        cuda = torch.cuda.is_available()
        # A seeded request whose prompt is read in two chunks kills vLLM 0.32's worker on a CPU.
        machine = (
            {"gpu_memory_utilization": config.rollout_memory}
            if cuda
            else {"enforce_eager": True, "enable_chunked_prefill": False}
        )
        self._engine = vllm.LLM(
            model=config.model,
            dtype="bfloat16" if cuda else config.load_dtype,
            max_model_len=min(config.max_length, longest_context(config.model) or config.max_length),
            generation_config="vllm",
            seed=config.seed,
            **machine,
        )

    def sample(self, prompts: Sequence[Ids], seed: int) -> list[list[int]]:
        import torch
        from vllm import SamplingParams

        with torch.no_grad():
            self._engine.collective_rpc(
                "reload_weights", kwargs={"weights_iterator": self._networks.policy_weights()}
            )
        self._engine.reset_prefix_cache()
        plans = [
            SamplingParams(
                temperature=self._config.temperature,
                max_tokens=self._config.max_new_tokens,
                seed=seed + place,
                stop_token_ids=self._ends,
                detokenize=False,
            )
            for place in range(len(prompts))
        ]
        told = self._engine.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts], plans, use_tqdm=False
        )
        return [list(result.outputs[0].token_ids) for result in told]

    def close(self) -> None:
        """Ends the engine and what it set up in this process."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.llm_engine.engine_core.shutdown()
        del self._engine
        cleanup_dist_env_and_memory()
