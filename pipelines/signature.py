"""Which judge a calibration is of."""

from __future__ import annotations

import shlex
import typing
from collections.abc import Mapping
from pathlib import Path

from judges.constitution import load_constitution
from pipelines.generate_config import CallConfig, JudgingConfig
from prefgen.messages import Json, content_hash

_ANYHOW = {"meetings", "meeting_rounds", "judge_max_tokens"}
"""Options that decide how much is asked, not what an answer means."""


def signature(config: JudgingConfig) -> dict[str, Json]:
    """All options that decide what a judge's log-odds mean; files stand for their content.

    Two jobs with one signature may share a calibration. Raises InputError for a constitution that is none.
    """
    meaning = JudgingConfig.model_fields.keys() - CallConfig.model_fields.keys() - _ANYHOW
    values: dict[str, Json] = config.model_dump(mode="json", include=set(meaning))
    for name in meaning:
        value = getattr(config, name)
        if isinstance(value, Path):
            values[name] = content_hash(value.read_text(encoding="utf-8"))
    values["constitution"] = load_constitution(config.constitution).hash if config.judge else None
    return values


def options(judged_by: Mapping[str, Json]) -> list[str]:
    """The words of a command line that asks the same judge in the same way; files, of which only the content
    is known, by a name to fill in."""
    words = []
    for name, value in judged_by.items():
        field, flag = JudgingConfig.model_fields[name], "--" + name.replace("_", "-")
        if value in (field.default, None, []):
            continue
        if name == "constitution":
            words += [] if value == load_constitution(str(field.default)).hash else [flag, "FILE"]
        elif Path in typing.get_args(field.annotation):
            words += [flag, "FILE"]
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [flag, shlex.quote(str(one))]
    return words


def differences(calibrated: dict[str, Json], asked: dict[str, Json]) -> list[str]:
    """The options in which a calibration's judge differs from another, told as `name: seen, expected`."""
    return [
        f"{name} {asked.get(name)!r}, calibrated {value!r}"
        for name, value in sorted(calibrated.items())
        if asked.get(name) != value
    ]
