"""What models and users wrote is data: it does nothing to a terminal, whichever way it gets there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page import HOSTILE
from running import Runner, write_prompts

from pipelines.console import Console

TRICKS = {
    "colour": "\x1b[31mred\x1b[0m",
    "8-bit colour": "\x9b31mred",
    "link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x07",
    "title": "\x1b]0;owned\x07",
    "unended title": "\x1b]0;owned",
    "cleared screen": "\x1b[2J\x1b[H",
    "typed answer": "\x1b[6n\x1b[c",
    "device control": "\x1bP$q\x1b\\",
    "overwritten line": "error: none\rall is well",
    "deleted": "bad\x08\x08\x08\x7fgood",
    "turned round": "\u202egnp.exe \u2066x\u2069",
    "half a character": "\ud800",
    "markup": "[red]x[/red] [/nowhere] [link=http://evil.example]y[/link] :warning:",
    "all": HOSTILE,
}
HARMFUL = ("\x1b", "\x9b", "\x07", "\x08", "\x7f", "\r", "\x00", "\u202e", "\u2066", "\ud800")


def assert_harmless(text: str) -> None:
    assert [sign for sign in HARMFUL if sign in text] == []
    text.encode()


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_notes_warnings_errors_and_results_are_inert(trick: str, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.note(trick)
    console.warn(trick)
    console.error(trick)
    console.result({}, trick)
    with console.step(trick), console.progress(trick, 2, lambda: trick) as advance:
        advance()
    out, err = capsys.readouterr()
    assert_harmless(out)
    assert_harmless(err)


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_progress_on_a_terminal_shows_nothing_but_its_own_codes(
    trick: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "400")

    def shown(text: str) -> str:
        console = Console()
        with console.step(text), console.progress(text, 2, lambda: text) as advance:
            advance()
        return capsys.readouterr().err

    ours = shown("plain")
    assert "\x1b[" in ours, "this is no terminal"
    told = shown(trick)
    assert "\x1b]" not in told
    assert "evil.example\x1b\\" not in told
    for sign in set(HARMFUL) - {"\x1b", "\r"}:
        assert sign not in told
    for code in ("\x1b[31mred", "\x1b[2J", "\x1b[6n", "\x1b[c", "\x1bP"):
        assert code not in told


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_json_stays_json_of_the_same_values_and_one_harmless_line(
    trick: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(as_json=True).result({trick: [trick, 1.5, None, "né…"]}, "")
    line = capsys.readouterr().out
    assert json.loads(line) == {trick: [trick, 1.5, None, "né…"]}
    assert_harmless(line)
    assert line.count("\n") == 1
    assert "né…" in line


@pytest.mark.parametrize("trick", [HOSTILE.replace("\x00", ""), "\x1b[2J", "x\ry"])
def test_commands_complain_about_hostile_input_harmlessly(
    trick: str, tmp_path: Path, prefgen: Runner
) -> None:
    prompts = write_prompts(tmp_path / "p.jsonl", [{"id": trick, "prompt": "p"}])
    (tmp_path / "c.yaml").write_text(json.dumps({trick: 1}))
    said = [
        prefgen("generate", prompts, "--policy", trick, "--judge", trick, "--out", tmp_path / "a"),
        prefgen("generate", prompts, "--policy", f"{trick}/x", "--judge", "scripted/judge", "--out", "b"),
        prefgen("generate", prompts, f"--{trick}", "1"),
        prefgen("generate", prompts, "--seed", trick),
        prefgen("generate", f"{trick}.jsonl", "--policy", "scripted/writer", "--judge", "scripted/judge"),
        prefgen("generate", "--config", tmp_path / "c.yaml"),
        prefgen("calibrate", f"{trick}.csv", "--judge", "scripted/judge", "--out", tmp_path / "c"),
        prefgen("report", trick),
        prefgen(trick),
        prefgen("generate", prompts, "--policy", "scripted/writer", "--judge", "scripted/judge", "--out",
                tmp_path / "d"),
    ]  # fmt: skip
    for ran in said:
        assert ran.code == 2
        assert ran.err
        assert_harmless(ran.err)
        assert_harmless(ran.out)
