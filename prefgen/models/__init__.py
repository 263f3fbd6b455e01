"""MODEL specs, and the adapters behind them: `PROVIDER/NAME[@BASE_URL]`.

openai/NAME            OpenAI, or with @http://… any OpenAI-compatible server
anthropic/NAME         Anthropic, or with @URL a server that speaks its protocol
vllm/PATH_OR_ID        vLLM in this process
transformers/PATH_OR_ID   transformers in this process
scripted/NAME          the shipped fake: `writer`, `judge`
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prefgen.completion import Model, RewardModel
from prefgen.errors import UsageError
from prefgen.messages import Json
from prefgen.models.ensemble import EnsembleUse, find_ensemble, open_ensemble
from prefgen.secrets import check_url, hide

PROVIDERS = ("openai", "anthropic", "vllm", "transformers", "scripted")
REWARD_PROVIDERS = ("openai", "vllm", "transformers")
LOCAL_PROVIDERS = ("vllm", "transformers", "scripted")
_OPENAIS = re.compile(r"(?:chat)?gpt-|o\d(?:-|$)")
_BARE_ADDRESS = re.compile(r"@((?:localhost|[\w.-]+:\d+)(?:[:/]\S*)?)$")
_SPEC = re.compile(r"^(?P<provider>[^/]+)/(?P<name>.+?)(?:@(?P<url>https?://\S+))?$")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    provider: str
    name: str
    base_url: str | None = None

    @classmethod
    def parse(cls, text: str, providers: tuple[str, ...] = PROVIDERS) -> ModelSpec:
        """Raises UsageError with the known providers and the nearest of them."""
        found = _SPEC.match(text)
        if found is None:
            raise UsageError(
                f"{hide(text)!r} is not a model; expected PROVIDER/NAME[@BASE_URL], for example "
                f"openai/NAME, openai/NAME@http://127.0.0.1:8000/v1 or vllm/PATH{_meant(text, providers)}"
            )
        provider, name, url = found["provider"], found["name"], found["url"]
        if url is not None:
            check_url(url, f"{provider}/{name}")
        text = hide(text)
        if url is None and (bare := _BARE_ADDRESS.search(name)):
            raise UsageError(
                f"{text!r}: a BASE_URL starts with http:// or https://, so write "
                f"{provider}/{hide(name[: bare.start()])}@http://{bare[1]}"
            )
        if provider not in providers:
            near = difflib.get_close_matches(provider, providers, n=1)
            hint = f"; did you mean {near[0]}/{name}?" if near else _meant(text, providers)
            raise UsageError(
                f"{text!r}: unknown provider {provider!r}, expected {', '.join(providers)}{hint}"
            )
        if url is not None and provider in LOCAL_PROVIDERS:
            raise UsageError(
                f"{text!r}: {provider} runs in this process and takes no URL; "
                f"for a server: openai/{name}@{url}"
            )
        return cls(provider, name, url)

    @property
    def text(self) -> str:
        return f"{self.provider}/{self.name}" + (f"@{self.base_url}" if self.base_url else "")


def _meant(text: str, providers: tuple[str, ...]) -> str:
    """What a text without a provider may have been meant for, as the end of a message."""
    name = hide(text.strip())
    if name.startswith(("http://", "https://")):
        likely = [f"openai/NAME@{name}"]
    elif name in providers:
        likely = [f"{name}/{'PATH' if name in LOCAL_PROVIDERS else 'NAME'}"]
    elif _OPENAIS.match(name) and "openai" in providers:
        likely = [f"openai/{name}"]
    elif name.startswith("claude") and "anthropic" in providers:
        likely = [f"anthropic/{name}"]
    elif "/" in name or Path(name).is_dir():
        likely = [f"{provider}/{name}" for provider in ("vllm", "transformers") if provider in providers]
    else:
        return ""
    return f"; did you mean {' or '.join(likely)}?"


_FAMILIES = (
    "gpt",
    "claude",
    "llama",
    "qwen",
    "gemma",
    "gemini",
    "mistral",
    "deepseek",
    "phi",
    "olmo",
    "command",
    "glm",
    "kimi",
    "granite",
    "nemotron",
)


def family(spec: str) -> str:
    """The family a model belongs to by its name, for warnings; its own name where none is recognised."""
    return family_of_name(ModelSpec.parse(spec).name)


def family_of_name(name: str) -> str:
    """The same of a bare name, as data files have it."""
    name = name.lower()
    return next((known for known in _FAMILIES if known in name), name)


async def open_model(text: str, options: Mapping[str, Json] | None = None, share: int = 1) -> Model:
    """The adapter of a spec, ready for calls.

    `options`: engine arguments of a local model. `share`: how many vLLM engines this process will
    hold, so that they divide a GPU. Raises UsageError, MissingExtraError, ModelUnavailableError.
    """
    spec = ModelSpec.parse(text)
    match spec.provider:
        case "openai":
            from prefgen.models.openai import OpenAIModel

            return OpenAIModel(spec.name, spec.text, spec.base_url)
        case "anthropic":
            from prefgen.models.anthropic import AnthropicModel

            return AnthropicModel(spec.name, spec.text, spec.base_url)
        case "vllm":
            from prefgen.models.vllm import open_vllm

            return await open_vllm(spec.name, spec.text, options, share)
        case "transformers":
            from prefgen.models.transformers import open_transformers

            return await open_transformers(spec.name, spec.text, options)
        case _:
            from prefgen.models.scripted import open_scripted

            return open_scripted(spec.name, options)


async def open_reward_model(
    text: str, options: Mapping[str, Json] | None = None, share: int = 1, use: EnsembleUse | None = None
) -> RewardModel:
    """The reward model of a spec, or all of an ensemble's as one; raises as `open_model`.

    `use`: how an ensemble's members are combined, by their mean unless told.
    """
    spec = ModelSpec.parse(text, REWARD_PROVIDERS)
    ensemble = find_ensemble(spec.name) if spec.provider in LOCAL_PROVIDERS else None
    if ensemble is not None:
        member = partial(open_reward_model, options=options, share=share)
        return await open_ensemble(spec.text, ensemble, use or EnsembleUse(), member)
    match spec.provider:
        case "openai":
            from prefgen.models.openai_reward import OpenAIRewardModel

            if spec.base_url is None:
                raise UsageError(
                    f"{text!r}: a reward model behind a server needs its URL: openai/NAME@http://…"
                )
            return OpenAIRewardModel(spec.name, spec.text, spec.base_url)
        case "vllm":
            from prefgen.models.vllm_reward import open_vllm_reward

            return await open_vllm_reward(spec.name, spec.text, options, share)
        case _:
            from prefgen.models.transformers_reward import open_transformers_reward

            return await open_transformers_reward(spec.name, spec.text, options)
