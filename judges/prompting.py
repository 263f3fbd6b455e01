"""Judge prompts: text files filled in one pass, with what is judged fenced off."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from prefgen.errors import InputError, UsageError
from prefgen.messages import content_hash
from prefgen.prompt import Prompt

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with `{{name}}` placeholders. `hash` goes into every judgment's provenance."""

    text: str

    @property
    def hash(self) -> str:
        return content_hash(self.text)

    @property
    def names(self) -> set[str]:
        return set(_PLACEHOLDER.findall(self.text))

    def beginning(self, values: Mapping[str, str], names: Set[str]) -> int:
        """How many characters the filled template has before its first placeholder that is not in `names`."""
        grown = 0
        for found in _PLACEHOLDER.finditer(self.text):
            if found[1] not in names:
                return found.start() + grown
            grown += len(values[found[1]]) - len(found[0])
        return len(self.text) + grown

    def fill(self, values: Mapping[str, str]) -> str:
        """One pass over the template: what is filled in is never searched for placeholders again."""
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)


def shipped(name: str) -> Template:
    text = (importlib.resources.files("judges") / "templates" / f"{name}.txt").read_text(encoding="utf-8")
    return Template(text.strip())


REFERENCE = shipped("reference")


def load_template(path: Path, required: set[str], allowed: set[str]) -> Template:
    """A user's template. Raises InputError where a placeholder is missing or unknown."""
    try:
        template = Template(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"the judge template cannot be read ({error})") from error
    wrong = (required - template.names) or (template.names - allowed)
    if wrong:
        raise InputError(
            path,
            "a judge template with wrong placeholders",
            seen=", ".join(sorted(template.names)) or "none",
            expected=f"{', '.join(sorted(required))}; and at will {', '.join(sorted(allowed - required))}",
        )
    return template


def fence(prompt: str, *responses: str) -> str:
    """A tag ending that occurs in none of the texts.

    It depends on the prompt alone unless a response contains it, so that all judge calls about one
    prompt share their beginning and a server can cache it.
    """
    texts = [text.casefold() for text in (prompt, *responses)]
    for attempt in count():
        # A response made to hold these fences cannot hold the hash of itself.
        guarded = "\0".join((prompt, *responses)) if attempt >= 10 else prompt
        tag = hashlib.sha256(f"{attempt}\0{guarded}".encode()).hexdigest()[:8]
        if not any(tag in text for text in texts):
            return tag
    raise AssertionError("counting has no end")


def fenced(prompt: Prompt, column: str | None = None, **texts: str) -> dict[str, str]:
    """What fills a judge's template: `texts` by name, `prompt`, the `fence` around all of them, and
    `reference`, the block with the reference answer of `column`; empty where there is none.

    Raises UsageError where the prompt has no text in that column.
    """
    reference = None if column is None else _reference(prompt, column)
    held = texts.values() if reference is None else (*texts.values(), reference)
    values = {**texts, "prompt": prompt.text, "fence": fence(prompt.text, *held), "reference": ""}
    if reference is not None:
        values["reference"] = REFERENCE.fill({**values, "reference": reference}) + "\n\n"
    return values


def _reference(prompt: Prompt, column: str) -> str:
    text = prompt.columns.get(column)
    if not isinstance(text, str) or not text.strip():
        raise UsageError(
            f"--reference {column}: prompt {prompt.id} has no text in that column\n"
            f"  seen: {text!r:.80}\n  expected: a reference answer for every prompt"
        )
    return text
