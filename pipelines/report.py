"""report.html: one file that shows what a run made. Needs no network."""

from __future__ import annotations

from typing import Any

from prefgen.run import RunDirectory


def write_report(run: RunDirectory, manifest: dict[str, Any]) -> None:
    run.write_text("report.html", "<html></html>")
