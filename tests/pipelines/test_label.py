"""`prefgen label` as a command: where pairs come from, what is refused, and a browser that labels."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from labelling import EVIL, hostile_file, pairs_file, serving
from playwright.sync_api import Browser, Page, sync_playwright
from running import FAKES, Runner, process, rows, some_prompts, write_prompts

from pipelines.console import Console
from pipelines.labelling import label as job
from pipelines.labelling.config import LabelConfig
from pipelines.labelling.item import Item
from pipelines.labelling.serve import listen
from pipelines.labelling.source import FromRun, source_of
from pipelines.labelling.store import Store
from pipelines.rlaif.human import agreement, check_rows
from pipelines.uses import uses
from prefgen.errors import MissingExtraError, UsageError
from prefgen.judgment import sigmoid
from prefgen.labels import read_labels
from prefgen.verdict_file import read_verdicts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of scripted models, with pairs and undecided ones."""
    from pipelines.cli import main

    folder = tmp_path_factory.mktemp("label")
    arguments = [
        "generate", some_prompts(folder / "p.jsonl", 24), *FAKES, "--n", 4, "--min-confidence", 0.97,
        "--out", folder / "run", "--ledger", folder / "ledger", "--json",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code
    return folder / "run"


@pytest.fixture
def unserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is not opened: everything before and after it."""
    monkeypatch.setattr(job, "serve", lambda *_: None)


def drawn(path: Path) -> list[Item]:
    with Store(path) as store:
        return list(store.items())


@pytest.mark.parametrize("which", ["pairs", "undecided", "all"])
def test_a_run_gives_its_pairs_with_the_side_the_judge_takes(run: Path, which: str) -> None:
    found = {item.id: item for item in FromRun(run, which, 0).items()}  # type: ignore[arg-type]
    emitted = {
        row["pair_id"]: row for split in ("train", "test") for row in rows(run / f"dpo/{split}.parquet")
    }
    undecided = {row["id"]: row for row in rows(run / "undecided.parquet")}
    if which == "undecided":
        assert set(found) == set(undecided)
        assert all((found[name].a, found[name].b) == (row["response_a"], row["response_b"])
                   for name, row in undecided.items())  # fmt: skip
        return
    assert set(found) >= set(emitted)
    assert (which == "pairs") == (len(found) == len(emitted))
    sides = []
    for name, row in emitted.items():
        item = found[name]
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        assert (item.a, item.b) == ((chosen, rejected) if item.judged == "a" else (rejected, chosen))
        assert abs(item.margin or 0) == pytest.approx(row["margin"])
        assert item.sure == pytest.approx(row["confidence"])
        assert item.columns["number"] == row["number"]
        sides.append(item.judged)
    assert {"a", "b"} == set(sides)
    assert all(item.sure is not None and item.sure >= 0.5 for item in found.values())


@pytest.mark.usefixtures("unserved")
@pytest.mark.parametrize(("prompts", "warned"), [(2, True), (4, False)])
def test_pairs_of_few_prompts_are_told_of(
    prompts: int, warned: bool, prefgen: Runner, tmp_path: Path
) -> None:
    told = [
        {"id": str(n), "prompt": f"Question {n % prompts}?", "response_a": "one", "response_b": "two"}
        for n in range(4)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in told))
    ran = prefgen("label", file, "--out", tmp_path / "l.jsonl")
    assert ran.code == 0, ran.err
    assert ("4 pairs of 2 prompts: prefgen calibrate tests a precision on one label" in ran.err) == warned


@pytest.mark.usefixtures("unserved")
def test_a_run_is_drawn_from_and_more_may_be_asked_for_later(
    prefgen: Runner, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "l.jsonl"
    (tmp_path / "l.verdicts.jsonl").write_text("mine")
    assert "l.verdicts.jsonl exists already" in prefgen("label", run, "--count", 10, "--out", out).err
    ran = prefgen("label", run, "--count", 10, "--out", out, "--json", "--overwrite")
    assert (ran.code, ran.result["n_items"], ran.result["n_labelled"]) == (0, 10, 0)
    assert ("labels", out) in {(use.kind, use.path) for use in uses(run)}
    first = {item.id for item in drawn(tmp_path / "l.sqlite")}
    with Store(tmp_path / "l.sqlite") as store:
        store.answer("anna", min(first), "b")
    assert prefgen("label", run, "--count", 15, "--out", out, "--json").result["n_items"] == 15
    assert first < {item.id for item in drawn(tmp_path / "l.sqlite")}
    for fewer in (("--count", 5), ()):
        assert prefgen("label", run, *fewer, "--out", out, "--json").result["n_items"] == 15
    assert [told.majority for told in read_labels(out)] == ["b"]
    # The judge's verdicts stand beside, of the pairs drawn.
    verdicts = {told.id: told for told in read_verdicts(tmp_path / "l.verdicts.jsonl")}
    for item in drawn(tmp_path / "l.sqlite"):
        assert verdicts[item.id].verdict == item.judged
        assert sigmoid(verdicts[item.id].log_odds or 0) == pytest.approx(sigmoid(item.margin or 0))
        assert verdicts[item.id].judge == "scripted/judge"
    changed = prefgen("label", run, "--out", out, "--seed", 7, "--draw-from", "pairs")
    assert changed.code == 2
    assert "--draw-from and --seed changed" in changed.err
    assert prefgen("label", run, "--out", out, "--seed", 7, "--export-only").code == 0


@pytest.mark.usefixtures("unserved")
def test_an_audit_draws_emitted_pairs_and_tells_the_rate(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    arguments = ("label", run, "--audit", 8, "--out", tmp_path / "l.jsonl")
    assert prefgen(*arguments).code == 0
    items = drawn(tmp_path / "l.sqlite")
    emitted = {row["pair_id"] for split in ("train", "test") for row in rows(run / f"dpo/{split}.parquet")}
    assert len(items) == 8
    assert {item.id for item in items} <= emitted
    with Store(tmp_path / "l.sqlite") as store:
        for number, item in enumerate(items):
            wrong = "ab".replace(str(item.judged), "")
            store.answer("anna", item.id, wrong if number < 2 else item.judged or "tie")  # type: ignore[arg-type]
    found = prefgen(*arguments, "--export-only", "--json").result["audit"]
    assert (found["n"], found["n_mislabelled"], found["n_pairs"]) == (8, 2, len(emitted))
    # Clopper-Pearson of 2 of 8.
    assert found["mislabelled"] == {"value": 0.25, "ci": pytest.approx([0.0319, 0.6509], abs=1e-4)}
    assert "25.0% [3.2%, 65.1%] of the labels are wrong" in prefgen(*arguments, "--export-only").out
    # What was not drawn at random from the emitted pairs is no audit.
    other = ("label", run, "--out", tmp_path / "other.jsonl")
    assert prefgen(*other, "--count", 8).code == 0
    refused = prefgen(*other, "--audit", 8, "--export-only")
    assert refused.code == 2
    assert "holds no audit" in refused.err


@pytest.mark.usefixtures("unserved")
def test_labels_that_a_file_has_already_count_and_are_kept(prefgen: Runner, tmp_path: Path) -> None:
    labels = [
        {
            "id": str(n),
            "prompt": "q",
            "response_a": f"x{n}",
            "response_b": "y",
            "label": said,
            "annotator": who,
        }
        for n in range(3)
        for who, said in (("anna", "a"), ("ben", "ab"[n % 2]))
    ]
    write_prompts(tmp_path / "old.jsonl", [*labels, labels[0] | {"annotator": None}])
    ran = prefgen("label", tmp_path / "old.jsonl", "--overlap", 2)
    assert ran.code == 2
    assert "has its 2 labels already" in ran.err
    assert "--overlap 3 asks for another person's" in ran.err
    ran = prefgen("label", tmp_path / "old.jsonl", "--adjudicate", "--json")
    assert (ran.result["n_labelled"], ran.result["disputed"], ran.result["adjudicated"]) == (3, 1, 0)
    # The pair with three labels: (1 + 1 + 0) / 3.
    assert ran.result["agreement"]["human_agreement"] == pytest.approx(2 / 3)
    with Store(tmp_path / "old.labels.sqlite") as store:
        store.answer("adjudicator", "1", "tie")
    ran = prefgen("label", tmp_path / "old.jsonl", "--export-only")
    assert "1 pair disputed" in ran.out
    assert "not adjudicated" not in ran.out
    found = read_labels(tmp_path / "old.labels.jsonl")
    assert [told.majority for told in found] == ["a", "tie", "a"]
    assert found[0].annotators == ("anna", "ben", None)
    # What was written is taken up again, the last word with it.
    prefgen("label", tmp_path / "old.labels.jsonl", "--overlap", 9)
    assert [told.majority for told in read_labels(tmp_path / "old.labels.labels.jsonl")] == ["a", "tie", "a"]


@pytest.mark.usefixtures("unserved")
def test_the_check_of_a_loop_is_labelled_by_the_line_it_names(
    prefgen: Runner, run: Path, tmp_path: Path
) -> None:
    asked = list(check_rows(run, 4, 0))
    shown = [{name: value for name, value in row.items() if name != "chosen"} for row in asked]
    write_prompts(tmp_path / "check.jsonl", shown)
    line = ("label", tmp_path / "check.jsonl", "--out", tmp_path / "labels.jsonl")
    assert prefgen(*line).code == 0
    with Store(tmp_path / "labels.sqlite") as store:
        for row in asked:
            store.answer("anna", row["id"], row["chosen"])
    assert prefgen(*line, "--export-only").code == 0
    found = agreement(asked, read_labels(tmp_path / "labels.jsonl"), tmp_path / "labels.jsonl")
    assert (found["n"], found["agreement"]) == (4, 1)


@pytest.mark.usefixtures("unserved")
def test_a_file_is_sampled_by_its_verdicts(prefgen: Runner, tmp_path: Path) -> None:
    pairs = pairs_file(tmp_path / "p.jsonl", 40)
    verdicts = [{"id": f"pair-{n}", "verdict": "a", "p_a": 0.5 + n / 80} for n in range(40)]
    write_prompts(tmp_path / "v.jsonl", verdicts)
    sampling = ("--sample", "stratified", "--count", 10)
    refused = prefgen("label", pairs, *sampling)
    assert refused.code == 2
    assert "prefgen judge" in refused.err
    assert not list(tmp_path.glob("*.labels.*"))
    assert prefgen("label", pairs, *sampling, "--verdicts", tmp_path / "v.jsonl").code == 0
    numbers = [int(item.id[5:]) for item in drawn(tmp_path / "p.labels.sqlite")]
    assert sorted(number // 8 for number in numbers) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    # Verdicts may stand in the rows themselves.
    both = [
        json.loads(line) | verdict
        for line, verdict in zip(pairs.read_text().splitlines(), verdicts, strict=True)
    ]
    write_prompts(tmp_path / "both.jsonl", both)
    assert prefgen("label", tmp_path / "both.jsonl", *sampling).code == 0
    assert all(item.margin is not None for item in drawn(tmp_path / "both.labels.sqlite"))
    write_prompts(tmp_path / "other.jsonl", [{"id": "x", "verdict": "a"}])
    ran = prefgen("label", pairs, "--out", tmp_path / "o.jsonl", "--verdicts", tmp_path / "other.jsonl")
    assert ran.code == 2
    assert "no usable verdict" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no.jsonl",), "no such file"),
        (("p.jsonl", "--audit", "3"), "--audit goes with a finished run"),
        (("p.jsonl", "--draw-from", "pairs"), "--draw-from goes with a finished run"),
        (("p.jsonl", "--out", "labels.csv"), "ends with .jsonl"),
        (("p.jsonl", "--out", "p.jsonl"), "is the file that is read"),
        (("p.jsonl", "--out", "used.jsonl"), "exists already"),
        (("p.jsonl", "--export-only"), "nothing was labelled yet"),
        (("p.jsonl", "--adjudicate"), "nothing to adjudicate"),
        (("p.jsonl", "--adjudicate", "--export-only"), "give one of them"),
        (("p.jsonl", "--annotators", "anna,adjudicator"), "decides disagreements"),
        (("p.jsonl", "--annotators", "anna,anna"), "anna stands twice"),
        (("p.jsonl", "--annotators", "anna,"), "1 to 64 printable"),
        (("p.jsonl", "--annotators", "anna", "--overlap", "2"), "as many annotators, not 1"),
        (("p.jsonl", "--overlap", "0"), "greater than or equal to 1"),
        (("p.jsonl", "--constitution", "nope"), "no such constitution"),
        (("p.jsonl", "--host", "no.such.host.invalid"), "cannot listen on"),
        ((".",), "not a run directory"),
        ((".", "--audit", "3", "--count", "4"), "leave out --count"),
        ((".", "--verdicts", "used.jsonl"), "--verdicts goes with a file"),
        (("used.jsonl",), "no column 'id'"),
        (("taken.jsonl", "--out", "taken.l.jsonl"), "cannot be used as the store"),
    ],
)
def test_what_is_refused_says_why_and_leaves_nothing(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs_file(tmp_path / "p.jsonl", 3)
    pairs_file(tmp_path / "taken.jsonl", 3)
    (tmp_path / "used.jsonl").write_text('{"text": "mine"}\n')
    (tmp_path / "taken.l.sqlite").write_text("not a database, " * 100)
    ran = prefgen("label", *arguments)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert (tmp_path / "used.jsonl").read_text() == '{"text": "mine"}\n'
    assert not (tmp_path / "p.labels.jsonl").exists()


@pytest.mark.usefixtures("unserved")
def test_a_store_of_another_file_is_not_mixed_up(prefgen: Runner, tmp_path: Path) -> None:
    pairs = pairs_file(tmp_path / "p.jsonl", 3)
    assert prefgen("label", pairs).code == 0
    pairs_file(pairs, 4)
    ran = prefgen("label", pairs)
    assert ran.code == 2
    assert "the file changed" in ran.err


def test_a_port_that_is_taken_and_a_missing_package_are_named(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_file(tmp_path / "p.jsonl", 3)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        ran = prefgen("label", pairs, "--port", port)
        assert ran.code == 2
        assert f"port {port}" in ran.err
        assert "--port 0" in ran.err
    monkeypatch.setattr("pipelines.labelling.serve.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "prefgen[label]"')):
        job.label(LabelConfig(source=pairs), Console())


def test_a_run_whose_constitution_is_gone_or_changed_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console, config = Console(), LabelConfig(source=run)
    shown = job._of_run(config, console)
    assert shown is not None
    assert shown.id == "helpful-honest-harmless"
    manifest = json.loads((run / "manifest.json").read_text())
    copy = run.parent / "copy"
    shutil.copytree(run, copy, dirs_exist_ok=True)
    manifest["config"]["constitution"] = "gone.yaml"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert job._of_run(LabelConfig(source=copy), console) is None
    manifest["config"]["constitution"] = "concise-expert"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert job._of_run(LabelConfig(source=copy), console) is not None
    said = capsys.readouterr().err
    assert "gone.yaml is gone" in said
    assert "has changed since" in said


def test_options_that_go_with_one_source_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finished run"):
        source_of(LabelConfig(source=pairs_file(tmp_path / "p.jsonl", 1), audit=2))


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


@contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page in which no script fails and that talks to nothing but its own server."""
    context = browser.new_context(**options)
    page, wrong = context.new_page(), list[str]()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: wrong.append(request.url) if EVIL in request.url else None)
    page.on("popup", lambda opened: wrong.append(opened.url))
    yield page
    context.close()
    assert wrong == []


def larger(page: Page) -> str:
    """The key of the response with the larger number, as a person reads it; t where they are equal."""
    numbers = [int(re.findall(r"number (\d+)", text)[0]) for text in page.locator(".pane").all_inner_texts()]
    return "a" if numbers[0] > numbers[1] else "b" if numbers[1] > numbers[0] else "t"


def press(page: Page, key: str) -> None:
    with page.expect_navigation(wait_until="domcontentloaded"):  # By then the script is there.
        page.keyboard.press(key)


@needs_browser
def test_thirty_pairs_by_keyboard_with_a_crash_in_the_middle_then_calibrate(
    browser: Browser, tmp_path: Path
) -> None:
    pairs, out = pairs_file(tmp_path / "p.jsonl", 30), tmp_path / "l.jsonl"
    with serving(pairs, "--out", out, "--constitution", "support-tone") as server, tab(browser) as page:
        page.goto(server.addresses[0])
        page.keyboard.type("anna")
        press(page, "Enter")
        assert page.locator("progress").get_attribute("value") == "0"
        press(page, "s")
        press(page, "u")
        for _ in range(5):
            press(page, larger(page))
        before = page.locator(".panes").inner_text()
        page.reload()
        assert page.locator(".panes").inner_text() == before
        page.keyboard.press("r")
        page.keyboard.type("a better b reason")
        page.keyboard.press("Escape")
        press(page, larger(page))
        # A wrong one, taken back; its reason is still in the field.
        page.fill("textarea", "oops")
        page.keyboard.press("Escape")
        press(page, "t")
        press(page, "u")
        assert page.input_value("textarea") == "oops"
        assert "You had said: tie." in (page.inner_text(".flash"))
        page.fill("textarea", "")
        page.keyboard.press("Escape")
        press(page, larger(page))
        for _ in range(5):
            press(page, larger(page))
        server.kill()
    with serving(pairs, "--out", out, "--constitution", "support-tone") as server, tab(browser) as page:
        page.goto(server.addresses[0] + "?annotator=anna")
        assert page.locator("progress").get_attribute("value") == "12"
        assert "Pair 13 of 30" in page.inner_text("header")
        while page.locator(".panes").count():
            press(page, larger(page))
        assert page.inner_text(".flash") == "30 labelled, 0 skipped."
        page.get_by_text("Done. 30 labelled, 0 skipped.").wait_for()  # What a screen reader is told.
        code, printed = server.stop()
    assert code == 0
    assert "30 of 30 pairs labelled: anna 30 labels" in printed
    told = read_labels(out)
    assert len(told) == 30
    for item in told:
        a, b = (int(re.findall(r"\d+", side.text)[0]) for side in (item.pair.a, item.pair.b))
        assert item.majority == ("a" if a > b else "b" if b > a else "tie")
    assert [row["reason"] for row in map(json.loads, out.read_text().splitlines()) if "reason" in row] == [
        "a better b reason"
    ]
    write_prompts(tmp_path / "v.jsonl", ({"id": item.pair.id, "verdict": item.majority} for item in told))
    # As a process: Playwright's loop runs in this one.
    ran = process("calibrate", out, "--verdicts", tmp_path / "v.jsonl", "--out", tmp_path / "c", "--json")
    assert ran.code == 0, ran.err
    assert (ran.result["n"], ran.result["agreement"]["value"]) == (30, 1)


NEVER = "a:not(.jump), img, svg, iframe, object, base, main style, main link, main script"
"""What a text brings along that is not made inert."""


@needs_browser
def test_hostile_texts_do_nothing_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    """No script, no dialog, no request elsewhere, the page whole and usable after each."""
    pairs = hostile_file(tmp_path / "p.jsonl")
    with serving(pairs, "--out", tmp_path / "l.jsonl") as server, tab(browser) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.addresses[0] + "?annotator=anna")
        count = 0
        while page.locator(".panes").count():
            count += 1
            assert "owned" not in page.title()
            assert page.locator("form").count() == 1
            assert page.locator(".pane").count() == 2
            assert page.locator(NEVER).count() == 0
            page.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            with page.expect_navigation():
                page.get_by_role("button", name="B is better").click()
        assert all(url.startswith(server.addresses[0].rpartition("/")[0]) for url in asked), asked
        code, _ = server.stop()
    assert code == 0
    labels = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    given = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert count == len(labels) == len(given)
    assert {row["id"]: row["response_a"] for row in labels} == {row["id"]: row["response_a"] for row in given}


@needs_browser
def test_on_a_phone_without_scripts_two_people_and_who_decides_between_them(
    browser: Browser, tmp_path: Path
) -> None:
    pairs, phone = pairs_file(tmp_path / "p.jsonl", 2), {"width": 390, "height": 700}
    where = (pairs, "--out", tmp_path / "l.jsonl", "--overlap", 2)
    with Store(
        tmp_path / "l.sqlite"
    ) as store:  # With this key the two see one of the pairs on the same sides.
        store.add([], {}, {"sides": "a"})
    without = {"viewport": phone, "java_script_enabled": False, "has_touch": True}
    with serving(*where, "--annotators", "anna,ben") as server:
        assert [address.rpartition("=")[2] for address in server.addresses] == ["anna", "ben"]
        for address, name in zip(server.addresses, ("A is better", "B is better"), strict=True):
            with tab(browser, **without) as page:
                page.goto(address)
                while page.locator(".panes").count():
                    button = page.get_by_role("button", name=name)
                    box, first, second = (
                        button.bounding_box(),
                        *(pane.bounding_box() for pane in page.locator(".pane").all()),
                    )
                    assert box
                    assert first
                    assert second
                    # At thumb's reach without scrolling, large enough, the responses one above the other.
                    assert 350 < box["y"] < 700 - box["height"]
                    assert box["height"] >= 44
                    assert second["y"] >= first["y"] + first["height"]
                    with page.expect_navigation():
                        button.tap()
        _, printed = server.stop()
    told = read_labels(tmp_path / "l.jsonl")
    disputed = sum(len(set(item.labels)) > 1 for item in told)
    assert [len(item.labels) for item in told] == [2, 2]
    assert f"{disputed} pair" in printed
    assert disputed == 1
    with serving(*where, "--adjudicate") as server, tab(browser) as page:
        page.goto(server.addresses[0])
        while page.locator(".panes").count():
            assert "What the annotators said" in page.inner_text("main")
            assert "anna" not in page.content()
            press(page, "t")
        server.stop()
    settled = read_labels(tmp_path / "l.jsonl")
    assert sum(item.settled == "tie" for item in settled) == disputed
