"""The story of a pair as text, for a terminal of 80 to 100 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.markup import signed
from pipelines.plain_table import plain_table
from pipelines.why.lines import heading, messages, shortened, wrapped

Found = Mapping[str, Any]
REASONS = {
    "margin": "not clear enough",
    "tie": "a tie",
    "inconsistent": "the two met, and the verdict goes against their scores",
    "unfinished": "a response is empty or was cut by the token limit, so it was not judged",
    "judge_failure": "a judgment failed, and none takes its place",
    "not_compared": "the two did not meet in both orders",
    "near_identical": "the two responses are nearly the same text",
    "chosen_truncated": "the better one was cut by the token limit",
    "chosen_empty": "the better one is empty",
    "length_gap": "the two are too different in length",
    "over_max_pairs": "there are clearer pairs of this prompt, and no more are kept",
    "not_proposed": "the strategy takes another pair of this prompt",
    "duplicate": "a response has the same text as another of this prompt",
}


def story_lines(found: Found) -> Iterator[str]:
    yield _verdict(found)
    yield from heading("Prompt", found["prompt_id"])
    yield from messages(found["prompt"])
    yield from _responses(found)
    yield from _judgments(found)
    yield from _principles(found["constitution"])
    yield from _arithmetic(found)
    yield from _calibration(found)
    yield from _rule(found)
    yield from _where(found)
    yield from _uses(found["uses"])
    yield from _loop(found["loop"])


def _verdict(found: Found) -> str:
    name = found["pair_id"] or f"{found['better']} and {found['worse']}"
    if found["kept"]:
        return f"{name}: kept, chosen over rejected with confidence {found['confidence']:.4f}"
    return f"{name}: no pair, {_why_not(found)}"


def _why_not(found: Found) -> str:
    """Of a pair that the strategy passes over also what would speak against it."""
    reasons = dict.fromkeys(name for name in (found["reason"], found["objection"]) if name)
    return "; besides, ".join(REASONS.get(name, name) for name in reasons)


def _responses(found: Found) -> Iterator[str]:
    roles = _roles(found)
    first = [found["better"], found["worse"]]
    ordered = sorted(
        found["candidates"], key=lambda item: (*(item["candidate_id"] != name for name in first),)
    )
    yield from heading("Responses", f"{len(ordered)} were written")
    for item in ordered:
        name = item["candidate_id"]
        facts = [item["policy"], f"draw {item['sample']}", f"seed {_or_none(item['seed'])}"]
        facts += [f"temperature {_or_none(item['temperature'])}", f"{_or_none(item['n_tokens'])} tokens"]
        facts += [item["finish_reason"], f"score {signed(item['score'], 3)}"]
        if item["duplicate_of"]:
            facts.append(f"the same text as {item['duplicate_of']}")
        yield from wrapped(f"{name} {roles.get(name, '')}".rstrip() + f": {', '.join(facts)}", "  ", "    ")
        if name in roles:
            yield from wrapped(item["text"] or "(empty)", "    | ", "    | ")
        else:
            yield f"    | {shortened(item['text'], 80)}"


def _roles(found: Found) -> dict[str, str]:
    return dict(zip((found["better"], found["worse"]), _names(found), strict=True))


def _names(found: Found) -> tuple[str, str]:
    """Without a margin neither is the better one."""
    if found["kept"]:
        return "CHOSEN", "REJECTED"
    return ("ONE", "OTHER") if found["margin"] is None else ("BETTER", "WORSE")


def _judgments(found: Found) -> Iterator[str]:
    roles, told = _roles(found), found["judgments"]
    yield from heading(
        "Judgments", f"{len(told)} on these two, of {found['judgments_of_prompt']} on the prompt"
    )
    served = {item["served"] or item["judge"] for item in told}
    if len(served) == 1:
        yield from wrapped(f"by {next(iter(served))}", "  ", "    ")
    for item in sorted(told, key=lambda item: bool(item["a_id"] != found["better"])):
        about = roles[item["a_id"]].lower()
        if item["b_id"] is not None:
            about = f"{about} against {roles[item['b_id']].lower()}"
            about += f", {roles[item['shown_first']].lower()} shown first" if item["shown_first"] else ""
        about += f", {item['principle']}" if item["principle"] else ""
        if item["status"] == "ok":
            worth = f"log-odds {item['log_odds']:+.3f}, probability {item['p_a']:.3f}"
        else:
            worth = f"FAILED: {item['status'].replace('_', ' ')}"
        yield from wrapped(f"{about}: {worth}", "  ", "    ")
        cost = "cost unknown" if item["cost"] is None else f"${item['cost']:.6f}"
        key = f"ledger {item['ledger_key'][:16]}" if item["ledger_key"] else "not in the ledger"
        by = f"{item['served'] or item['judge']}, " if len(served) > 1 else ""
        yield from wrapped(f"{by}{item['evidence']}, {cost}, {key}; wrote:", "    ", "    ")
        yield from wrapped(item["raw"] or "(nothing)", "    | ", "    | ")


def _principles(constitution: Found | None) -> Iterator[str]:
    if constitution is None:
        return
    yield from heading("Principles", f"{constitution['id']}, hash {constitution['hash']}")
    if constitution["principles"] is None:
        yield "  their file is not in its place, or was changed: --constitution FILE names it"
        return
    for item in constitution["principles"]:
        yield from wrapped(f"{item['id']} (weight {item['weight']:g}): {item['text']}", "  ", "    ")


def _arithmetic(found: Found) -> Iterator[str]:
    combined = found["combined"]
    one, other = ("one", "other") if found["margin"] is None else ("better", "worse")
    yield from heading("Combined", f"log-odds that {'ONE' if one == 'one' else 'the better one'} wins")
    for told in combined["judges"]:
        yield f"  {told['judge']}"
        names = (f"{one} first", f"{other} first", "mean") if told["pairs"] else (one, other, "difference")
        rows = [
            [
                term["principle"] or "all in one",
                _mean(term["first"]),
                _mean(term["second"]),
                f"{term['value']:+.3f}",
                f"{term['weight']:.4f}",
                f"{term['weight'] * term['value']:+.3f}",
            ]
            for term in told["terms"]
        ]
        table = plain_table(["principle", *names, "× weight", "="], rows)
        yield from (f"    {line}" for line in table)
        yield f"    sum {told['margin']:+.3f}"
    if combined["margin"] is None:
        yield f"  no margin: {REASONS[found['objection']]}"
        return
    judges = combined["judges"]
    if combined["combine"] == "cascade":
        yield f"  cascade: {combined['decided_by'] or 'the first judge'} decides, {combined['margin']:+.3f}"
    elif len(judges) > 1:
        yield f"  {combined['combine']} of {len(judges)} judges: {combined['margin']:+.3f}"
    elif not judges or abs(judges[0]["margin"] - combined["margin"]) > 1e-6:
        yield f"  by the scores, which all judgments of the prompt are in: {combined['margin']:+.3f}"
    if combined["slot_bias"] is not None and combined["combine"] != "cascade":
        lean = combined["slot_bias"]
        yield f"  towards the response shown first: {lean:+.3f}, which the mean of both orders is free of"


def _calibration(found: Found) -> Iterator[str]:
    told, sure = found["calibration"], found["confidence"]
    yield from heading("Confidence", "")
    if sure is None:
        yield "  none, without a margin"
    elif not told["stages"]:
        yield f"  not calibrated: 1 / (1 + exp(−{told['margin']:.3f})) = {sure:.4f}, the judge at its word"
    else:
        yield f"  calibrated by {told['file']}"
        for stage in told["stages"]:
            yield from wrapped(
                f"{stage['judge'] or 'the judge'}: {_map(stage['map'], stage['margin'])}", "  ", "    "
            )
        at_its_word = f"(the judge at its word: {told['raw_probability']:.4f})"
        yield f"  probability that people agree: {sure:.4f} {at_its_word}"
    needed = ("never sure enough" if limit is None else f"≥ {limit:.4g}" for limit in told["thresholds"])
    yield f"  needed: {', then '.join(needed)}" + (
        f", which earns {100 * told['target']:g}% precision" if told["target"] is not None else ""
    )


def _map(told: Found, margin: float | None) -> str:
    if margin is None:
        return "not asked about these two"
    if told["kind"] == "isotonic":
        return f"isotonic map of {len(told['steps'])} steps"
    style = f", plus {len(told['style'])} features of style" if told["style"] else ""
    return (
        f"{told['kind']} map, T = {told['temperature']:.3f}: t = {margin:+.3f} / T = "
        f"{margin / told['temperature']:+.3f}{style}; ties {told['tie']:.3f}"
    )


def _rule(found: Found) -> Iterator[str]:
    pairing = found["pairing"]
    yield from heading("Rule", found["rule"])
    gap = pairing["max_length_gap"]
    yield (
        f"  strategy {pairing['strategy']}, at most {pairing['max_pairs']} a prompt, similarity at most "
        f"{pairing['max_similarity']:g}, length gap {'any' if gap is None else f'at most {gap:g}'}"
    )
    yield from wrapped("kept" if found["kept"] else f"no pair: {_why_not(found)}", "  ", "    ")


def _where(found: Found) -> Iterator[str]:
    yield from heading("Rows", "")
    for row in found["rows"]:
        side = (
            ""
            if row["dataset"] == "dpo"
            else f": {row['candidate_id']}, {'desirable' if row['label'] else 'undesirable'}"
        )
        yield f"  {row['dataset']}/{row['split']}.parquet{side}"
    if not found["kept"] and found["pair_id"]:
        yield f"  undecided.parquet, as {found['pair_id']}: for people to decide"
    if not found["rows"] and (found["kept"] or not found["pair_id"]):
        yield "  none"
    if found["source"]:
        yield f"  the run was paired anew from {found['source']}"


def _uses(uses: Sequence[Found]) -> Iterator[str]:
    yield from heading("Used by", "")
    if not uses:
        yield "  nothing on record, and no training on these rows near the run (--look-in FOLDER)"
    for use in uses:
        gone = " (gone)" if use["gone"] else ""
        stage = f" {use['stage']}" if use.get("stage") else ""
        yield from wrapped(f"{use['kind']}{stage} in {use['path']}{gone}", "  ", "    ")
        for told in use.get("saw", ()):
            yield from wrapped(told, "    ", "      ")
        for told in use.get("evaluations", ()):
            yield from wrapped(_rate(told), "    ", "      ")


def _rate(told: Found) -> str:
    low, high = told["ci"] or (float("nan"), float("nan"))
    side = "" if told["side"] == "model" else ", as the baseline"
    return (
        f"evaluated in {told['path']}{side}: win rate {told['win_rate']:.1f}% [{low:.1f}, {high:.1f}] of "
        f"{told['n']} by {told['judge']}"
    )


def _loop(loop: Found | None) -> Iterator[str]:
    if loop is None:
        return
    yield from heading("Loop", f"round {loop['round']} of {loop['loop']}")
    before, this, after = loop["before"], loop["this"], loop["after"]
    wrote = this["wrote"] if this is not None else "a model that is not on record yet"
    came = f", the model of round {before['round']}" if before is not None else ", the start"
    yield from wrapped(f"its responses were written by {wrote}{came}", "  ", "    ")
    row = loop["lineage"]
    if row is not None:
        yield f"  lineage: {row['split']}, model {row['model'] or 'none: the stage needed no pairs'}"
    for told in (this, after):
        if told is not None:
            yield from wrapped(
                f"round {told['round']}: {told['model']} wins {told['win_rate_over_start']:.1f}% over the "
                f"start, {told['win_rate_over_last']:.1f}% over the round before, by {told['judge']}",
                "  ",
                "    ",
            )
    if loop["best_round"] is not None:
        yield f"  best round: {loop['best_round']}"


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):+.3f}" if values else "–"


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)
