"""Two conversations with one beginning, as Anthropic's HH files and TRL's implicit prompts hold them.

A transcript is "\\n\\nHuman: …\\n\\nAssistant: …" (Bai et al. 2022, arXiv 2204.05862).
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Literal

from prefgen.messages import Message, Messages

_MARK = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}


def parse_transcript(text: str) -> Messages:
    """The turns of a transcript, each without the white space around it. Raises ValueError."""
    start, *parts = _MARK.split(text.replace("\r\n", "\n"))
    if not parts:
        raise ValueError('no transcript: no turn begins with "Human:" or "Assistant:"')
    if start.strip():
        raise ValueError(f'no transcript: text before the first "Human:": {start.strip()[:40]!r}')
    turns = tuple(
        Message(_ROLES[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)
    )
    if turns[0].role != "user":
        raise ValueError("the transcript begins with Assistant, so there is no prompt")
    if turns[-1].role != "assistant":
        raise ValueError("the transcript ends with Human, so there is no answer")
    return turns


def split_prompt(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """The turns that both have in common, and what each has after them. Raises ValueError.

    What comes after has to be answers to the same prompt, so it begins with the assistant on both sides.
    """
    both = takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
    shared = len(list(both))
    if shared == 0:
        raise ValueError("the two conversations share no beginning, so they have no prompt in common")
    left, right = chosen[shared:], rejected[shared:]
    if not left and not right:
        raise ValueError("chosen and rejected are the same")
    if not left or not right:
        raise ValueError("one conversation is the beginning of the other")
    if left[0].role != "assistant" or right[0].role != "assistant":
        raise ValueError(
            f"turn {shared + 1} is not the assistant's in both, so they answer different prompts"
        )
    return chosen[:shared], left, right
