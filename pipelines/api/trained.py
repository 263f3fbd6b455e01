"""What a training, a sweep, a loop and the quickstart give back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.api.results import Result, Run
from trainers.report import TrainingReport, read_report

if TYPE_CHECKING:
    import pandas as pd


class Training(Result):
    """A trained model; `path` is its folder."""

    FILE, MADE_BY = "training.json", "prefgen train"

    @property
    def summary(self) -> str:
        from pipelines.train import results_of

        return results_of(self.path)[1]

    @property
    def outcome(self) -> TrainingReport:
        """`training.json`: steps, alarms, held-out numbers before and after."""
        return read_report(self.path)

    @property
    def model(self) -> Path:
        """The folder to load or to train on: of LoRA with merge=True, the whole model."""
        merged = self.path / "merged"
        return merged if merged.is_dir() else self.path

    def metrics(self) -> pd.DataFrame:
        """One row for each logged step."""
        return self._lines("metrics.jsonl")


class Sweep(Result):
    """DPO with several β."""

    FILE, MADE_BY = "sweep.json", "prefgen train dpo-sweep"

    @property
    def summary(self) -> str:
        from pipelines.sweep import sweep_summary

        return sweep_summary(dict(self.values), self.path)

    def betas(self) -> pd.DataFrame:
        """One row for each β."""
        import pandas as pd

        return pd.DataFrame(self.values["betas"])


class Loop(Result):
    """Rounds of sample, judge, pair, train and evaluate."""

    FILE, MADE_BY = "manifest.json", "prefgen rlaif"

    @property
    def summary(self) -> str:
        from pipelines.rlaif.table import loop_summary

        return loop_summary(self.path, self.values)

    @property
    def best(self) -> Path:
        """The model of the best round."""
        return self.path / "best"

    @property
    def stopped(self) -> list[str]:
        """Why the loop stopped itself; empty where it ran to its end."""
        return [alarm["text"] for alarm in self.values["stopped"] or ()]

    def rounds(self) -> pd.DataFrame:
        """One row a round: pairs, win rate over round 0 in percent with its interval, length over round 0."""
        import pandas as pd

        return pd.DataFrame([_round(told) for told in self.values["rounds"]])

    def lineage(self) -> pd.DataFrame:
        """From every pair to the model and back."""
        return self._table("lineage.parquet")


def _round(told: Mapping[str, Any]) -> dict[str, Any]:
    found = told["evaluation"]
    low, high = found["ci"]
    return {
        "round": told["round"],
        "pairs": told["counts"]["pairs"],
        "win_rate": found["win_rate"],
        "low": low,
        "high": high,
        "length_ratio": found["length_ratio"],
        "alarms": [alarm["kind"] for alarm in told["alarms"]],
    }


class Quickstart(Result):
    """The whole job on the embedded models."""

    MADE_BY = "prefgen quickstart"

    def _read(self) -> Mapping[str, Any]:
        from pipelines.quickstart import load_results

        return load_results(self.path)

    @property
    def summary(self) -> str:
        from pipelines.quickstart import quickstart_summary

        return quickstart_summary(dict(self.values))

    @property
    def run(self) -> Run:
        return Run(self.path / "run")

    def training(self, stage: str = "dpo") -> Training:
        return Training(self.path / "models" / stage)

    def samples(self) -> pd.DataFrame:
        """What every model answered to the held-out prompts."""
        return self._lines("samples.jsonl")
