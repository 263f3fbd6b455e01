"""Uploading an export to the Hugging Face Hub: shown first, asked for, private unless told otherwise.

Only the files of the export are sent: no ledger, no judgments, no manifest, no path of this machine.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.console import Console, shown
from pipelines.export.config import ExportConfig
from pipelines.export.job import export
from prefgen.errors import GateError, ModelUnavailableError, PrefgenError, UsageError
from prefgen.secrets import hide
from prefgen.tables import read_table

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_KEY = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[opsu]_\w{36}|github_pat_\w{22}|glpat-[\w-]{20}|xox[abprs]-[\w-]{10}|AIza[\w-]{35})"
    r"|-----BEGIN (?:[A-Z]{1,12} ){0,2}PRIVATE KEY-----",
    re.ASCII,
)
"""Keys of other services than ours, in texts that people pasted."""
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}\.[A-Za-z]{2,24}")


@dataclass(frozen=True, slots=True)
class Found:
    """What an upload would send. `secret`: places that look like a key; `personal`: rows with an address."""

    files: tuple[Path, ...]
    secret: tuple[str, ...]
    personal: int


def export_and_push(config: ExportConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """The whole job; see `pipelines.export.job.export` and `push`."""
    if config.push is not None:
        check_push(config)
    made = export(config, console, overwrite=overwrite)
    if config.push is not None:
        made["pushed"] = push(config, Path(made["out"]), console)
    return made


def check_push(config: ExportConfig) -> None:
    """Before anything is written: raises UsageError where the upload could only be refused at its end."""
    from huggingface_hub.constants import is_offline_mode

    if config.push is None or not _NAME.fullmatch(config.push):
        raise UsageError(f"--push {config.push}: expected OWNER/NAME, for example --push me/my-preferences")
    if is_offline_mode():
        raise UsageError(
            "--push: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, so nothing may be uploaded; unset it, "
            "or leave out --push"
        )
    if not config.yes and not sys.stdin.isatty():
        raise UsageError(
            "--push asks before it uploads, and there is no terminal to ask on; add --yes if you mean it"
        )


def push(config: ExportConfig, folder: Path, console: Console, api: HfApi | None = None) -> dict[str, Any]:
    """Uploads the files of `folder` as a dataset and returns where they are.

    Raises UsageError where it is not wanted or the hub says no, GateError where a row looks like it holds a
    key. What was written stays where it is in any case.
    """
    assert config.push is not None
    found = look(folder)
    if found.secret:
        raise GateError(
            f"--push: {len(found.secret)} places hold what looks like a key or a password, so nothing was "
            f"uploaded: {', '.join(found.secret[:5])}; take these rows out, or, if they are none, upload by "
            f"hand: hf upload {config.push} {folder} --type dataset --private"
        )
    with _hub(config.push):
        api = api or _api()
        account = api.whoami()["name"]
        visibility = _visibility(api, config)
    _show(config, folder, found, account, visibility, console)
    if not config.yes:
        _ask(config.push, folder)
    with _hub(config.push):
        api.create_repo(config.push, repo_type="dataset", private=not config.public, exist_ok=True)
        done = api.upload_folder(
            repo_id=config.push,
            folder_path=folder,
            repo_type="dataset",
            allow_patterns=[path.name for path in found.files],
            commit_message="Preference data made with prefgen",
        )
    url = f"{api.endpoint}/datasets/{config.push}"
    return {
        "repo": config.push,
        "url": url,
        "visibility": visibility.partition(",")[0],
        "commit": done.oid,
        "files": [path.name for path in found.files],
    }


def look(folder: Path) -> Found:
    """The files and what is in them that should not be made known."""
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink()))
    secret: list[str] = []
    personal = 0
    for path in files:
        for line, text in _texts(path):
            if hide(text) != text or _KEY.search(text):
                secret.append(f"{path.name}:{line}")
            personal += "@" in text and bool(_EMAIL.search(text))
    return Found(files, tuple(secret), personal)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix == ".parquet":
        for line, row in enumerate(read_table(path), start=1):
            yield line, json.dumps(row, ensure_ascii=False)
    else:
        with path.open(encoding="utf-8") as file:
            yield from enumerate(file, start=1)


def _api() -> HfApi:
    from huggingface_hub import HfApi

    from prefgen import __version__

    return HfApi(library_name="prefgen", library_version=__version__)


def _visibility(api: HfApi, config: ExportConfig) -> str:
    """In words. Raises UsageError where a dataset that everybody reads would be written without --public."""
    from huggingface_hub.errors import RepositoryNotFoundError

    assert config.push is not None
    try:
        private = api.dataset_info(config.push).private
    except RepositoryNotFoundError:
        return "public, everybody may read it" if config.public else "private"
    if not private and not config.public:
        raise UsageError(
            f"--push {config.push}: that dataset is there already and public; add --public, or choose "
            "another name"
        )
    if private and config.public:
        raise UsageError(
            f"--push {config.push}: that dataset is there already and private; leave out --public, and "
            "change it on its page if you want to"
        )
    return "private, exists already" if private else "public, exists already, everybody may read it"


def _show(
    config: ExportConfig, folder: Path, found: Found, account: str, visibility: str, console: Console
) -> None:
    total = sum(path.stat().st_size for path in found.files)
    lines = [f"to upload to {config.push} ({visibility}) as {account}, from {folder}:"]
    lines += [f"  {path.name}  {path.stat().st_size:,} bytes" for path in found.files]
    lines.append(f"  {len(found.files)} files, {total:,} bytes; no ledger, no judgments")
    if found.personal:
        lines.append(f"  {found.personal} rows hold what looks like an e-mail address")
    console.note("\n".join(lines)) if config.yes else click.echo(shown("\n".join(lines)), err=True)


def _ask(name: str, folder: Path) -> None:
    typed = click.prompt(
        f"Type {name} to upload, anything else to stop", default="", show_default=False, err=True
    )
    if typed.strip() != name:
        raise UsageError(f"nothing was uploaded; the export is at {folder}")


@contextmanager
def _hub(name: str) -> Iterator[None]:
    """The hub's errors, in words that say what to do."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ModelUnavailableError("--push: no token; run: hf auth login, or set HF_TOKEN") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = {
            401: "the token is not accepted; run: hf auth login, or set HF_TOKEN to one that may write",
            403: f"the token may not write to {name}; make one that may, or choose an owner that is yours",
            404: f"there is no such owner: {name.partition('/')[0]}",
        }.get(status, "try again later; the export stays where it is")
        raise UsageError(f"--push: the hub answered {status}: {advice}") from error
    except PrefgenError:
        raise
    except Exception as error:  # Which library its client raises from changes with its version.
        what = hide(f"{type(error).__name__}: {error}")
        raise UsageError(
            f"--push: the hub cannot be reached ({what}); the export stays where it is"
        ) from error
