"""Text of models and users costs little to read, however it is made up: nothing here is quadratic."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import zstandard

from judges.evidence import Unreadable, read_score, read_vote
from judges.listwise import read_ranking
from judges.probes import variants
from pipelines.card import code, inert
from pipelines.evaluation.alignment_tax import normalised
from pipelines.markup import clipped, plain
from prefgen import ledger_values
from prefgen.completion import Completion
from prefgen.decontamination import words as words_of
from prefgen.errors import InputError, UsageError
from prefgen.messages import parse_messages
from prefgen.models.answers import answer_text
from prefgen.models.failures import read_failure, refused_capability
from prefgen.models.scripted import _shown
from prefgen.pairing import similarity
from prefgen.records import read_records
from prefgen.refusal import is_refusal
from prefgen.repetition import repetition
from prefgen.secrets import hide
from prefgen.surface import surface
from prefgen.transcript import parse_transcript
from prefgen.yamlfile import read_yaml
from trainers.preflight import _without_thoughts
from trainers.rules import final_answer, same_answer

SIZE, SECONDS = 100_000, 1.0
ROOT = Path(__file__).resolve().parent.parent
PIECES = (
    " ", "\n", "a", "1", "1,", ",000", "*", "**a ", "__", "_a_ ", "#", "- ", "1. ", "`", "```\n", "{", "{{",
    "}", '{"a":', "[", "<", "=", "A > ", "|", ".", "a.", "。", ":", "/", "-", "é", "answer ", "answer is ",
    "\\boxed{", "\n\nHuman:", "<think>", "</think>", "<response_A-x>\n", "Verdict: ", "sorry ", "i can't ",
    "role ", "aError", "sk-", "@", "//a", "?key=", "&", "\x1b[", "\x1b]",
)  # fmt: skip


def made(size: int, pieces: Iterable[str]) -> Iterator[str]:
    """Texts of about `size` characters: one piece again and again, and around a long run of one sign."""
    for piece in pieces:
        yield piece * (size // len(piece))
        yield piece + " " * size + "!"
        yield "\n" * size + piece
        yield piece + "a" * size + "!"
        yield (piece + "\n{") * (size // (len(piece) + 2))


READERS: dict[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "surface": (surface, ("- ", "**a ", "1. ", "#", "```\n", "__a ")),
    "probes": (variants, ("- ", "**a ", "a. ", "|", "。", "> ")),
    "final answer": (
        lambda text: same_answer(final_answer(text), text),
        ("answer ", "answer is ", "\\boxed{", "1,", ",000", "1/", "*", "####"),
    ),
    "stated percentage": (lambda text: read_score(Completion(text), "percent_a"), ('{"a":', '{"a":[', "```")),
    "vote": (lambda text: read_vote(Completion(text), ("A", "B")), ("Verdict: ", "\nverdict", "* ", "é")),
    "ranking": (lambda text: read_ranking(text, 3), ("A > ", "A>", "*")),
    "answer": (lambda text: answer_text(text, ("A", "B")), ("<think>", "</think>", '{"a":')),
    "thoughts": (_without_thoughts, ("<think>", "</think>", "</think><think>")),
    "repetition": (repetition, ("the ", ".")),
    "refusal": (is_refusal, ("i can't ", "sorry, but i ")),
    "words": (words_of, ("é", "字", "1")),
    "similarity": (lambda text: similarity(text, text + " x"), ("the ", "a b ")),
    "alignment tax": (normalised, ("1,", ",000", "a'", "-1.")),
    "a terminal": (lambda text: hide(plain(text)), ("\x1b[", "\x1b]", "\x1b[1", "//a", "@a:", "?key", "sk-")),
    "a page": (clipped, ("\x1b[", "<", "&")),
    "a card": (lambda text: inert(text) + code(text), ("`", "|", "\\")),
    "error body": (
        lambda text: refused_capability(read_failure(text), {"n": 2, "messages": []}),
        ("role ", "system ", "n =", '{"error":'),
    ),
    "responses of a prompt": (_shown, ("<response_A-x>\n", "</response_A-x>", "tags that end in x")),
}


@pytest.mark.parametrize(("reader", "pieces"), READERS.values(), ids=READERS)
def test_a_long_text_is_read_in_under_a_second(
    reader: Callable[[str], object], pieces: tuple[str, ...]
) -> None:
    slow = {}
    for text in made(SIZE, (*pieces, " ", "{")):
        start = time.thread_time()
        reader(text)
        if (seconds := time.thread_time() - start) > SECONDS:
            slow[text[:20] + "…" + text[-20:]] = seconds
    assert slow == {}


def test_transcripts_and_prompts_are_read_in_under_a_second() -> None:
    for text in made(SIZE, ("\n\nHuman:", "\n\nAssistant: ", "Human", " ")):
        start = time.thread_time()
        for parse in (parse_transcript, parse_messages):
            with contextlib.suppress(ValueError):
                parse(text)
        assert time.thread_time() - start < SECONDS, text[:40]


def patterns() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Every compiled pattern of the tree, used as its module does: tried at one place of a text (`match`,
    `fullmatch`) or looked for in all of it."""
    for tree in ("prefgen", "judges", "trainers", "pipelines"):
        for path in (ROOT / tree).rglob("*.py"):
            source = path.read_text("utf-8")
            if "re.compile" not in source:
                continue
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for name, value in vars(module).items():
                uses = set(re.findall(rf"\b{name}\.(\w+)", source)) - {"pattern"}
                for item in value if isinstance(value, tuple) else (value,):
                    if isinstance(item, re.Pattern) and isinstance(item.pattern, str):
                        anchored = uses and uses <= {"match", "fullmatch"}
                        yield f"{module.__name__}.{name}", item.match if anchored else item.findall


def test_no_pattern_of_the_tree_grows_with_the_square_of_the_text() -> None:
    """In 6,000 characters a linear pattern has a millisecond of work, a quadratic one a hundred."""
    every, slow = list(patterns()), {}
    assert len(every) > 30
    for name, look in every:
        for text in made(6_000, PIECES):
            if _seconds(look, text) > 0.03 and _seconds(look, text) > 0.03:
                slow[name] = text[:20] + "…" + text[-20:]
                break
    assert slow == {}


def _seconds(look: Callable[[str], object], text: str) -> float:
    start = time.thread_time()
    look(text)
    return time.thread_time() - start


# --- nesting and size --------------------------------------------------------------------------------

DEEP = "[" * 100_000


def test_a_reply_nested_without_end_is_a_parse_failure_and_no_crash() -> None:
    values = (DEEP, "1e999", "NaN", "9" * 5000, '{"percent_a": ' * 50_000)
    for text in (DEEP, *(f'{{"percent_a": {value}}}' for value in values)):
        assert read_score(Completion(text), "percent_a") == Unreadable("parse_failure")
        assert answer_text(text, ("A",)) == text
        assert read_failure(text).words


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_rows_nested_without_end_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    for text in (DEEP, '{"a":' * 100_000, '{"id": ' + "9" * 5000 + "}"):
        path.write_text(text)
        with pytest.raises(InputError):
            list(read_records(path))


def test_yaml_that_grows_when_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    for text in ("\n".join(lines), "a: &a [*a]", "a: " + "[" * 5000, "- " * 5000 + "a", "a: &b {<<: *b}"):
        path.write_text(text)
        with pytest.raises(UsageError):
            read_yaml(path)
    path.write_text("base: &b {x: 1}\none: *b\ntwo: *b\n")
    assert read_yaml(path)["two"] == {"x": 1}


def test_a_value_of_the_ledger_that_unpacks_beyond_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_values, "_MOST", 1 << 20)
    packer = ledger_values.Packer()
    honest = packer.pack({"text": "x" * 1000})
    assert packer.unpack(honest) == {"text": "x" * 1000}
    large = json.dumps({"text": "x" * (2 << 20)}).encode()
    streamed = zstandard.ZstdCompressor().compressobj()
    told = zstandard.ZstdCompressor().compress(large)
    for data in (
        told,
        streamed.compress(large) + streamed.flush(),
        zlib.compress(large),
        zlib.compress(b"{}")[:-3],
    ):
        with pytest.raises(ValueError, match=r"more than|cut|exceed|bytes|did not decompress|size"):
            packer.unpack(data)
    with pytest.raises(ValueError, match="nested"):
        packer.unpack(zstandard.ZstdCompressor().compress(b'{"a":' + b"[" * 100_000))
