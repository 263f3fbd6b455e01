"""The labelling page on a port of this machine, until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from importlib.util import find_spec
from urllib.parse import quote

from judges.constitution import Constitution
from pipelines.console import Console
from pipelines.labelling.config import LabelConfig
from pipelines.labelling.store import Store
from prefgen.errors import MissingExtraError, UsageError


def check_installed() -> None:
    """Raises MissingExtraError."""
    for package, module in (("starlette",) * 2, ("uvicorn",) * 2, ("markdown-it-py", "markdown_it")):
        if find_spec(module) is None:
            raise MissingExtraError(package, "label")


def listen(host: str, port: int) -> socket.socket:
    """Raises UsageError where the port is taken or the address not of this machine."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(128)  # Now: until somebody listens, the next one could bind it as well.
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); --port 0 takes a free port"
        ) from error
    return sock


def serve(store: Store, config: LabelConfig, constitution: Constitution | None, console: Console) -> None:
    """Returns after Ctrl-C or SIGTERM. Raises UsageError; expects `check_installed`."""
    import uvicorn

    from pipelines.labelling.app import make_app
    from pipelines.labelling.guard import is_loopback

    with listen(config.host, config.port) as sock:
        token = secrets.token_urlsafe(24)
        if not is_loopback(config.host):
            console.warn(
                f"listening on {config.host}: whoever gets the address reads the texts and labels, and it "
                "travels unencrypted"
            )
        _tell(config, f"{_shown_host(config.host)}:{sock.getsockname()[1]}", token)
        app = make_app(store, config, constitution, token)
        settings = uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        with suppress(KeyboardInterrupt):  # uvicorn ends in order and then raises the signal anew.
            uvicorn.Server(settings).run(sockets=[sock])


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _tell(config: LabelConfig, place: str, token: str) -> None:
    """Even with --quiet: without the address there is nothing to do."""
    names = () if config.adjudicate else config.annotators
    ways = [f"?annotator={quote(name, safe='')}" for name in names] or [""]
    console = Console()
    for way in ways:
        console.note(f"open http://{place}/{token}/{way}")
    console.note(f"Ctrl-C ends; every answer is kept at once in {config.store}, and the same command goes on")
