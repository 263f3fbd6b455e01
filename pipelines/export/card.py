"""The card of an export: what is in it, how it was made, what it is not good for; no path of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.card import code, data_config
from pipelines.markup import plain
from pipelines.summary import rule_in_words


def card(folder: Path, files: Mapping[str, str], made: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """`README.md`, with the header by which `datasets.load_dataset` finds the files of each split."""
    header = {
        "license": "other",
        "task_categories": ["text-generation"],
        "tags": ["preference", made["dataset"], made["trainer"], "prefgen"],
        "configs": [data_config(folder, "default", files)],
    }
    config, counts = manifest["config"], manifest["counts"]
    judges = config.get("judge") or [config.get("reward_model")]
    under = f" under the\nconstitution {_name(config.get('constitution'))}" if config.get("judge") else ""
    rows = "\n".join(
        f"| {split} | {told['written']} of {told['rows']} |" for split, told in made["splits"].items()
    )
    start = "\n".join(made["start"])
    return f"""---
{yaml.safe_dump(header, sort_keys=False)}---

# Preference data for {made["trainer"]}, made with prefgen

Rows for `{made["dataset"]}`, checked against {made["read_from"].partition(":")[0]}.

| split | rows of the run |
|---|---|
{rows}

```
{start}
```

## How it was made

{counts["prompts"]} prompts, {counts["candidates"]} candidate responses by {_names(config.get("policy"))},
{counts["judgments"]} judgments by {_names(judges)}{under};
{counts["pairs"]} pairs with {_rule(manifest)}. `export.json` has the hash of the run's manifest.

## Limits

The labels are a model's opinion and carry its blind spots; no human has looked at them unless the owner says
so. Do not evaluate a model trained on them with the judge that made them.

## Licence

Prompts and responses are their owners' and the models' providers': check their terms before you publish this.
"""


def _rule(manifest: Mapping[str, Any]) -> str:
    calibrated = manifest["calibration"]
    if calibrated is not None:
        stages = [
            {**stage, "judge": stage["judge"] and _name(stage["judge"])} for stage in calibrated["stages"]
        ]
        manifest = {**manifest, "calibration": {**calibrated, "stages": stages}}
    return rule_in_words(manifest)


def _names(specs: Any) -> str:
    return ", ".join(_name(spec) for spec in specs or []) or "unknown"


def _name(spec: Any) -> str:
    """A model or constitution without the address and the folders of this machine."""
    provider, _, rest = plain(str(spec)).partition("@")[0].partition("/")
    local = rest.startswith(("/", ".", "~")) or Path(provider).suffix or not provider
    name = Path(rest or provider).name if local else "/".join(filter(None, (provider, rest)))
    return code(name)
