"""The pages of the documentation, their blocks, and a folder in which their commands can be run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pandas as pd

from pipelines.cli import cli

Rows = Iterator[dict[str, object]]
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MODEL = re.compile(r"(openai|anthropic|vllm|transformers)/\S+")
_WRITERS = {"--policy": "scripted/writer", "--model": "scripted/writer", "--baseline": "scripted/hasty"}
_JUDGES = ("scripted/judge", "scripted/hasty")

PARSED_ONLY = {
    r"why \S+ [0-9a-f]{8}$": "a pair of the quickstart's own run: tests/pipelines/test_why.py",
    r".*data/quickstart/constitution.yaml.* --run ": "the same: tests/pipelines/test_constitution.py",
    r"(?s).*prefgen\.rlaif\(": "trains: tests/pipelines/test_api.py",
    r"export .*--push ": "uploads: tests/pipelines/test_push.py",
    r"label ": "waits for people: tests/pipelines/test_label.py",
    r"train ": "trains: tests/trainers and tests/pipelines/test_sweep.py do",
    r"quickstart": "minutes of real vLLM: tests/pipelines/test_quickstart.py",
    r"rlaif ": "trains: tests/pipelines/test_rlaif.py",
    r".*vllm/data/quickstart/": "real vLLM: tests/pipelines/test_calibrate.py",
    r".*--reward-model ": "loads a reward model: tests/pipelines/test_reward_models.py",
    r".*--engine ray": "a Ray cluster: tests/pipelines/test_distributed.py",
}
"""Commands of the pages, by how they begin after `prefgen`, and Python that are not run, and why."""


@dataclass(frozen=True)
class Block:
    """`before`: the text between the block before and this one."""

    page: Path
    line: int
    language: str
    text: str
    before: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def lines(self) -> list[list[str]]:
        """The words of each command line up to where its output goes; continuation lines joined."""
        if self.language != "bash":
            return []
        split = (shlex.split(line, comments=True) for line in self.text.replace("\\\n", " ").splitlines())
        return [list(takewhile(lambda word: word not in (">", ">>", "|"), words)) for words in split if words]

    @property
    def commands(self) -> list[list[str]]:
        """What follows `prefgen`."""
        return [words[1:] for words in self.lines if words[0] == "prefgen"]

    @property
    def why_not_run(self) -> str | None:
        """The same of a block of Python."""
        return why_not_run([self.text]) if self.language == "python" else None

    @property
    def follows(self) -> bool:
        """Whether nothing stands between the block before and this one."""
        return not self.before.strip()


def blocks_of(page: Path) -> list[Block]:
    text, after, found = page.read_text("utf-8"), 0, []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[1], match[2], text[after : match.start()]))
        after = match.end()
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def why_not_run(command: list[str]) -> str | None:
    line = " ".join(command)
    return next((why for begins, why in PARSED_ONLY.items() if re.match(begins, line)), None)


def with_scripted_models(command: list[str]) -> list[str]:
    """The same command, each of its models a scripted one."""
    judges = iter(_JUDGES)
    return [
        (_WRITERS.get(before) or next(judges)) if _MODEL.fullmatch(word) else word
        for before, word in zip(["", *command], command, strict=False)
    ]


def run(command: list[str]) -> None:
    """In this process; raises what the command raises."""
    cli.main(args=command, standalone_mode=False, obj=command)


class Provider:
    """What the commands of a page read and none of them made is put into the current folder; runs and
    calibrations are made once, in `store`."""

    def __init__(self, store: Path) -> None:
        self._store = store
        Path("data").symlink_to(ROOT / "data")

    def provide(self, words: list[str]) -> bool:
        """Every file or folder among the words of a command, but what it writes; whether there was one."""
        read = [word for before, word in zip(["", *words], words, strict=False) if before != "--out"]
        missing = [name for name in read if name in _STANDS_IN and not Path(name).exists()]
        for name in missing:
            self._make(name)
        return bool(missing)

    def _make(self, name: str) -> None:
        path = Path(name)
        if name in _FILES:
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pd.DataFrame(_FILES[name]())
            match path.suffix:
                case ".parquet":
                    table.to_parquet(path)
                case ".yaml":
                    path.write_text(json.dumps(next(_FILES[name]())), "utf-8")
                case ".csv":
                    table.to_csv(path, index=False)
                case _:
                    table.to_json(path, orient="records", lines=True)
        elif name in _CALIBRATIONS:
            shutil.copytree(self._stored("calibration"), path.parent)
        else:
            shutil.copytree(self._stored("run"), path)

    def _stored(self, kind: str) -> Path:
        made = self._store / kind
        if not made.exists():
            source = "prompts.jsonl" if kind == "run" else "labels.jsonl"
            self.provide([source])
            command = {
                "run": ["generate", source, "--policy", "scripted/writer", "--n", "4"],
                "calibration": ["calibrate", source],
            }[kind]
            run([*command, "--judge", "scripted/judge", "--quiet", "--out", str(made)])
        return made


def _prompts() -> Rows:
    lines = (ROOT / "data" / "quickstart" / "prompts.jsonl").read_text("utf-8").splitlines()
    for number, line in enumerate(lines[:30]):
        yield json.loads(line) | {"answer": str(number)}


def _pairs(count: int = 200) -> Rows:
    """Two responses each, one of which says more, by one to eight words."""
    words = [f"word{number}" for number in range(12)]
    for number in range(count):
        short = 1 + number % 4
        texts = [" ".join(words[:short]), " ".join(words[: short + 1 + number // 4 % 8])]
        a, b = texts if number % 2 else reversed(texts)
        yield {"id": str(number), "prompt": f"What of case {number}?", "response_a": a, "response_b": b}


def _labels() -> Rows:
    """Of people who prefer the one that says more, but for half of the pairs that differ by one word."""
    for number, pair in enumerate(_pairs()):
        longer = len(str(pair["response_a"])) > len(str(pair["response_b"]))
        mistaken = number % 64 < 4
        yield pair | {"label": "b" if longer == mistaken else "a"}


def _verdicts() -> Rows:
    for pair in _pairs():
        longer = len(str(pair["response_a"])) > len(str(pair["response_b"]))
        yield {"id": pair["id"], "verdict": "a" if longer else "b"}


def _constitution() -> Rows:
    yield {"id": "mine", "principles": [{"id": "concise", "text": "It is short."}]}


def _llmbar() -> Rows:
    for number, pair in enumerate(_labels()):
        texts = {"input": pair["prompt"], "output_1": pair["response_a"], "output_2": pair["response_b"]}
        yield {"id": number, **texts, "label": 1 if pair["label"] == "a" else 2}


def _llmbar_verdicts() -> Rows:
    for row in _llmbar():
        won = str(row["label"])
        yield {
            "id": row["id"],
            "judge": "ChatGPT/Vanilla_NoRules",
            "winner_order12": won,
            "winner_order21": won,
        }


def _feedback() -> Rows:
    for number in range(20):
        yield {
            "prompt": f"What of case {number}?",
            "response": "It is.",
            "thumbs": "up" if number % 2 else "down",
        }


def _rated() -> Rows:
    for number in range(20):
        texts = [f"{number}, {word}." for word in ("maybe", "surely")]
        yield {"instruction": f"What of case {number}?", "generations": texts, "ratings": [2.0, 5.0]}


def _ranked() -> Rows:
    for row in _rated():
        texts = row["generations"]
        assert isinstance(texts, list)
        answers = [{"answer": text, "rank": rank} for rank, text in enumerate(texts, start=1)]
        yield {"prompt": row["instruction"], "answers": answers}


def _transcripts() -> Rows:
    for number in range(20):
        asked = f"\n\nHuman: What of case {number}?\n\nAssistant:"
        yield {"chosen": f"{asked} It is done.", "rejected": f"{asked} Who knows?"}


def _questions() -> Rows:
    for number in range(20):
        yield {"question": f"How many are {number} of {number}?"}


_FILES: dict[str, Callable[[], Rows]] = {
    "prompts.jsonl": _prompts,
    "prompts.parquet": _prompts,
    "heldout.jsonl": _prompts,
    "pairs.jsonl": _pairs,
    "labels.jsonl": _labels,
    "runs/first/labels.jsonl": _labels,
    "runs/mine/labels.jsonl": _labels,
    "runs/first/labels.verdicts.jsonl": _verdicts,
    "mine.yaml": _constitution,
    "benchmark.jsonl": _questions,
    "feedback.csv": _feedback,
    "ultrafeedback.parquet": _rated,
    "nectar.jsonl": _ranked,
    "hh.jsonl": _transcripts,
    "llmbar_natural_pairs.jsonl": _llmbar,
    "llmbar_natural_verdicts.jsonl": _llmbar_verdicts,
}
_CALIBRATIONS = [f"calibrations/{name}/calibration.json" for name in ("first", "mine")]
_RUNS = ["quickstart/run", *(f"runs/{name}" for name in ("first", "second", "mine", "trusted"))]
_STANDS_IN = {*_FILES, *_CALIBRATIONS, *_RUNS}
