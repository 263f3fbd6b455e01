"""New weights in a running engine: whether they may go in, and whether they did.

An engine that went on with old weights would answer as the model it no longer is, so a reload is believed
only where the engine then says what transformers says of the new files.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from prefgen.completion import CompletionRequest, Model, Sampling
from prefgen.errors import GateError
from prefgen.messages import user
from prefgen.models.local import adapter_base

TOLERANCE = 0.05
"""Largest difference allowed, in nats or units of reward; bf16 kernels differ by less."""
EQUAL = 1e-3
"""Difference in nats below which two models are one; float32 kernels differ by less."""
PROBES = ("Hello, where is my order?", "Write one sentence about the sea.", "What is 12 times 12?")
_WORDS = ("A", "B", "Yes", "No", "The", "I", "yes", "no", "Hello", "Hi")
_NO_MATTER = {
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "_from_model_config",
}
_TOKENS = ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor")


class NotReloadedError(Exception):
    """The weights did not go in, and the engine has to be started anew; the message is the reason."""


@runtime_checkable
class Reloadable(Model, Protocol):
    """A model that can take other weights while it runs; `spec` and `identity` are then those of the new.

    `reload` raises NotReloadedError; the engine is then of no further use.
    """

    async def reload(self, path: str, spec: str) -> None: ...


async def reload_checked(model: Reloadable, path: str, spec: str) -> None:
    """Reloads, then compares the engine with transformers on a probe. Raises NotReloadedError.

    transformers loads the new weights once, on the CPU.
    """
    from prefgen.models.transformers import open_transformers

    before = await first_words(model)
    await model.reload(path, spec)
    after = await first_words(model)
    reference = await open_transformers(path, f"transformers/{path}", {"device": "cpu"})
    try:
        expected = await first_words(reference)
    finally:
        await reference.aclose()
    try:
        was, now = largest_difference(before, expected), largest_difference(after, expected)
    except GateError as error:
        raise NotReloadedError(str(error)) from error
    if not is_fresh(was, now):
        raise NotReloadedError(
            f"its log-probabilities were {was:.3g} from the new weights', and {now:.3g} after the reload"
        )


def is_fresh(was: float, now: float) -> bool:
    """Whether an engine holds the new weights, from its largest difference to them before and after.

    A short training may move log-probabilities by less than kernels differ, so a small difference is not
    enough: it must be as small as rounding in float32, or have shrunk to less than half.
    """
    return now <= EQUAL or (now <= TOLERANCE and now < was / 2)


async def first_words(model: Model) -> list[Mapping[str, float]]:
    """Log-probabilities of some words as the first one of the answer to some prompts."""
    requests = [
        CompletionRequest(user(prompt), Sampling(max_tokens=1, temperature=0.0), label_words=_WORDS)
        for prompt in PROBES
    ]
    replies = await asyncio.gather(*(model.complete(request) for request in requests))
    return [reply.completions[0].label_logprobs or {} for reply in replies]


def largest_difference(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> float:
    """Over the names both have, row by row. Raises GateError where they share none."""
    differences = [abs(a[name] - b[name]) for a, b in zip(ours, theirs, strict=True) for name in a.keys() & b]
    if not differences:
        raise GateError("nothing could be compared: the model's tokenizer has none of the words asked for")
    return max(differences)


def objection(running: Path, new: Path) -> str | None:
    """Why the weights in `new` cannot take the place of those in `running`; None: the files allow it."""
    if adapter_base(running) is not None or adapter_base(new) is not None:
        return "an adapter is loaded at the start only"
    for name, what in {"config.json": "shape", "generation_config.json": "generation config"}.items():
        ours, theirs = (_without(_json(folder / name), _NO_MATTER) for folder in (running, new))
        changed = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if changed:
            return f"another {what}: {', '.join(changed)}"
    ours, theirs = (_json(folder / "tokenizer.json") for folder in (running, new))
    if any(ours.get(part) != theirs.get(part) for part in _TOKENS) or _template(running) != _template(new):
        return "another tokenizer or chat template"
    return None


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _template(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    inline: str | None = _json(folder / "tokenizer_config.json").get("chat_template")
    return path.read_text(encoding="utf-8") if path.is_file() else inline


def precision(folder: Path) -> str | None:
    """The data type a model's config names."""
    config = _json(folder / "config.json")
    found: str | None = config.get("dtype") or config.get("torch_dtype")
    return found
