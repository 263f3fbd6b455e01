"""What people thought of responses, in the forms it is logged in, as comparisons and ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from prefgen.messages import Json, Message, Messages, as_dicts, messages_hash, parse_messages, user
from prefgen.numbers import as_number
from prefgen.opinion import OPINIONS, Reading, opinion
from prefgen.ratings import Listed, list_columns, read_listed
from prefgen.transcript import parse_transcript, split_prompt

Text: TypeAlias = str | Messages
Layout = Literal["kept", "sent", "pair", "transcripts", "rated", "list", "ranks", "two", "arena"]


@dataclass(frozen=True, slots=True)
class Compared:
    """Two responses to one prompt, of which one is better. `numbers`: of the row, such as its margin."""

    prompt: Text
    better: Text
    worse: Text
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rated:
    """One response and whether it is wanted."""

    prompt: Text
    response: Text
    good: bool


@dataclass(frozen=True, slots=True)
class Neutral:
    """A row that is sound and says nothing either way; `why` in a few words."""

    why: str


def layout_of(values: Mapping[str, Json]) -> Layout | None:
    """Which form a row has, by its columns."""
    if "kept" in values and "discarded" in values:
        return "kept"
    if "sent" in values and "draft" in values:
        return "sent"
    if "chosen" in values and "rejected" in values:
        return "pair" if "prompt" in values else "transcripts"
    if "conversation_a" in values and "conversation_b" in values and "winner" in values:
        return "arena"
    if "response_0" in values and "response_1" in values and _better_column(values):
        return "two"
    asked = "prompt" in values or "instruction" in values
    if asked and "answers" in values:
        return "ranks"
    if asked and ("completions" in values or list_columns(values) is not None):
        return "list"
    answered = "response" in values or "completion" in values
    return "rated" if answered and any(name in values for name in OPINIONS) else None


def read_feedback(values: Mapping[str, Json], reading: Reading) -> Compared | Rated | Listed | Neutral:
    """What a row says. Raises ValueError, with the reason, where it cannot be understood.

    The sent text is better than its draft where they differ; sent as it was drafted, it is good and no more.
    """
    layout = layout_of(values)
    if layout is None:
        raise ValueError(f"no known columns: {', '.join(values) or 'none'}")
    if layout == "transcripts":
        return compare(*_split(values["chosen"], values["rejected"]), _numbers(values))
    if layout == "list" or layout == "ranks":
        return read_listed(values, reading.rate_by)
    if layout == "arena":
        return _fought(values)
    prompt = _prompt(values.get("prompt"))
    if layout == "two":
        return _better_of_two(prompt, values)
    if layout == "kept":
        return compare(prompt, _answer(values, "kept"), _answer(values, "discarded"))
    if layout == "pair":
        return _pair(prompt, values)
    if layout == "sent":
        sent, draft = _answer(values, "sent"), _answer(values, "draft")
        return Rated(prompt, _written(sent), True) if _same(sent, draft) else compare(prompt, sent, draft)
    response = _answer(values, "response" if "response" in values else "completion")
    good = opinion(values, reading)
    if good is None:
        return Neutral("neutral or no opinion")
    return Rated(prompt, _written(response) if good else response, good)


# ---------------------------------------------------------------------------------------- from one to other


def unpaired(compared: Compared) -> list[Rated]:
    """Both sides of a comparison on their own."""
    return [
        Rated(compared.prompt, compared.better, True),
        Rated(compared.prompt, compared.worse, False),
    ]


def paired(rated: Sequence[Rated]) -> tuple[list[tuple[int, Compared]], list[int]]:
    """Good and bad responses to one prompt in their order, the first with the first; each is used once.

    Gives the comparisons with the place of their good response, and the places of what is left over. Two
    responses that are the same are no comparison.
    """
    places: dict[str, tuple[list[int], list[int]]] = {}
    for place, row in enumerate(rated):
        places.setdefault(prompt_hash(row.prompt), ([], []))[0 if row.good else 1].append(place)
    met = [pair for goods, bads in places.values() for pair in zip(goods, bads, strict=False)]
    differing = [(good, bad) for good, bad in met if not _same(rated[good].response, rated[bad].response)]
    used = {place for pair in differing for place in pair}
    made = [
        (good, Compared(rated[good].prompt, rated[good].response, rated[bad].response))
        for good, bad in sorted(differing)
    ]
    return made, [place for place in range(len(rated)) if place not in used]


def prompt_hash(prompt: Text) -> str:
    return messages_hash(user(prompt) if isinstance(prompt, str) else prompt)


# -------------------------------------------------------------------------------------------------- its parts


def _prompt(value: Json) -> Text:
    messages = parse_messages(value)
    return _unix(value) if isinstance(value, str) else messages


def _answer(values: Mapping[str, Json], column: str) -> Text:
    """A string, or an assistant's turns; empty text is for who reads it to judge."""
    value = values[column]
    if isinstance(value, str):
        return _unix(value)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{column} is neither text nor messages: {value!r:.80}")
    # A closing user turn lets the prompt's parser check turns that end with the assistant's.
    turns = parse_messages([*value, *as_dicts(user("?"))])[:-1]
    if turns[-1].role != "assistant":
        raise ValueError(f"{column} does not end with the assistant's turn")
    return turns


def _pair(prompt: Text, values: Mapping[str, Json]) -> Compared | Neutral:
    """Where chosen and rejected are whole conversations, as in UltraFeedback binarized, their common
    beginning is the prompt, and the row's has to stand in it."""
    scores = _scores(values)
    if scores is not None and scores[0] == scores[1]:
        return Neutral("tie")
    if scores is not None and scores[0] < scores[1]:
        raise ValueError(f"chosen is rated {scores[0]:g}, below the {scores[1]:g} of rejected")
    chosen, rejected = _answer(values, "chosen"), _answer(values, "rejected")
    whole = [not isinstance(side, str) and side[0].role != "assistant" for side in (chosen, rejected)]
    if not any(whole):
        return compare(prompt, chosen, rejected, _numbers(values))
    if not all(whole) or isinstance(chosen, str) or isinstance(rejected, str):
        raise ValueError("one of chosen and rejected is a whole conversation and the other an answer")
    shared, better, worse = split_prompt(chosen, rejected)
    if isinstance(prompt, str):
        known = any(turn.role == "user" and turn.content.strip() == prompt.strip() for turn in shared)
    else:
        known = prompt == shared
    if not known:
        raise ValueError("chosen and rejected begin with another prompt than the row's")
    return compare(shared, better, worse, _numbers(values))


_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)


def _scores(values: Mapping[str, Json]) -> tuple[float, float] | None:
    names = next((pair for pair in _SCORES if pair[0] in values and pair[1] in values), None)
    if names is None:
        return None
    chosen, rejected = (as_number(values[name]) for name in names)
    if chosen is None or rejected is None:
        raise ValueError(f"{names[0]} {values[names[0]]!r}, {names[1]} {values[names[1]]!r}: not two numbers")
    return chosen, rejected


def _better_column(values: Mapping[str, Json]) -> str | None:
    return next((name for name in ("better_response_id", "safer_response_id") if name in values), None)


def _better_of_two(prompt: Text, values: Mapping[str, Json]) -> Compared:
    """PKU-SafeRLHF: the number of the better response, or of the safer where only that is told."""
    column = _better_column(values) or ""
    better = as_number(values[column])
    if better not in (0, 1):
        raise ValueError(f"{column} {values[column]!r} is not 0 or 1")
    sides = _answer(values, "response_0"), _answer(values, "response_1")
    return compare(prompt, *(sides if better == 0 else sides[::-1]))


def _fought(values: Mapping[str, Json]) -> Compared | Neutral:
    """Chatbot Arena: two conversations and who won."""
    winner = values["winner"]
    if isinstance(winner, str) and winner.startswith("tie"):
        return Neutral("tie")
    if winner not in ("model_a", "model_b"):
        raise ValueError(f"winner {winner!r} is not model_a, model_b or tie")
    sides = values["conversation_a"], values["conversation_b"]
    return compare(*_split(*(sides if winner == "model_a" else sides[::-1])))


def _split(chosen: Json, rejected: Json) -> tuple[Text, Text, Text]:
    return split_prompt(_conversation("chosen", chosen), _conversation("rejected", rejected))


def _conversation(column: str, value: Json) -> Messages:
    try:
        if isinstance(value, str):
            return parse_transcript(value)
        turns = _answer({column: value}, column)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from error
    assert not isinstance(turns, str)
    return turns


def compare(prompt: Text, better: Text, worse: Text, numbers: Mapping[str, float] | None = None) -> Compared:
    """An empty text can be the worse one. Raises ValueError where there is nothing to compare."""
    if _same(better, worse):
        raise ValueError("both responses are the same text")
    return Compared(prompt, _written(better), worse, numbers or {})


def _written(text: Text) -> Text:
    if not _last(text).strip():
        raise ValueError("the good response is empty")
    return text


def _same(left: Text, right: Text) -> bool:
    """White space around a text is no difference."""
    return _stripped(left) == _stripped(right)


def _stripped(text: Text) -> Messages:
    turns = (Message("assistant", text),) if isinstance(text, str) else text
    return (*turns[:-1], Message(turns[-1].role, turns[-1].content.strip()))


def _last(text: Text) -> str:
    return text if isinstance(text, str) else text[-1].content


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _numbers(values: Mapping[str, Json]) -> dict[str, float]:
    found = {name: as_number(values.get(name)) for name in ("margin", "confidence")}
    return {name: number for name, number in found.items() if number is not None}
