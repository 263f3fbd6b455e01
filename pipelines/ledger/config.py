"""Every option of `prefgen ledger`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

_AGE = re.compile(r"(\d+)\s*(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class LedgerConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ledger: Path | None = None
    """File of the ledger. [default: $PREFGEN_LEDGER, else the one in the user's cache directory]."""


class ExportConfig(LedgerConfig):
    out: Path | None = None
    """JSONL file to write. [default: standard output]."""
    model: tuple[str, ...] = ()
    """Only answers of this model, named as `prefgen ledger stats` names it; may be given several times."""
    since: str | None = None
    """Only answers stored since a date (2026-01-31, UTC) or within an age (90m, 12h, 30d, 8w)."""

    @model_validator(mode="after")
    def _parses(self) -> Self:
        moment(self.since, "--since")
        return self


class PruneConfig(LedgerConfig):
    older_than: str | None = None
    """Remove answers stored before a date (2026-01-31, UTC) or longer ago than an age (12h, 30d, 8w)."""
    model: tuple[str, ...] = ()
    """Remove answers of this model only, named as `prefgen ledger stats` names it."""
    dry_run: bool = False
    """Say what would go and change nothing."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if moment(self.older_than, "--older-than") is None and not self.model:
            raise ValueError("nothing says what may go: give --older-than, --model or both")
        return self


class VerifyConfig(LedgerConfig):
    repair: bool = False
    """Remove the broken answers, so that they are asked for again."""


def moment(text: str | None, option: str) -> str | None:
    """A date, or an age counted back from now, as the ledger writes times: UTC, `YYYY-MM-DD HH:MM:SS`."""
    if text is None:
        return None
    age = _AGE.fullmatch(text.strip())
    try:
        if age:
            then = datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        else:
            then = datetime.fromisoformat(text.strip())
            then = then.replace(tzinfo=UTC) if then.tzinfo is None else then.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{option} {text!r}: expected a date such as 2026-01-31, or an age such as 12h, 30d or 8w"
        ) from None
    return then.strftime("%Y-%m-%d %H:%M:%S")
