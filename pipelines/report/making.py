"""How a run was made: models, rules, cost, time, and every setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.generate_config import GenerateConfig
from pipelines.markup import beside, facts, folded, how, number, percent, table, text
from pipelines.report.look import Look
from pipelines.report.words import ROLES, TIMINGS, money, time_in_words
from pipelines.summary import cached_share, rule_in_words, splits_in_words


def making(look: Look) -> str:
    manifest = look.manifest
    models = "".join(f"<h3>{role}</h3>{facts(told)}" for role, told in _models(manifest["models"]))
    return beside(f"<div>{models}</div>", f"<div><h3>Rules</h3>{facts(_rules(look))}</div>") + _settings(look)


def _rules(look: Look) -> dict[str, str]:
    manifest, config = look.manifest, look.config
    told = {}
    if config["judge"]:
        told["constitution"] = text(Path(config["constitution"]).name)
        told["constitution, hash"] = text(look.findings.constitution or "unknown")
    told["pairs from each prompt"] = f"{text(config['strategy'])}, at most {config['max_pairs']:,}"
    told["kept with"] = text(rule_in_words(manifest))
    told["seed"] = text(manifest["seed"])
    if manifest["expected_label_precision"] is not None:
        told["labels expected to be right"] = percent(manifest["expected_label_precision"])
    splits = manifest["splits"].items()
    return told | {f"{name.upper()} rows": text(splits_in_words(parts)) for name, parts in splits}


def _models(models: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """(role, facts) of every model of the manifest."""
    for role, entries in models.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            missing = ", ".join(name.replace("_", " ") for name in entry.get("capabilities_missing", ()))
            yield (
                _role(role),
                {
                    "asked for": text(entry["spec"]),
                    "answered as": text(entry["served"]),
                    "found missing": text(missing) or "nothing",
                    **_prefixes(entry),
                },
            )


def _role(role: str) -> str:
    """Also of `judge_2` and the like."""
    name, _, place = role.rpartition("_")
    if name in ROLES and place.isdigit():
        return f"{ROLES[name]} {place}"
    return text(ROLES.get(role, role.replace("_", " ")))


def _prefixes(entry: Mapping[str, Any]) -> dict[str, str]:
    rate = entry.get("prefix_cache_hit_rate")
    return {} if rate is None else {"prompt tokens found in its prefix cache": percent(rate)}


def _settings(look: Look) -> str:
    """Every option; those that were given, or are not what they are by default, stand open."""
    fields = GenerateConfig.model_fields
    usual = {name: _plain(field.get_default(call_default_factory=True)) for name, field in fields.items()}
    changed: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in look.config.items():
        same = name in usual and usual[name] == value
        (others if same else changed)[f"--{name.replace('_', '-')}"] = text(_shown(value))
    rest = folded(f"{len(others)} options as they are by default", facts(others, "facts columns"))
    return f"<h3>Settings that were chosen</h3>{facts(changed, 'facts columns')}{rest}"


def _plain(value: object) -> object:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def spending(look: Look) -> str:
    """Calls, tokens and cost by role; and where the time went."""
    usage = look.manifest["usage"]
    names = ("requests", "input_tokens", "output_tokens")
    parts = [(_role(role), part) for role, part in usage.get("by_role", {}).items()]
    rows = [
        [
            role,
            *(f"{part[name]:,}" if name in part else "–" for name in names),
            money(part.get("cost_usd")),
        ]
        for role, part in [*parts, ("all", usage)]
    ]
    head = ("", "calls paid", "tokens read", "written", "cost")
    said = "Only what was paid in this run: answers from the ledger cost nothing again."
    return table("By role", head, rows) + how(said) + facts(_usage(look.manifest), "facts columns")


def _usage(manifest: Mapping[str, Any]) -> dict[str, str]:
    usage = manifest["usage"]
    told = {
        "calls answered by the ledger": number(usage["cached_requests"]),
        "calls tried again": number(usage["retries"]),
        "told to slow down, times": number(usage["rate_limited"]),
        "tokens read from a prompt cache": percent(cached_share(usage)),
    }
    if usage["cost_usd"]:
        told["cost of a kept pair"] = money(usage.get("cost_per_pair_usd"))
    if usage.get("unanswered_usd"):
        told["calls without an answer may have cost"] = money(usage["unanswered_usd"])
    timings = manifest["timings"].items()
    return told | {
        TIMINGS.get(name, name.replace("_", " ")): time_in_words(seconds) for name, seconds in timings
    }
