"""`prefgen export --push`, against a hub on loopback: asked for, shown, private, nothing but the export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exporting import Made, plain, write_run
from hub import Hub, hub
from running import Runner, files, process

from pipelines.console import Console
from pipelines.export import push as pushing
from pipelines.export.config import ExportConfig
from pipelines.export.push import check_push, look, push
from prefgen.errors import GateError, ModelUnavailableError, UsageError
from prefgen.messages import user

NAME = "me/pairs"


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as state:
        yield state


@pytest.fixture
def api(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tests run offline; loopback is let through by closing the client that was made before."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    yield HfApi(endpoint=server.url, token="hf_good")
    close_session()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def exported(run: Runner, tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", [plain(1), plain(2)])
    assert run("export", folder, "--for", "trl").code == 0
    return folder / "exports" / "trl" / "dpo"


def config(**values: object) -> ExportConfig:
    return ExportConfig.model_validate({"run": "run", "trainer": "trl", "push": NAME, "yes": True, **values})


def test_an_upload_is_private_and_holds_the_export_only(tmp_path: Path, server: Hub) -> None:
    """As users start it; with the ledger, the tables and the manifest beside it."""
    folder = write_run(tmp_path / "run", [plain(1), plain(2)])
    (folder / "ledger.sqlite").write_bytes(b"paid answers")
    env = {
        "HF_ENDPOINT": server.url,
        "HF_TOKEN": "hf_good",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
    }
    done = process("export", folder, "--for", "openrlhf", "--push", NAME, "--yes", "--json", env=env)
    assert done.code == 0, done.err
    out = folder / "exports" / "openrlhf" / "dpo"
    assert server.repos == {NAME: True}
    assert set(server.files) == files(out) == {"README.md", "export.json", "train.jsonl"}
    assert server.files["train.jsonl"] == (out / "train.jsonl").read_bytes()
    assert f"to upload to {NAME} (private) as me" in done.err
    assert f"train.jsonl  {(out / 'train.jsonl').stat().st_size:,} bytes" in done.err
    assert done.result["pushed"] == {
        "repo": NAME, "url": f"{server.url}/datasets/{NAME}", "visibility": "private",
        "commit": "1" * 40, "files": sorted(files(out)),
    }  # fmt: skip


def test_without_a_terminal_it_has_to_be_meant(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder = write_run(tmp_path / "run", [plain(1)])
    done = run("export", folder, "--for", "trl", "--push", NAME)
    assert done.code == 2
    assert "there is no terminal to ask on; add --yes" in done.err
    assert not (folder / "exports").exists()


def test_public_has_to_be_said(exported: Path, server: Hub, api: Any) -> None:
    done = push(config(public=True), exported, Console(quiet=True), api)
    assert server.repos == {NAME: False}
    assert done["visibility"] == "public"


@pytest.mark.parametrize(
    ("private", "public", "message"), [(False, False, "add --public"), (True, True, "leave out --public")]
)
def test_a_dataset_that_is_there_keeps_its_visibility(
    private: bool, public: bool, message: str, exported: Path, server: Hub, api: Any
) -> None:
    server.repos[NAME] = private
    with pytest.raises(UsageError, match=message):
        push(config(public=public), exported, Console(quiet=True), api)
    assert server.files == {}
    assert server.repos == {NAME: private}


@pytest.mark.parametrize(("typed", "uploaded"), [(NAME, True), ("yes", False), ("", False)])
def test_on_a_terminal_the_name_is_asked_for(
    typed: str, uploaded: bool, exported: Path, server: Hub, api: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(pushing.click, "prompt", lambda *_, **__: typed)
    if uploaded:
        push(config(yes=False), exported, Console(quiet=True), api)
    else:
        with pytest.raises(UsageError, match=f"nothing was uploaded; the export is at {exported}"):
            push(config(yes=False), exported, Console(quiet=True), api)
    assert bool(server.files) is bool(server.repos) is uploaded
    assert "3 files" in capsys.readouterr().err


def test_what_looks_like_a_key_is_not_uploaded(run: Runner, tmp_path: Path, server: Hub, api: Any) -> None:
    secret = "sk-" + "a1b2c3d4" * 4
    made = [plain(1), Made(user(f"My key is {secret}, mail me@example.org")), plain(2)]
    folder = write_run(tmp_path / "run", made)
    for trainer, name in (("trl", "train.parquet"), ("openrlhf", "train.jsonl")):
        assert run("export", folder, "--for", trainer).code == 0
        out = folder / "exports" / trainer / "dpo"
        assert look(out).personal == 1
        with pytest.raises(GateError, match=rf"look.* like a key .*{name}:2; .*hf upload {NAME}") as error:
            push(config(), out, Console(quiet=True), api)
        assert secret not in str(error.value)
    assert server.asked == []


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "Q7" * 8,
        "ghp_" + "a1B2" * 9,
        "xoxb-1234567890-x",
        "AIza" + "Sy-4_" * 7,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    ],
)
def test_keys_of_other_services_are_found_too(secret: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(f'{{"prompt": "x"}}\n{{"prompt": "it is {secret}"}}\n')
    assert look(tmp_path).secret == ("train.jsonl:2",)


def test_what_a_link_leads_to_is_not_uploaded(exported: Path, tmp_path: Path, server: Hub, api: Any) -> None:
    (tmp_path / "private").write_text("mine")
    (exported / "notes.txt").symlink_to(tmp_path / "private")
    push(config(), exported, Console(quiet=True), api)
    assert set(server.files) == {"README.md", "export.json", "train.parquet"}


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "the token may not write to me/pairs"), (500, "the hub answered 500: try again")],
)
def test_what_the_hub_refuses_is_told(
    status: int, message: str, exported: Path, server: Hub, api: Any
) -> None:
    server.refuse = status
    with pytest.raises(UsageError, match=message):
        push(config(), exported, Console(quiet=True), api)
    assert files(exported)


def test_a_token_that_is_none(exported: Path, server: Hub, api: Any) -> None:
    api.token = "hf_bad"
    with pytest.raises(UsageError, match="the hub answered 401: the token is not accepted"):
        push(config(), exported, Console(quiet=True), api)


def test_no_token(exported: Path, api: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    api.token = None
    with pytest.raises(ModelUnavailableError, match="no token; run: hf auth login"):
        push(config(), exported, Console(quiet=True), api)


def test_a_hub_that_is_away(exported: Path, server: Hub, api: Any) -> None:
    api.endpoint = "http://127.0.0.1:9"
    with pytest.raises(UsageError, match="the hub cannot be reached"):
        push(config(), exported, Console(quiet=True), api)
    # No header can hold this token, and who says so quotes it.
    api.endpoint, api.token = server.url, "hf_" + "a1b2c3d4" * 4 + "\nx"
    with pytest.raises(UsageError, match="the hub cannot be reached") as error:
        push(config(), exported, Console(quiet=True), api)
    assert "a1b2c3d4" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "offline", "message"),
    [
        ({"push": "pairs"}, False, "expected OWNER/NAME"),
        ({"push": "../up/pairs"}, False, "expected OWNER/NAME"),
        ({}, True, "HF_HUB_OFFLINE .* is set"),
    ],
)
def test_what_can_only_fail_is_refused_at_once(
    values: dict[str, object], offline: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(UsageError, match=message):
        check_push(config(**values))
