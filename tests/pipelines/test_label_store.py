"""The store of answers: what is kept, given out and taken back; sides, samples and the audit by hand."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pipelines.labelling.audit import audit, audit_lines
from pipelines.labelling.export import labelled, lines, rows, write_labels
from pipelines.labelling.item import ADJUDICATOR, Item, name_of, other_side, swapped
from pipelines.labelling.sample import Drawable, draw
from pipelines.labelling.store import Store
from pipelines.labelling.summary import agreement
from prefgen.errors import InputError, RunDirectoryError
from prefgen.labels import read_labels
from prefgen.messages import user


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def items(count: int) -> list[Item]:
    return [Item(f"i{n}", user(f"prompt {n}"), f"a {n}", f"b {n}", margin=1.0) for n in range(count)]


def filled(path: Path, count: int, overlap: int = 1) -> tuple[Store, Clock]:
    clock = Clock()
    store = Store(path, overlap, clock)
    store.add(items(count), {}, {"seed": 0})
    return store, clock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with filled(tmp_path / "s.sqlite", 4)[0] as opened:
        yield opened


def label_all(store: Store, annotator: str, label: str = "a") -> list[str]:
    seen = []
    while (item := store.next(annotator)) is not None:
        seen.append(item.id)
        assert store.answer(annotator, item.id, label)  # type: ignore[arg-type]
    return seen


def test_two_tabs_label_nothing_twice_and_lose_nothing(store: Store) -> None:
    """Both show the same pair; the second answer is refused and the first stays, from any process."""
    one, other = store.next("anna"), store.next("anna")
    assert one is not None
    assert one == other
    assert store.answer("anna", one.id, "a", "first")
    assert not store.answer("anna", one.id, "b", "second")
    with Store(store._path) as beside:
        assert not beside.answer("anna", one.id, "tie")
    assert [(told.answer, told.reason) for told in store.given()] == [("a", "first")]


def test_a_database_of_another_program_is_no_store(tmp_path: Path) -> None:
    for name, table in (("theirs", "precious (x)"), ("alike", "items (x)")):
        with closing(sqlite3.connect(tmp_path / name)) as made:
            made.execute(f"CREATE TABLE {table}")
        before = (tmp_path / name).read_bytes()
        with pytest.raises(RunDirectoryError, match="a database of another program"):
            Store(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_store_of_a_later_version_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    filled(path, 300)[0].close()
    whole = path.read_bytes()
    path.write_bytes(whole[: 4096 * 3] + b"Z" * (len(whole) - 4096 * 3))
    said = r"s.sqlite: the store of answers failed \(.*malformed"
    with pytest.raises(RunDirectoryError, match=said), Store(path) as broken:
        list(broken.items())
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 2")
    with pytest.raises(RunDirectoryError, match="a later version of prefgen"):
        Store(path)


def test_an_answer_that_the_disk_does_not_take_leaves_the_store_usable(tmp_path: Path) -> None:
    """Under a limit to the size of files, as on a full disk; then without."""
    store, _ = filled(tmp_path / "s.sqlite", 40)
    kept: list[str] = []
    with store:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with suppress(sqlite3.Error):
                for item in items(40):
                    store.answer("anna", item.id, "a", "r" * 2000)
                    kept.append(item.id)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert 0 < len(kept) < 40
        assert [told.item for told in store.given()] == kept
        assert store.answer("anna", f"i{len(kept)}", "a")


def test_reloading_shows_the_same_pair_and_the_order_is_each_ones_own(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "s.sqlite", 30, overlap=2)
    with store:
        first = store.next("anna")
        assert [store.next("anna") for _ in range(3)] == [first] * 3
        anna, ben = label_all(store, "anna"), label_all(store, "ben")
    assert sorted(anna) == sorted(ben)
    assert anna != ben
    assert anna != sorted(anna)


@pytest.mark.parametrize("overlap", [1, 2])
def test_each_pair_gets_as_many_annotators_as_asked_for(tmp_path: Path, overlap: int) -> None:
    store, _ = filled(tmp_path / "s.sqlite", 6, overlap)
    with store:
        people = ["anna", "ben", "carl"]
        while shown := [(name, item) for name in people if (item := store.next(name)) is not None]:
            for name, item in shown:
                store.answer(name, item.id, "tie")
        assert Counter(told.item for told in store.given()) == {f"i{n}": overlap for n in range(6)}
        assert all(store.progress(name).left == 0 for name in people)


def test_a_pair_that_somebody_has_before_them_is_given_to_nobody_else_for_ten_minutes(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "s.sqlite", 1)
    with store:
        assert store.next("anna") is not None
        assert store.next("ben") is None
        assert store.progress("ben").left == 1
        clock.now += 601
        assert store.next("ben") is not None
        # Who left it open may still answer: nothing that was typed is lost.
        assert store.answer("ben", "i0", "a")
        assert store.answer("anna", "i0", "b")


def test_pairs_that_others_labelled_come_first(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "s.sqlite", 20, overlap=2)
    with store:
        begun = []
        for _ in range(3):
            item = store.next("anna")
            assert item is not None
            store.answer("anna", item.id, "a")
            begun.append(item.id)
        ben = []
        for _ in range(3):
            item = store.next("ben")
            assert item is not None
            store.answer("ben", item.id, "a")
            ben.append(item.id)
    assert sorted(ben) == sorted(begun)


def test_undo_goes_back_through_ones_own_answers(store: Store) -> None:
    first = store.next("anna")
    assert first is not None
    store.answer("anna", first.id, "a", "why")
    second = store.next("anna")
    assert second is not None
    store.answer("anna", second.id, "skip")
    store.answer("ben", "i0", "b")
    last = store.last("anna")
    assert last is not None
    assert not store.undo("ben", last)
    assert store.undo("anna", last)
    assert not store.undo("anna", last)  # A double click takes back one answer.
    assert store.next("anna") == second
    earlier = store.last("anna")
    assert earlier is not None
    assert store.undo("anna", earlier)
    assert store.next("anna") == first
    before = store.before("anna", first.id)
    assert before is not None
    assert (before.answer, before.reason) == ("a", "why")
    assert store.last("anna") is None
    assert store.answer("anna", first.id, "b")
    assert [(told.annotator, told.answer) for told in store.given()] == [("ben", "b"), ("anna", "b")]


def test_a_skip_is_no_label_and_may_be_asked_again(store: Store) -> None:
    item = store.next("anna")
    assert item is not None
    store.answer("anna", item.id, "skip")
    assert label_all(store, "anna").count(item.id) == 0
    assert (store.progress("anna").labelled, store.progress("anna").skipped) == (3, 1)
    assert item.id not in {row["id"] for row in rows(store)}
    store.unskip("anna")
    assert store.next("anna") == item
    store.answer("anna", item.id, "skip")
    # Another annotator is asked what one skipped.
    assert label_all(store, "ben") == [item.id]


def test_the_time_left_is_the_median_of_the_last_answers_times_what_is_left(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "s.sqlite", 10)
    with store:
        assert store.progress("anna").seconds is None
        for seconds in (5, 20, 9000):
            item = store.next("anna")
            assert item is not None
            clock.now += seconds
            store.answer("anna", item.id, "a")
        assert store.progress("anna").seconds == 20 * 7


def test_sides_are_drawn_by_annotator_and_pair_and_undone() -> None:
    drawn = [swapped("x", "anna", f"i{n}") for n in range(400)]
    assert 160 < sum(drawn) < 240
    assert drawn != [swapped("x", "ben", f"i{n}") for n in range(400)]
    assert drawn == [swapped("x", "anna", f"i{n}") for n in range(400)]
    assert drawn != [swapped("y", "anna", f"i{n}") for n in range(400)]
    # Shown as they stand, A is a. The other way round, A is b; a tie and a skip have no side.
    assert [other_side(answer, False) for answer in ("a", "b", "tie", "skip")] == ["a", "b", "tie", "skip"]
    assert [other_side(answer, True) for answer in ("a", "b", "tie", "skip")] == ["b", "a", "tie", "skip"]


def test_the_key_of_the_sides_is_each_stores_own_and_stays(tmp_path: Path) -> None:
    """Nobody tells from seed, name and id which response the judge preferred."""
    keys = set()
    for name in ("one", "other"):
        store, _ = filled(tmp_path / name, 3)
        with store, Store(tmp_path / name) as beside:
            keys |= {store.sides(), beside.sides()}
            store.add(items(5), {}, {"seed": 0})
            assert store.sides() in keys
        with Store(tmp_path / name) as later:
            assert later.sides() in keys
    assert len(keys) == 2


def test_disagreements_are_adjudicated_and_the_last_word_decides(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "s.sqlite", 3, overlap=3)
    with store:
        for name, answers in {"anna": "aab", "ben": "aba", "carl": "abt"}.items():
            for number, answer in enumerate(answers):
                store.answer(name, f"i{number}", {"a": "a", "b": "b", "t": "tie"}[answer])  # type: ignore[arg-type]
        asked = []
        while (item := store.next(ADJUDICATOR)) is not None:
            asked.append(item.id)
            store.answer(ADJUDICATOR, item.id, "b")
        assert sorted(asked) == ["i1", "i2"]
        write_labels(store, tmp_path / "l.jsonl")
        found = {told.pair.id: told for told in read_labels(tmp_path / "l.jsonl")}
        same = [(entry.labels, entry.majority) for _, entry in labelled(store)]
        assert same == [(entry.labels, entry.majority) for entry in found.values()]
    # i2: b, a and tie have no majority, and by a vote more than half would not say b either.
    assert {name: told.majority for name, told in found.items()} == {"i0": "a", "i1": "b", "i2": "b"}
    assert found["i2"].labels == ("b", "a", "tie")
    assert found["i2"].annotators == ("anna", "ben", "carl")


def test_only_the_last_word_in_a_file_is_a_label_as_any_other(tmp_path: Path) -> None:
    row = {"id": "1", "prompt": "q", "response_a": "x", "response_b": "y", "label": "b", "adjudicated": True}
    path = tmp_path / "l.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (told,) = read_labels(path)
    assert (told.labels, told.majority) == (("b",), "b")
    path.write_text((json.dumps(row) + "\n") * 2)
    with pytest.raises(InputError, match="adjudicated twice"):
        read_labels(path)


def test_agreement_of_three_people_by_hand(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "s.sqlite", 3, overlap=2)
    with store:
        for name, item, answer in (
            ("anna", "i0", "a"), ("ben", "i0", "a"), ("anna", "i1", "a"), ("ben", "i1", "b"),
            ("anna", "i2", "b"),
        ):  # fmt: skip
            store.answer(name, item, answer)  # type: ignore[arg-type]
        found = agreement([entry for _, entry in labelled(store)])
    # One pair of two the same; alpha: coincidences aa 2, ab 1, ba 1, so 1 - 3 · 2 / (2 · 3 · 1) = 0.
    assert found == {
        "n": 2,
        "human_agreement": 0.5,
        "krippendorff_alpha": pytest.approx(0),
        "pairwise_kappa": {"anna|ben": pytest.approx(0)},
    }


def test_the_labels_file_has_what_the_contract_says(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        system = (*user("q"),)
        item = Item("x", system, "<b>", "\u202eb", columns={"topic": "ships", "n": 3, "adjudicated": True})
        store.add([item], {"x": [("#0", "tie")]}, {"seed": 0})
        store.answer("anna", "x", "b", "shorter")
        text = "".join(lines(store))
    first, second = (json.loads(line) for line in text.splitlines())
    pair = {"id": "x", "prompt": "q", "response_a": "<b>", "response_b": "\u202eb", "topic": "ships", "n": 3}
    assert first == pair | {"label": "tie", "annotator": None}
    assert second == pair | {"label": "b", "annotator": "anna", "reason": "shorter"}


@pytest.mark.parametrize("name", ["", "  ", "#0", "x" * 65, "a\u202eb", "a\x00"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        name_of(name)


def test_names_are_kept_with_single_spaces() -> None:
    assert name_of("  Zoë  van\tDijk ") == "Zoë van Dijk"


POOL = [Drawable(f"i{n}", f"p{n // 2}", 0.5 + n / 2000) for n in range(1000)]


def test_random_draws_from_all() -> None:
    drawn = draw(POOL, "random", 100, 0)
    assert len(set(drawn)) == 100
    assert drawn == draw(POOL, "random", 100, 0) != draw(POOL, "random", 100, 1)
    assert sorted(draw(POOL, "random", 5000, 0)) == sorted(item.id for item in POOL)


def test_stratified_draws_as_many_from_each_fifth() -> None:
    few = [item for item in POOL if (item.sure or 0) >= 0.6 or int(item.id[1:]) < 4]
    drawn = draw([*few, Drawable("unknown", "p")], "stratified", 24, 0)
    strata = Counter(min(4, int(int(name[1:]) // 200)) for name in drawn)
    # The first has 4 pairs only; the others give five each.
    assert strata == {0: 4, 1: 5, 2: 5, 3: 5, 4: 5}


def test_informative_spreads_along_the_confidence_one_a_prompt() -> None:
    drawn = draw(POOL, "informative", 100, 0)
    numbers = sorted(int(name[1:]) for name in drawn)
    assert Counter(number // 100 for number in numbers) == dict.fromkeys(range(10), 10)
    assert len({number // 2 for number in numbers}) == 100


def test_the_mislabel_rate_by_hand(tmp_path: Path) -> None:
    """Ten pairs that the judge labels a: people say a of 7, b of 1, tie of 2."""
    store, _ = filled(tmp_path / "s.sqlite", 12)
    with store:
        for number, answer in enumerate(["a"] * 7 + ["b"] + ["tie"] * 2 + ["skip"]):
            store.answer("anna", f"i{number}", answer)  # type: ignore[arg-type]
        found = audit(labelled(store), expected=0.9, n_pairs=500)
    assert (found["n"], found["n_ties"], found["n_mislabelled"]) == (10, 2, 1)
    # Clopper-Pearson of 1 of 8 and of 3 of 10.
    assert found["mislabelled"]["value"] == 0.125
    assert found["mislabelled"]["ci"] == pytest.approx([0.0032, 0.5265], abs=1e-4)
    assert found["not_confirmed"]["value"] == 0.3
    assert found["not_confirmed"]["ci"] == pytest.approx([0.0667, 0.6525], abs=1e-4)
    said = " ".join(audit_lines(found))
    assert "10 of 500 emitted pairs: people decide 8 of them, 1 the other way, 12.5% [0.3%, 52.7%]" in said
    assert "counting 2 ties too: 30.0% [6.7%, 65.2%] of the labels are not confirmed" in said
    assert "in keeping with the 10.0%" in said
    assert "more than the 1.0%" in " ".join(audit_lines(found | {"expected_label_precision": 0.99}))
    assert "fewer than the 70.0%" in " ".join(audit_lines(found | {"expected_label_precision": 0.3}))
    assert "not calibrated" in " ".join(audit_lines(found | {"expected_label_precision": None}))
    assert audit([], None, 5)["mislabelled"] is None


KILLED = """
import sys
from pathlib import Path
from pipelines.labelling.store import Store
store = Store(Path(sys.argv[1]))
for number in range(1000):
    store.answer("anna", f"i{number}", "ab"[number % 2], "why")
    print(number, flush=True)
"""


def test_what_was_answered_is_there_after_kill_9(tmp_path: Path) -> None:
    filled(tmp_path / "s.sqlite", 1000)[0].close()
    running = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "s.sqlite")], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if int(line) == 40:
            os.kill(running.pid, signal.SIGKILL)
            break
    told = 41 + sum(1 for _ in running.stdout)
    running.stdout.close()
    running.wait()
    with Store(tmp_path / "s.sqlite") as store:
        kept = [(given.item, given.answer) for given in store.given()]
    assert told <= len(kept) <= told + 1
    assert kept == [(f"i{number}", "ab"[number % 2]) for number in range(len(kept))]
