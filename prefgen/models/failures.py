"""What a server's words for a failure mean."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

# A value out of range must stay an error: only a parameter that is not wanted at all may be left out.
_UNWANTED = re.compile(
    r"unsupported|(?:not|n't)(?: yet| both)?(?: be)? (?:support|allow|permit|accept|available|used|specified)"
    r"|unknown|unrecogni[sz]ed|unexpected|extra[_ ](?:inputs|fields|forbidden)|deprecated|only the default",
    re.I,
)
_SYSTEM = re.compile(
    r"system['\"]? (?:role|message|prompt|instruction)|role.{0,40}\bsystem"
    r"|developer instruction|must alternate",
    re.I,
)
# What one choice was asked for may be left out whatever the words are: asking in another way costs nothing.
_ALWAYS_OPTIONAL = ("logprobs", "n", "structured_output", "prompt_cache")
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "logprobs": ("logprobs", "top_logprobs"),
    "structured_output": ("response_format", "structured_outputs", "output_config"),
    "prompt_cache": ("prompt_cache_key",),
    "n": ("n",),
    "seed": ("seed",),
    "top_p": ("top_p",),
    "temperature": ("temperature",),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error body: the provider's words, its code and type, and the parameter it names."""

    words: str
    code: str = ""
    param: str = ""


def read_failure(text: str) -> Failure:
    """Reads `{"error": {…}}` (OpenAI, Anthropic, vLLM), `{"detail": …}` (FastAPI), or any text."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = text
    error = data.get("error") or data if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return Failure(_short(str(error)))
    words = error.get("message") or error.get("detail") or text
    code = f"{error.get('code') or ''} {error.get('type') or ''}"
    param = str(error.get("param") or "")
    if isinstance(words, list) and words and isinstance(words[0], dict):
        first = words[0]
        words, code = first.get("msg", words), str(first.get("type", ""))
        param = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    return Failure(_short(str(words)), code, param)


def refused_capability(failure: Failure, payload: Mapping[str, object]) -> str | None:
    """The field of `Capabilities` that a 400 is about, if we sent it and can do without it."""
    said = f"{failure.code} {failure.words}"
    named = re.split(r"[.\[]", failure.param)[0]
    for capability, names in _PARAMETERS.items():
        sent = [name for name in names if name in payload]
        about = sent and (named in names or any(_mentions(failure.words, name) for name in sent))
        if about and (capability in _ALWAYS_OPTIONAL or _UNWANTED.search(said)):
            return capability
    if _has_system(payload) and _SYSTEM.search(f"{failure.param} {failure.words}"):
        return "system_role"
    return None


def _mentions(words: str, name: str) -> bool:
    if name == "n":
        return re.search(r"['\"`]n['\"`]|\bn\s*(?:=|>|<|must|greater|larger)", words) is not None
    return re.search(rf"(?<!\w){name}(?!\w)", words) is not None


def _has_system(payload: Mapping[str, object]) -> bool:
    messages = payload.get("messages")
    return isinstance(messages, list) and any(message["role"] == "system" for message in messages)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or a date); None if not said."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(headers[name]) * unit
            return max(0.0, seconds) if math.isfinite(seconds) else None
    with contextlib.suppress(KeyError, ValueError):
        until = parsedate_to_datetime(headers["retry-after"]).timestamp()
        # By the server's own clock where it tells the time: ours may be wrong.
        sent = headers.get("date")
        now = time.time() if sent is None else parsedate_to_datetime(sent).timestamp()
        return max(0.0, until - now)
    return None


def _short(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
