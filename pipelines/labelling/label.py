"""Labels by people: draws pairs, shows them on a local page, and writes what calibrate reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from judges.constitution import Constitution, load_constitution
from pipelines.console import Console
from pipelines.labelling.config import FIRST, LabelConfig, Sampling
from pipelines.labelling.export import write_labels, write_verdicts
from pipelines.labelling.item import Item
from pipelines.labelling.sample import Drawable, draw
from pipelines.labelling.serve import check_installed, serve
from pipelines.labelling.source import FromRun, Source, Votes, source_of
from pipelines.labelling.store import Store
from pipelines.labelling.summary import summary
from pipelines.markup import many
from pipelines.uses import record
from prefgen.errors import InputError, UsageError
from prefgen.files import file_hash
from prefgen.messages import messages_hash
from prefgen.records import check_unwritten
from prefgen.run import RunDirectory


def label(config: LabelConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Opens the page until Ctrl-C, keeps `config.labels` up to date and returns what came of it.

    Raises UsageError and its kin for bad input and for a store that was drawn in another way.
    """
    if config.export_only:
        return _exported(config)
    check_installed()
    if not config.store.exists():
        check_unwritten(config.labels, overwrite)
        check_unwritten(config.verdict_file, overwrite)
    constitution = load_constitution(config.constitution) if config.constitution is not None else None
    drawn = _drawn(config)
    if drawn is not None and config.audit is None:
        _warn_of_few_prompts(drawn, console)
    with Store(config.store, config.overlap) as store:
        if drawn is not None:
            store.add(drawn.items, drawn.votes, drawn.meta)
            if drawn.judge is not None:
                write_verdicts(store, config.verdict_file, drawn.judge)
        _check_something_to_do(config, summary(store, config))
        if constitution is None:
            constitution = _of_run(config, console)
        serve(store, config, constitution, console)
        write_labels(store, config.labels)
        if config.source.is_dir():
            record(config.source, "labels", config.labels)
        return summary(store, config)


def _warn_of_few_prompts(drawn: _Drawn, console: Console) -> None:
    n, prompts = len(drawn.items), len({messages_hash(item.prompt) for item in drawn.items})
    if prompts < n:
        console.warn(
            f"{many(n, 'pair')} of {many(prompts, 'prompt')}: prefgen calibrate tests a precision on one "
            "label of each prompt; labels of other prompts tell more"
        )


def _exported(config: LabelConfig) -> dict[str, Any]:
    if not config.store.exists():
        raise UsageError(f"{config.store} is not there: nothing was labelled yet; leave out --export-only")
    with Store(config.store, config.overlap) as store:
        if config.audit is not None and not (store.meta("drawn") or {}).get("audit"):
            raise UsageError(
                f"{config.store} holds no audit: its pairs were not drawn for one; leave out --audit"
            )
        write_labels(store, config.labels)
        return summary(store, config)


def _drawn_by(config: LabelConfig) -> dict[str, Any]:
    """What must stay the same for one store."""
    file = config.source / "manifest.json" if config.source.is_dir() else config.source
    return {
        "source": file_hash(file) if file.is_file() else None,
        "audit": config.audit is not None,
        **config.model_dump(mode="json", include={"sample", "draw_from", "seed"}),
    }


def _wanted(config: LabelConfig) -> int | None:
    """How many pairs; None for all."""
    return config.audit or config.count or (FIRST if config.source.is_dir() else None)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What a store lacks of the pairs asked for. `meta`: what they were drawn by."""

    items: list[Item]
    votes: Votes
    meta: dict[str, object]
    judge: str | None


def _drawn(config: LabelConfig) -> _Drawn | None:
    """None where the store has all it should. The input is read before anything is made."""
    known: list[str] = []
    if config.store.exists():
        with Store(config.store) as store:
            before, known = store.meta("drawn"), store.ids()
            if before is not None:
                _check_same(config, before)
                wanted = config.audit or config.count
                if wanted is None or wanted <= len(known) or store.meta("exhausted"):
                    return None
    return _draw(config, source_of(config), set(known))


def _check_same(config: LabelConfig, before: dict[str, Any]) -> None:
    now = _drawn_by(config)
    changed = [name for name in now if now[name] != before[name]]
    if changed:
        told = ("the file" if name == "source" else f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(
            f"{config.store} holds pairs that were drawn in another way ({' and '.join(told)} changed); name "
            "another --out, or go on as before (--export-only writes its labels)"
        )


def _draw(config: LabelConfig, source: Source, known: set[str]) -> _Drawn:
    pool = [
        Drawable(item.id, messages_hash(item.prompt), item.sure)
        for item in source.items()
        if item.id not in known
    ]
    if not pool and not known:
        raise InputError(
            config.source, "no pair to label", expected="a run with comparisons, or another --draw-from"
        )
    wanted = _wanted(config)
    count = len(pool) if wanted is None else wanted - len(known)
    chosen = set(draw(pool, _how(config, pool), count, config.seed))
    items = [item for item in source.items() if item.id in chosen]
    meta = _meta(config, source, exhausted=len(pool) <= count)
    return _Drawn(items, source.votes, meta, source.judge)


def _how(config: LabelConfig, pool: list[Drawable]) -> Sampling:
    known = any(item.sure is not None for item in pool)
    if config.audit is not None:
        return "random"
    if config.sample in ("stratified", "informative") and not known:
        raise UsageError(
            f"--sample {config.sample} needs to know how sure the judge is: run prefgen judge on "
            f"{config.source} and give its file with --verdicts"
        )
    return config.sample or ("informative" if known and _wanted(config) is not None else "random")


def _meta(config: LabelConfig, source: Source, *, exhausted: bool) -> dict[str, object]:
    promise: dict[str, object] = {}
    if isinstance(source, FromRun):
        promise = {
            "expected": source.manifest["expected_label_precision"],
            "n_pairs": source.manifest["counts"]["pairs"],
        }
    return {"drawn": _drawn_by(config), "seed": config.seed, "promise": promise, "exhausted": exhausted}


def _check_something_to_do(config: LabelConfig, found: dict[str, Any]) -> None:
    if config.adjudicate and not found["disputed"]:
        raise UsageError(f"no two annotators disagree in {config.store}: there is nothing to adjudicate")
    fresh = all(told["seconds"] is None for told in found["annotators"].values())
    if not config.adjudicate and fresh and found["n_complete"] == found["n_items"]:
        raise UsageError(
            f"every pair of {config.source} has its {many(config.overlap, 'label')} already; --overlap "
            f"{config.overlap + 1} asks for another person's"
        )


def _of_run(config: LabelConfig, console: Console) -> Constitution | None:
    """The principles that a run's judge went by, where they can still be read."""
    if not config.source.is_dir():
        return None
    manifest = RunDirectory.open(config.source).manifest
    told = manifest.get("constitution")
    if told is None:
        return None
    name = manifest["config"]["constitution"]
    try:
        constitution = load_constitution(str(name))
    except InputError:
        console.warn(
            f"the run's constitution {name} is gone: no principles are shown; --constitution FILE has them"
        )
        return None
    if constitution.hash != told["hash"]:
        console.warn(
            f"{name} has changed since the run was judged: people see other principles than the judge did"
        )
    return constitution
