"""What other settings, principles and trainers make of a run, and the story of one of its pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.api.results import Result

if TYPE_CHECKING:
    import pandas as pd


class WhatIf(Result):
    """What other settings come to; `path` is the run. Nothing is written."""

    MADE_BY = "prefgen pair"

    @property
    def summary(self) -> str:
        from pipelines.what_if.words import what_if_text

        return what_if_text(self.values)

    def settings(self) -> pd.DataFrame:
        """One row a setting: what it keeps, length gap, confidence, expected precision, and its command."""
        import pandas as pd

        return pd.DataFrame(self.values["rows"])


class Story(Result):
    """How a pair came to be, or why there is none; `path` is the run."""

    MADE_BY = "prefgen why"

    @property
    def summary(self) -> str:
        from pipelines.why.words import why_text

        return why_text(self.values)


class ConstitutionDiff(Result):
    """What another constitution changes; `path` is the folder it was written to, else the run."""

    FILE, MADE_BY = "manifest.json", "prefgen constitution diff"

    @property
    def summary(self) -> str:
        from pipelines.constitution.words import diff_text

        return diff_text(self.values)

    def flips(self) -> pd.DataFrame:
        """The pairs that flip, appear or disappear."""
        import pandas as pd

        return pd.DataFrame(self.values.get("pairs", []))


class Export(Result):
    """A run's rows as another trainer takes them."""

    FILE, MADE_BY = "export.json", "prefgen export"

    @property
    def summary(self) -> str:
        from pipelines.export.job import export_summary

        return export_summary(self.values)
