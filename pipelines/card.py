"""The dataset card: what the data is, how it was made, how many, and what it is not good for."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.markup import plain
from pipelines.summary import rule_in_words
from prefgen.files import file_hash
from prefgen.messages import content_hash
from prefgen.run import RunDirectory

_BODY = importlib.resources.files("pipelines") / "templates" / "card.md"


def write_card(run: RunDirectory, manifest: dict[str, Any]) -> None:
    """Writes `README.md`: the header that `datasets.load_dataset` reads, then the card."""
    # A split without rows stays out of the header: `datasets` cannot read an empty one.
    filled = {
        name: [split for split, count in splits.items() if count]
        for name, splits in manifest["splits"].items()
    }
    header = {
        "license": "other",
        "task_categories": ["text-generation"],
        "tags": ["preference", "dpo", "kto", "prefgen"],
        "configs": [
            data_config(run.path, name, {split: f"{name}/{split}.parquet" for split in splits})
            for name, splits in filled.items()
            if splits
        ],
    }
    front = yaml.safe_dump(header, sort_keys=False)
    run.write_text("README.md", f"---\n{front}---\n\n{_body(manifest)}")


def data_config(folder: Path, name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """How `datasets.load_dataset` finds the files of a split.

    It knows a folder again by its last name and this entry, not by what is in the files: without the hash, a
    second folder of the same name would be answered from the cache with the rows of the first.
    """
    return {
        "config_name": name,
        "description": f"sha256 {content_hash([file_hash(folder / file) for file in files.values()], 64)}",
        "data_files": [{"split": split, "path": path} for split, path in files.items()],
    }


def _body(manifest: dict[str, Any]) -> str:
    config, counts = manifest["config"], manifest["counts"]
    judge = manifest["judge"]
    if config["reward_model"]:
        how, by = "reward model, score difference as log-odds", ""
    else:
        how = f"{config['judging']}, constitution {config['constitution']}"
        by = f" under the constitution {code(config['constitution'])}"
    listed = {
        name: ", ".join(f"{key} {count}" for key, count in counts[name].items()) or "none"
        for name in ("failures", "dropped")
    }
    uncalibrated = manifest["expected_label_precision"] is None
    return _BODY.read_text(encoding="utf-8").format(
        **{key: value for key, value in counts.items() if key not in listed},
        **listed,
        **{name: config[name] for name in ("n", "temperature", "top_p", "strategy", "max_pairs", "seed")},
        rule=inert(rule_in_words(manifest)),
        prompt_file=code(config["prompts"]),
        policies=inert(", ".join(config["policy"])),
        judge=inert(judge),
        how=inert(how),
        constitution=by,
        calibrated="the same as a probability, not calibrated against human labels"
        if uncalibrated
        else "the calibrated probability that people agree",
    )


def inert(value: str) -> str:
    """Any text as one line of Markdown that shows it: every sign that could mean something is escaped."""
    return re.sub(r"([\\`*_\[\]{}<>|!#&~])", r"\\\1", _line(value))


def code(value: str) -> str:
    """The same as a code span, where only a backtick, and in a table a bar, has a meaning."""
    return "`" + (_line(value).replace("`", "'").replace("|", "\\|") or "-") + "`"


def _line(value: str) -> str:
    return " ".join(plain(value).split())
