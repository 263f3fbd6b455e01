"""What a job gives back: where it wrote, what it found, and its tables as pandas frames.

Each kind is also opened by its path, whoever made it: `Run("runs/first")`. Where a path is asked for, it
stands for its own: `train("dpo", data=run, …)`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipelines.markup import text
from prefgen.errors import InputError
from prefgen.files import read_json
from prefgen.run import RunDirectory

if TYPE_CHECKING:
    import pandas as pd
    from datasets import DatasetDict


class Result(ABC):
    """`path`: the folder or file, as it was given. `values`: what the command prints with --json, read from
    FILE where it is left out. `summary`: what the command prints without."""

    FILE: ClassVar[str] = ""
    MADE_BY: ClassVar[str] = ""
    path: Path
    values: Mapping[str, Any]

    def __init__(self, path: str | os.PathLike[str], values: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.values = self._read() if values is None else values

    def _read(self) -> Mapping[str, Any]:
        file = self.path / self.FILE
        if not file.is_file():
            raise InputError(file, "no such file", expected=f"what {self.MADE_BY} wrote when it was done")
        return read_json(file)

    @property
    @abstractmethod
    def summary(self) -> str: ...

    @property
    def report(self) -> Path | None:
        """The page to look at, where there is one."""
        page = self.path / "report.html"
        return page if page.is_file() else None

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return self.summary

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _repr_html_(self) -> str:
        style = "white-space: pre-wrap; text-align: left"
        return f'<p><b>{text(repr(self))}</b></p><pre style="{style}">{text(self.summary)}</pre>'

    def __await__(self) -> Generator[Any, None, Self]:
        """Itself, at once: so that what is called in a script is typed as what is awaited in a notebook."""
        yield from ()
        return self

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_parquet(self.path / name)

    def _lines(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_json(self.path / name, lines=True, dtype=False)


class Run(Result):
    """A run of `generate` or `pair`: candidates, judgments, and the datasets made of them."""

    FILE, MADE_BY = "manifest.json", "prefgen generate"

    def _read(self) -> Mapping[str, Any]:
        return RunDirectory.open(self.path).manifest

    @property
    def summary(self) -> str:
        from pipelines.summary import run_summary

        return run_summary(self.path, dict(self.values))

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.values

    @property
    def counts(self) -> Mapping[str, Any]:
        return dict(self.values["counts"])

    def dataset(self, name: str = "dpo") -> DatasetDict:
        """`dpo` or `kto` with its splits, as TRL's trainers take it."""
        from datasets import load_dataset

        filled = [split for split, count in self.values["splits"][name].items() if count]
        files = {split: str(self.path / name / f"{split}.parquet") for split in filled}
        return load_dataset("parquet", data_files=files)

    def pairs(self) -> pd.DataFrame:
        """Every pair, with its split: prompt chosen rejected split + ids, margin, confidence."""
        return self._splits("dpo")

    def kto(self) -> pd.DataFrame:
        """Every labelled response, with its split: prompt completion label split + ids, score."""
        return self._splits("kto")

    def _splits(self, name: str) -> pd.DataFrame:
        import pandas as pd

        parts = {split: self._table(f"{name}/{split}.parquet") for split in ("train", "test")}
        return pd.concat([part.assign(split=split) for split, part in parts.items()], ignore_index=True)

    def candidates(self) -> pd.DataFrame:
        """Everything sampled."""
        return self._table("candidates.parquet")

    def judgments(self) -> pd.DataFrame:
        """Everything the judge said; its failures too, where `status` is not ok."""
        return self._table("judgments.parquet")

    def scores(self) -> pd.DataFrame:
        """What the judgments make of each candidate."""
        return self._table("scores.parquet")

    def undecided(self) -> pd.DataFrame:
        """Pairs that were not clear enough, for people to label."""
        return self._table("undecided.parquet")


class Revision(Result):
    """A run of `revise`: responses criticised and rewritten."""

    FILE, MADE_BY = "manifest.json", "prefgen revise"

    @property
    def summary(self) -> str:
        from pipelines.revise import revise_summary

        return revise_summary(self.path, self.values)

    def demonstrations(self) -> pd.DataFrame:
        """The last revisions, to train on."""
        return self._table("sft.parquet")

    def pairs(self) -> pd.DataFrame:
        """Response and revision, to be judged."""
        return self._table("pairs.parquet")

    def rounds(self) -> pd.DataFrame:
        """Every critique and revision."""
        return self._table("rounds.parquet")


class Quote(Result):
    """What a run will take, told by a few of its prompts; nothing stands at `path` yet."""

    @property
    def summary(self) -> str:
        from pipelines.quote import quote_in_words

        return quote_in_words(self.values["quote"])

    @property
    def cost(self) -> float | None:
        """US dollars, most likely; None where a price is not known."""
        told = self.values["quote"]["cost_usd"]
        return None if told is None else float(told["likely"])


class Verdicts(Result):
    """`path` is a file of verdicts."""

    MADE_BY = "prefgen judge"

    @property
    def summary(self) -> str:
        from pipelines.judge import judge_summary

        return judge_summary(self.values)

    def verdicts(self) -> pd.DataFrame:
        """One row for each pair and order shown: id verdict p_a order judge."""
        return self._lines("")


@dataclass(frozen=True, slots=True)
class Estimate:
    """`low` and `high`: its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> Estimate | None:
        return None if told is None else cls(told["value"], *told["ci"])


class Calibration(Result):
    """A judge held against human labels."""

    FILE, MADE_BY = "calibration.json", "prefgen calibrate"

    def __fspath__(self) -> str:
        """The file that `calibration=` of generate and pair takes."""
        return str(self.path / self.FILE)

    @property
    def summary(self) -> str:
        from pipelines.calibration.summary import calibration_summary

        return calibration_summary(self.path, dict(self.values))

    @property
    def agreement(self) -> Estimate | None:
        """Share of labels that the judge agrees with, ties counted."""
        return Estimate.of(self.values["agreement"])

    @property
    def kappa(self) -> Estimate | None:
        return Estimate.of(self.values["kappa"])

    @property
    def threshold(self) -> float | None:
        """Confidence from which on labels earn the target precision; None where none does."""
        selective = self.values["selective"]
        return None if selective is None else selective["threshold"]

    def curve(self) -> pd.DataFrame:
        """What each threshold keeps of the labels on which people decide: threshold coverage precision, both
        shares."""
        import pandas as pd

        told = self.values["selective_items"] or {"confidence": [], "correct": []}
        items = pd.DataFrame({"threshold": told["confidence"], "correct": told["correct"]})
        kept = items.groupby("threshold")["correct"].agg(["size", "sum"]).sort_index(ascending=False).cumsum()
        shares = {"coverage": kept["size"] / len(items), "precision": kept["sum"] / kept["size"]}
        return pd.DataFrame(shares).reset_index()


class Evaluation(Result):
    """One model against another. `path`: the folder; where stored annotations were looked at and nothing was
    written, their file."""

    FILE, MADE_BY = "evaluation.json", "prefgen evaluate"

    @property
    def summary(self) -> str:
        from pipelines.evaluation.summary import evaluation_summary

        return evaluation_summary(dict(self.values), self.path if self.path.is_dir() else None)

    @property
    def win_rate(self) -> Estimate:
        """Of the model over the baseline, in percent."""
        return Estimate(self.values["win_rate"], *self.values["ci"])

    def annotations(self) -> pd.DataFrame:
        """What the judge made of each prompt."""
        return self._lines("annotations.jsonl" if self.path.is_dir() else "")


class Audit(Result):
    """What was found wrong with a run's labels."""

    FILE, MADE_BY = "audit.json", "prefgen audit"

    @property
    def summary(self) -> str:
        from pipelines.audit.audit import audit_summary

        return audit_summary(self.path, self.values)

    @property
    def report(self) -> Path | None:
        return self.path / "audit.html"

    @property
    def warnings(self) -> list[str]:
        return list(self.values["warnings"])

    def suspicious(self) -> pd.DataFrame:
        """The pairs whose label looks wrong, the most suspicious first."""
        return self._lines("suspicious.jsonl")


class Conversion(Result):
    """`path` is the file of rows to train on."""

    MADE_BY = "prefgen convert"

    @property
    def summary(self) -> str:
        from pipelines.convert import convert_summary

        return convert_summary(self.values)

    def rows(self) -> pd.DataFrame:
        return self._table("") if self.path.suffix == ".parquet" else self._lines("")

    def rejected(self) -> pd.DataFrame:
        """Rows that could not be used: file, line and why."""
        import pandas as pd

        left = self.values["rejected"]
        return pd.DataFrame() if left is None else pd.read_json(left, lines=True, dtype=False)
