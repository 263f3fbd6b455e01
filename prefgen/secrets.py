"""Keys stay out of whatever is written or shown.

A key comes from the environment and goes into a request's header, nowhere else. A URL that carries one is
refused (`check_url`), because it would be part of a model's name and so of every table; what is shown to
people goes through `hide` all the same.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from prefgen.errors import UsageError

HIDDEN = "[hidden]"
SHORTEST = 16
"""Characters of a real key, at least: hiding a made-up one ("EMPTY") could change a text."""
_VARIABLE = re.compile(r"(?:API_KEY|TOKEN|SECRET|PASSWORD)\Z")
_SHAPES = (
    re.compile(r"(?<=//)[^\s/@]{1,1000}(?=@)"),
    re.compile(r"(?<=@)[^\s/@:]{1,1000}:[^\s/@]{1,1000}(?=@)"),
    re.compile(r"(?i)(?<=[?&])([\w-]{0,40}(?:key|token|secret|passw|auth|sig)[\w-]{0,40}=)[^\s&#'\"]+"),
    re.compile(r"\b(sk-|hf_)[\w-]{16,}"),
)


def check_url(url: str, where: str) -> None:
    """Raises UsageError where a base URL holds more than an address. `where`: what the user wrote it in, and
    nothing of the URL itself."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if "@" in parts.netloc or parts.query or parts.fragment or port == 0:
        raise UsageError(
            f"{where}: the BASE_URL holds more than scheme, host, port and path; a password or key in it "
            "would be written to disk with the model's name: put it in OPENAI_API_KEY or ANTHROPIC_API_KEY"
        )


def hide(text: str) -> str:
    """`text` without the keys of the environment, passwords and keys in URLs, and what looks like a key."""
    for value in {value for name, value in os.environ.items() if _VARIABLE.search(name)}:
        if len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    for shape in _SHAPES:
        text = shape.sub(lambda found: (found[1] if found.re.groups else "") + HIDDEN, text)
    return text
