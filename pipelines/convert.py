"""Feedback as it is logged, and datasets of other stages, as rows a stage trains on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.conversion import Conversion, labelled, pairs, write_rows
from pipelines.convert_config import ConvertConfig
from pipelines.rejected import warn_of, write_rejected
from prefgen.errors import GateError, InputError, UsageError
from prefgen.feedback import Compared, Layout, Neutral, Rated, compare, layout_of, read_feedback
from prefgen.numbers import as_number
from prefgen.opinion import Reading, Zero
from prefgen.ratings import Listed
from prefgen.records import Record, check_unwritten, read_records

FORMS: Mapping[Layout, str] = {
    "kept": "kept and discarded",
    "sent": "drafts and what was sent",
    "pair": "prompt, chosen and rejected",
    "transcripts": "two conversations, chosen and rejected",
    "rated": "responses with an opinion",
    "list": "lists of rated responses",
    "ranks": "lists of ranked responses",
    "two": "two responses and the better one's number",
    "arena": "two conversations and who won",
}


def convert(config: ConvertConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes OUT and OUT.rejected.jsonl and returns the counts.

    Raises InputError for a file in none of the known forms, and GateError where more than `max_failed` of its
    rows are unusable; then only OUT.rejected.jsonl is written.
    """
    if not config.dry_run:
        check_unwritten(config.out, overwrite)
    records = list(read_records(config.file))
    reading = _reading(config, records)
    found = _read(records, reading)
    if not found.layouts:
        raise InputError(
            config.file,
            "no row has the columns of any known form",
            seen=f"columns {', '.join(records[0].values) or 'none'}",
            expected="prompt, response and label, thumbs or rating; or prompt, kept, discarded; or prompt, "
            "sent, draft; or prompt, chosen, rejected; or transcripts in chosen and rejected; or prompt (or "
            "instruction) with completions, answers, or generations and ratings; or response_0, response_1, "
            "better_response_id; or conversation_a, conversation_b, winner",
        )
    _take_lists(found, config)
    rows = labelled(found, config) if config.to == "kto" else pairs(found, config)
    _tell(found, config, console)
    if config.dry_run:
        return {**_result(found, rows, config), "first": rows[0] if rows else None}
    if not rows or found.failed > config.max_failed * found.rows:
        raise GateError(_gate_message(found, config))
    write_rows(config, rows)
    return _result(found, rows, config)


def _reading(config: ConvertConfig, records: list[Record]) -> Reading:
    """How the file's numbers are understood. Raises UsageError where that has to be said."""
    rated = [record.values for record in records if layout_of(record.values) == "rated"]
    needs_limits = [
        values for values in rated if values.get("label") in (None, "") and values.get("thumbs") in (None, "")
    ]
    ratings = sorted(
        number for values in needs_limits if (number := as_number(values.get("rating"))) is not None
    )
    if ratings:
        _check_limits(config, ratings)
    return Reading(config.good_from, config.bad_to, config.zero or _zero(config.file, rated), config.rate_by)


def _check_limits(config: ConvertConfig, ratings: list[float]) -> None:
    """Raises UsageError where ratings, in their order, have no limits."""
    if config.good_from is None or config.bad_to is None:
        raise UsageError(
            f"{config.file}: its ratings run from {ratings[0]:g} to {ratings[-1]:g}; say which are good and "
            f"which bad with --good-from and --bad-to, for example --good-from {ratings[-1]:g} "
            f"--bad-to {ratings[0]:g}"
        )


def _zero(path: Path, rated: list[dict[str, Any]]) -> Zero:
    for column in ("label", "thumbs"):
        numbers = {as_number(values.get(column)) for values in rated} - {None}
        if 0 in numbers and -1 in numbers:
            return "neutral"
        if 0 in numbers and column == "thumbs":
            raise UsageError(
                f"{path}: thumbs has 0 and no -1, so 0 may be a thumb down or no thumb; say --zero bad or "
                "--zero neutral"
            )
    return "bad"


def _read(records: Iterable[Record], reading: Reading) -> Conversion:
    found = Conversion()
    for record in records:
        found.rows += 1
        layout = layout_of(record.values)
        found.layouts.update([layout] if layout else [])
        try:
            said = read_feedback(record.values, reading)
        except ValueError as error:
            found.fail(record, str(error))
            continue
        if isinstance(said, Neutral):
            found.drop(record, said.why)
        elif isinstance(said, Listed):
            found.listed.append((record, said))
        elif isinstance(said, Compared):
            found.compared.append((record, said))
        else:
            found.rated.append((record, said))
    return found


def _take_lists(found: Conversion, config: ConvertConfig) -> None:
    """Rated or ranked lists as comparisons; for kto, rated ones by the limits. Raises UsageError."""
    by_limits = [listed for _, listed in found.listed if config.to == "kto" and not listed.ranked]
    if by_limits:
        _check_limits(config, sorted(value for listed in by_limits for value in listed.values))
    for record, listed in found.listed:
        try:
            if config.to == "kto" and not listed.ranked:
                rated = _by_limits(listed, config)
                found.rated += [(record, one) for one in rated]
                why = None if rated else "neutral or no opinion"
            else:
                # For kto one response must not be good in one pair and bad in the next.
                by = "best-worst" if config.to == "kto" else config.pair_by
                made = [compare(listed.prompt, *two) for two in listed.pairs(by, config.min_gap)]
                found.compared += [(record, pair) for pair in made]
                why = None if made else "tie"
        except ValueError as error:
            found.fail(record, str(error))
            continue
        if why is not None:
            found.drop(record, why)


def _by_limits(listed: Listed, config: ConvertConfig) -> list[Rated]:
    assert config.good_from is not None
    assert config.bad_to is not None
    rated = []
    for response, value in zip(listed.responses, listed.values, strict=True):
        if value >= config.good_from and not response.strip():
            raise ValueError("a good response is empty")
        if value >= config.good_from or value <= config.bad_to:
            rated.append(Rated(listed.prompt, response, value >= config.good_from))
    return rated


def _tell(found: Conversion, config: ConvertConfig, console: Console) -> None:
    """Each row that gave nothing, on the terminal those that could not be used."""
    left = [{"file": str(config.file)} | row for row in sorted(found.left, key=lambda row: row["line"])]
    failed = [row for row in left if row["status"] == "failed"]
    warn_of(failed, None if config.dry_run else config.rejected, console)
    if not config.dry_run:
        write_rejected(config.rejected, left)


def _gate_message(found: Conversion, config: ConvertConfig) -> str:
    seen = f"{found.failed} of {found.rows} rows could not be used"
    if found.failed <= config.max_failed * found.rows:
        told = ", ".join([seen, *(f"{number} {why}" for why, number in found.dropped.items())])
        return f"{config.file}: no row is left for {config.to}: {told}; see {config.rejected}"
    return (
        f"{config.file}: {seen} (allowed: {config.max_failed:.0%}); nothing is written but "
        f"{config.rejected}: correct them, or raise --max-failed"
    )


def _result(found: Conversion, rows: list[dict[str, Any]], config: ConvertConfig) -> dict[str, Any]:
    good = sum(row["label"] for row in rows) if config.to == "kto" else None
    return {
        "rows": found.rows,
        "written": len(rows),
        "desirable": good,
        "undesirable": None if good is None else len(rows) - good,
        "failed": found.failed,
        "dropped": dict(found.dropped),
        "forms": dict(found.layouts),
        "to": config.to,
        "format": config.format,
        "out": str(config.out),
        "rejected": str(config.rejected) if found.left and not config.dry_run else None,
    }


def convert_summary(result: Mapping[str, Any]) -> str:
    """The counts in a few lines."""
    kinds = {"kto": "labelled responses", "dpo": "pairs", "reward": "pairs"}
    written = "would be written" if "first" in result else "written"
    lines = [
        f"{result['rows']} rows read, {result['written']} {kinds[result['to']]} {written} to {result['out']}"
    ]
    told = ", ".join(f"{number} as {FORMS[form]}" for form, number in result["forms"].items())
    lines.append(f"recognised: {told}")
    if result["to"] == "kto":
        lines.append(f"desirable {result['desirable']}, undesirable {result['undesirable']}")
        if not result["desirable"] or not result["undesirable"]:
            lines.append("all labels are the same: prefgen train kto needs both kinds")
    left = {"could not be used": result["failed"], **result["dropped"]}
    told = ", ".join(f"{number} {why}" for why, number in left.items() if number)
    if told:
        where = f"; one by one in {result['rejected']}" if result["rejected"] else ""
        lines.append(f"left out: {told}{where}")
    if result.get("first"):
        lines.append(f"the first: {json.dumps(result['first'], ensure_ascii=False)}")
    return "\n".join(lines)
