"""Who may talk to the labelling page: those with the token, by an address that is ours.

The token is the first part of the path. Pages link to each other relatively, so that it stands in no page; it
is never sent on (no-referrer) and never logged. A form of another site cannot know it.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.labelling.page import refusal_page

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Stands before the whole app. `host`: what the server listens on."""

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app, self._token, self._host = app, token.encode(), host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        answer = self._app if refusal is None else HTMLResponse(refusal_page(refusal[1]), refusal[0])
        await answer(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if not known_host(headers.get("host", ""), self._host):
            return 421, "This server does not go by that name."
        token = scope["path"].removeprefix("/").partition("/")[0].encode()
        if not secrets.compare_digest(token, self._token):
            return (
                403,
                "This page needs the whole address that prefgen label printed when it was started last.",
            )
        if scope["method"] == "POST" and headers.get("sec-fetch-site", "same-origin") not in (
            "same-origin",
            "none",
        ):
            return 403, "A form of another site."
        return None


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending


def known_host(header: str, bound: str) -> bool:
    """Whether a Host header names this server. A page elsewhere whose name was pointed here (DNS rebinding)
    brings its own name: on loopback only loopback's are taken, else `bound`, this machine's name or a
    bare address, which no name can be pointed away from."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    name = name.strip("[]").lower().rstrip(".")
    if name in ("localhost", bound.lower()) or (
        not is_loopback(bound) and name == socket.gethostname().lower()
    ):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not is_loopback(bound)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
