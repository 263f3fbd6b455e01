"""What the tokenizer makes of the rows before a step is paid for: too long, cut, empty, the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from prefgen.errors import InputError, UsageError
from prefgen.messages import Role, as_dicts
from trainers.rows import Row, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = 3


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one row. `shared`: how many leading ids prompt and completions have in common."""

    prompt: tuple[int, ...]
    sequences: tuple[tuple[int, ...], ...]
    shared: int


@dataclass(frozen=True, slots=True)
class Checked:
    """`dropped`: rows left out by reason; `cut`: rows kept whose completion loses its end.

    `unaligned`: rows whose prompt is not how prompt and completion begin; `unended`: rows with a completion
    without an end token; `doubled`: rows that begin with two begin tokens; `spaced`: pairs that differ in
    nothing but whitespace; `lost`: rows by the role of a turn that the chat template leaves out; `probes`:
    token ids of a few kept rows, to compare models by.
    """

    rows: list[Row]
    dropped: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    unaligned: int = 0
    unended: int = 0
    doubled: int = 0
    spaced: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    probes: tuple[tuple[int, ...], ...] = ()

    def counts(self) -> dict[str, int]:
        dropped = {f"dropped_{reason}": number for reason, number in sorted(self.dropped.items())}
        return {"used": len(self.rows), "completion_cut": self.cut, **dropped}


def check_rows(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    ends: Collection[int],
    keep_cut: bool,
    reserve: int = 0,
) -> Checked:
    """The rows a trainer can use, and the count of all others.

    `max_length`: tokens of prompt and completion; `ends`: ids that end a turn; `keep_cut`: whether a
    completion that loses its end still teaches; `reserve`: tokens that a completion yet to be written needs.
    Raises InputError where the chat template refuses a row.
    """
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    cut = unaligned = unended = doubled = spaced = 0
    probes: list[tuple[int, ...]] = []
    for row, encoded in _encode_all(rows, tokenizer):
        reason = drop_reason(row, encoded, max_length, keep_cut, reserve)
        if reason:
            dropped[reason] += 1
            continue
        kept.append(row)
        cut += any(len(ids) > max_length for ids in encoded.sequences)
        unaligned += encoded.shared < len(encoded.prompt)
        unended += not all(any(i in ends for i in ids[encoded.shared :]) for ids in encoded.sequences)
        doubled += begins_twice(encoded, tokenizer.bos_token_id)
        spaced += differ_in_whitespace(row)
        lost.update(lost_roles(row, tokenizer))
        probes += [(encoded.sequences or (encoded.prompt,))[0][:max_length]] if len(probes) < PROBES else []
    return Checked(kept, dropped, cut, unaligned, unended, doubled, spaced, lost, tuple(probes))


def drop_reason(row: Row, encoded: Encoded, max_length: int, keep_cut: bool, reserve: int = 0) -> str | None:
    """Why a row cannot be used, or None. An empty completion teaches only when it is the one not wanted."""
    if row.completions and row.label is not False and not _last_text(row.completions[0]).strip():
        return "empty_completion"
    if encoded.shared + max(1, reserve) > max_length:
        return "prompt_too_long"
    if not keep_cut and any(len(ids) > max_length for ids in encoded.sequences):
        return "too_long"
    if len(encoded.sequences) > 1 and len({ids[:max_length] for ids in encoded.sequences}) == 1:
        return "same_completions"
    return None


def begins_twice(encoded: Encoded, begin: int | None) -> bool:
    """Whether a row has two begin tokens, as where a text holds one and the tokenizer adds its own."""
    both = (begin, begin)
    return begin is not None and any(ids[:2] == both for ids in (encoded.prompt, *encoded.sequences))


def differ_in_whitespace(row: Row) -> bool:
    """Whether the completions of a pair have the same words; such a pair teaches spacing."""
    words = {tuple(_last_text(text).split()) for text in row.completions}
    return len(row.completions) > 1 and len(words) == 1


def lost_roles(row: Row, tokenizer: PreTrainedTokenizerBase) -> set[Role]:
    """Roles of which the chat template leaves out a turn's text. What stands in <think> does not count:
    templates leave it out of past turns on purpose."""
    lost: set[Role] = set()
    for completion in (row.completions or ((),)) if row.conversational else ():
        turns = (*row.prompt, *completion)
        shown = tokenizer.apply_chat_template(as_dicts(turns), tokenize=False)
        said = ((turn.role, _without_thoughts(turn.content).strip()) for turn in turns)
        lost |= {role for role, text in said if text not in shown}
    return lost


def _without_thoughts(text: str) -> str:
    spoken, after = [], 0
    while 0 <= (start := text.find("<think>", after)) < (end := text.find("</think>", start)):
        spoken.append(text[after:start])
        after = end + len("</think>")
    return "".join(spoken) + text[after:]


def _last_text(text: Text) -> str:
    return text if isinstance(text, str) else text[-1].content


def _encode_all(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[Row, Encoded]]:
    for row in rows:
        if row.conversational and not tokenizer.chat_template:
            raise UsageError(
                f"{row.path} holds messages, but the model's tokenizer has no chat template for them; "
                "start from a chat model, or give plain strings"
            )
        yield row, encode(row, tokenizer)


def encode(row: Row, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """The ids a TRL trainer will make of a row: through the chat template, or as text with an end token."""
    try:
        prompt = _ids(row.prompt, tokenizer, open_turn=True)
        sequences = tuple(_ids(_join(row.prompt, text, tokenizer), tokenizer) for text in row.completions)
    except Exception as error:  # a template is a program of the model's author: it raises what it likes
        raise InputError(row.path, f"the chat template refuses this row ({error})", line=row.line) from error
    shared = min((_common_prefix(prompt, ids) for ids in sequences), default=len(prompt))
    return Encoded(prompt, sequences, shared)


def _join(prompt: Text, completion: Text, tokenizer: PreTrainedTokenizerBase) -> Text:
    if isinstance(prompt, str) and isinstance(completion, str):
        end = tokenizer.eos_token or ""
        return prompt + (completion if completion.endswith(end) else completion + end)
    return tuple(prompt) + tuple(completion)  # type: ignore[return-value]  # read_rows refuses a mixture


def _ids(text: Text, tokenizer: PreTrainedTokenizerBase, open_turn: bool = False) -> tuple[int, ...]:
    if isinstance(text, str):
        return tuple(tokenizer(text)["input_ids"])
    encoded = tokenizer.apply_chat_template(
        as_dicts(text), tokenize=True, return_dict=True, add_generation_prompt=open_turn
    )
    return tuple(encoded["input_ids"])


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def explain(checked: Checked, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What a careful person would want to know about the training rows, in words."""
    total = len(checked.rows)
    texts = {
        "prompt is not how prompt and completion together begin, so the model trains on other contexts than "
        "it will see (end prompts on a token boundary)": checked.unaligned,
        "completion has no end token, so the model may learn never to stop (see the chat template)": (
            checked.unended
        ),
        "completion is longer than --max-length and loses its end": checked.cut,
        "row begins with two begin tokens, one written in it (or by the chat template) and one that the "
        "tokenizer adds; the model knows one (take it out of the text or the template)": checked.doubled,
        "chosen and the rejected completion differ in whitespace alone, so the pair teaches spacing (drop it "
        "unless that is what is wanted)": checked.spaced,
        "system turn is left out by the model's chat template, so the model never sees it (move it into the "
        "user's turn, or give the tokenizer another template)": checked.lost["system"],
        "text of a user's turn is left out by the model's chat template (give the tokenizer another "
        "template)": checked.lost["user"],
    }
    found = [f"{number} of {total} rows: the {text}" for text, number in texts.items() if number]
    found += [
        f"{number} rows dropped: {reason.replace('_', ' ')}" for reason, number in checked.dropped.items()
    ]
    if checked.rows and not checked.rows[0].conversational and tokenizer.chat_template:
        found.append(
            "the rows are plain strings, so the model's chat template is not applied (see --as-chat)"
        )
    return found
