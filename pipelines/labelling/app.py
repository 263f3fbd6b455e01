"""The labelling server: pages out of the store, answers into it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast, get_args
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from judges.constitution import Constitution
from pipelines.labelling.config import LabelConfig
from pipelines.labelling.export import write_labels
from pipelines.labelling.guard import Guard
from pipelines.labelling.item import ADJUDICATOR, Answer, name_of, other_side, swapped
from pipelines.labelling.page import asset, dispute, done_page, item_page, refusal_page, who_page
from pipelines.labelling.store import Store
from pipelines.labelling.summary import summary

_LARGEST = 64 * 1024
"""Bytes of a form."""
_LONGEST_REASON = 2000
_TYPES = {"label.css": "text/css", "label.js": "text/javascript"}


@dataclass(frozen=True, slots=True)
class Desk:
    """What the pages are made of, and what each request does. All run on one thread."""

    store: Store
    config: LabelConfig
    constitution: Constitution | None
    sides: str
    changed: asyncio.Event

    @property
    def _names(self) -> Sequence[str]:
        return (ADJUDICATOR,) if self.config.adjudicate else self.config.annotators

    def _who(self, request: Request) -> str | None:
        """None: not said yet. Raises HTTPException for a name that may not label."""
        given = request.query_params.get("annotator")
        if self.config.adjudicate:
            return ADJUDICATOR
        if given is None:
            return None
        try:
            name = name_of(given)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        if name == ADJUDICATOR or (self._names and name not in self._names):
            raise HTTPException(403, f"{name} is not among the annotators of this page.")
        return name

    def _known(self, request: Request) -> str:
        who = self._who(request)
        if who is None:
            raise HTTPException(400, "No annotator is named in the address.")
        return who

    async def show(self, request: Request) -> Response:
        who = self._who(request)
        if who is None:
            return HTMLResponse(who_page(self._names))
        item = self.store.next(who)
        if item is None:
            return RedirectResponse(f"done?annotator={quote(who, safe='')}", 303)
        swap = swapped(self.sides, who, item.id)
        said = self.store.of(item.id) if self.config.adjudicate else []
        return HTMLResponse(
            item_page(
                item,
                swap,
                who,
                self.store.progress(who),
                last=self.store.last(who),
                before=self.store.before(who, item.id),
                said=request.query_params.get("said", ""),
                constitution=self.constitution,
                dispute=dispute(item, said, self.sides, swap) if said else "",
            )
        )

    async def answer(self, request: Request) -> Response:
        who, form = self._known(request), await _form(request)
        choice, item = form.get("choice", ""), form.get("item", "")
        if choice not in get_args(Answer) or self.store.item(item) is None:
            raise HTTPException(400, "That is no answer to a pair of this page.")
        label = other_side(cast(Answer, choice), swapped(self.sides, who, item))
        kept = self.store.answer(who, item, label, form.get("reason", "").strip()[:_LONGEST_REASON])
        return self._on(who, "" if kept else "twice")

    async def undo(self, request: Request) -> Response:
        who, form = self._known(request), await _form(request)
        seq = form.get("seq", "")
        done = seq.isdecimal() and len(seq) < 16 and self.store.undo(who, int(seq))
        return self._on(who, "undone" if done else "stale")

    async def again(self, request: Request) -> Response:
        who = self._known(request)
        self.store.unskip(who)
        return self._on(who, "")

    def _on(self, who: str, said: str) -> Response:
        self.changed.set()
        return RedirectResponse(
            f"./?annotator={quote(who, safe='')}" + (f"&said={said}" if said else ""), 303
        )

    async def done(self, request: Request) -> Response:
        who = self._known(request)
        self.changed.set()
        found = summary(self.store, self.config)
        whole = self.config.adjudicate or found["n_complete"] == found["n_items"]
        return HTMLResponse(
            done_page(who, self.store.progress(who), self.store.last(who), found, whole=whole)
        )

    async def asset(self, request: Request) -> Response:
        name = request.path_params["asset"]
        if name not in _TYPES:
            raise HTTPException(404, "There is no such page.")
        return Response(asset(name), media_type=_TYPES[name])


async def _form(request: Request) -> dict[str, str]:
    """The fields of a posted form, each once."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise HTTPException(413, "The form is too large.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError as error:
        raise HTTPException(400, "That is no form of this page.") from error
    return {name: values[-1] for name, values in fields.items()}


def make_app(store: Store, config: LabelConfig, constitution: Constitution | None, token: str) -> Starlette:
    """The app behind its guard. Beside the pages it keeps the labels file up to date."""
    desk = Desk(store, config, constitution, store.sides(), asyncio.Event())

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        ended = asyncio.Event()
        writer = asyncio.create_task(_keep_written(desk, ended))
        try:
            yield
        finally:
            ended.set()
            desk.changed.set()
            await writer  # It may be in the middle of the file.

    return Starlette(
        routes=[
            Route("/{token}/", desk.show),
            Route("/{token}/done", desk.done),
            Route("/{token}/answer", desk.answer, methods=["POST"]),
            Route("/{token}/undo", desk.undo, methods=["POST"]),
            Route("/{token}/again", desk.again, methods=["POST"]),
            Route("/{token}/{asset}", desk.asset),
        ],
        middleware=[Middleware(Guard, token=token, host=config.host)],
        exception_handlers={HTTPException: _refused, sqlite3.Error: _not_kept},
        lifespan=life,
    )


async def _keep_written(desk: Desk, ended: asyncio.Event) -> None:
    """Writes the labels file after answers came in, by a connection of its own: no page waits for it."""
    while True:
        await desk.changed.wait()
        if ended.is_set():
            return
        desk.changed.clear()
        await asyncio.to_thread(_write, desk.config)


def _write(config: LabelConfig) -> None:
    with suppress(Exception), Store(config.store) as store:
        # Where it fails now, it is tried again after the next answer and at the end, which tells of it.
        write_labels(store, config.labels)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return HTMLResponse(refusal_page(error.detail), error.status_code)


async def _not_kept(request: Request, error: Exception) -> Response:
    if request.method != "POST":
        return PlainTextResponse(
            f"The page cannot be made ({error}). What was kept before is kept. Free disk space and reload.",
            503,
        )
    return PlainTextResponse(
        f"The answer could not be kept ({error}). Free disk space, go back and send it again.", 503
    )
