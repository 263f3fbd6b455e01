"""What a run's report looks for: who agrees with whom, which pairs look wrong, how kinds of prompts fare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from page import HOSTILE
from reporting import Made, jury, publish, versus

from pipelines.markup import plain
from pipelines.report.examples import Example
from pipelines.report.findings import find
from pipelines.report.slices import Slices
from pipelines.report.suspicion import Suspicions
from pipelines.report.trust import _people
from pipelines.report.verdict import _disagreement
from pipelines.report.views import Views
from prefgen.run import RunDirectory

PAIR = ("a", "b")


def test_two_views_are_counted_as_kappa_has_it() -> None:
    """Of ten pairs both say a on 4, both b on 3, the opposite on 2, and one has a tie and b: po = .7 and
    pe = .5 · .5 + .4 · .5."""
    views = Views()
    told = [(1, 1)] * 4 + [(-1, -1)] * 3 + [(1, -1), (-1, 1), (0, -1)]
    for one, other in told:
        views.add({"x": {PAIR: one}, "y": {PAIR: other}})
    found = views.between("x", "y")
    assert found is not None
    assert (found.n, found.same) == (10, 0.7)
    assert (found.decided, found.opposed) == (9, pytest.approx(2 / 9))
    assert found.kappa == pytest.approx((0.7 - (0.5 * 0.5 + 0.4 * 0.5)) / (1 - (0.5 * 0.5 + 0.4 * 0.5)))


def test_views_that_come_later_or_share_no_pair() -> None:
    views = Views()
    views.add({"x": {PAIR: 1.0}, "y": {PAIR: 1.0}})
    views.add({"y": {PAIR: 1.0}, "z": {PAIR: -1.0}})
    assert views.between("x", "z") is None
    assert [(item.one, item.other, item.same) for item in views.all_between()] == [
        ("y", "z", 0.0),
        ("x", "y", 1.0),
    ]


def test_judges_and_principles_are_held_against_each_other(tmp_path: Path) -> None:
    made = [
        jury("p1", [("test/j", "kind", 3, 3), ("test/j", "true", 4, 2), ("test/k", "kind", 1, 1)]),
        jury("p2", [("test/j", "kind", 9, 9), ("test/j", "true", -3, -3), ("test/k", "kind", -0.2, -0.2)]),
    ]
    page = publish(tmp_path / "run", made, judge=("test/j", "test/k"))
    # p1: all for a. p2: j (9 - 3) / 2 for a, k for b; kind (9 - 0.2) / 2 for a, true for b.
    assert "test/j and test/k 2 50% 50% 0.00" in page.words
    assert (
        "Principles among themselves, % of pairs 1 2 3 1 the verdict – 100 50 2 kind 100 – 50" in page.words
    )
    assert "“kind” and “true” pull apart most: on 50% of 2 such pairs" in page.words
    assert "A principle clearly prefers the rejected response" in page.words
    assert "The principle “true” is for the rejected one, by log-odds of +3.00." in page.words
    # The same pair is not shown twice, for the judge too.
    assert "one of the judges prefers the rejected response 1" in page.words
    assert "The judge “test/k” is" not in page.words


def test_those_that_stand_out_are_the_most_opposed_of_enough_pairs() -> None:
    """Many ties make `same` small without anybody being opposed, and few pairs make anything of it."""
    views = [
        {"one": one, "other": other, "n": n, "same": same, "decided": decided, "opposed": opposed}
        for one, other, n, same, decided, opposed in (
            ("few", "pairs", 19, 0.0, 19, 1.0),
            ("tied", "often", 100, 0.1, 20, 0.2),
            ("kind", "true", 100, 0.3, 80, 0.6),
        )
    ]
    assert list(_disagreement({"judges": views, "principles": views})) == [
        "tied and often give the same verdict on only 10% of the pairs.",
        "The principles “kind” and “true” pull apart on 60% of the pairs that both decide.",
    ]


def test_agreement_with_people_is_that_of_the_calibration() -> None:
    calibration = {
        "file": HOSTILE, "n_labels": 120, "target": None, "stages": [],
        "agreement": {"value": 0.8, "ci": [0.7, 0.9]}, "kappa": {"value": 0.6, "ci": [0.5, 0.7]},
    }  # fmt: skip
    words = _people(calibration)
    assert "80% (70% to 90%)" in words
    assert "0.60 (0.50 to 0.70)" in words
    assert "<script>" not in words


ANSWER = "I will send a new lamp on Monday."


@pytest.mark.parametrize(
    ("kind", "made", "note"),
    [
        ("orders", [versus("p1", (9.0, -1.0))], "Log-odds +9.00 when the chosen one was shown first, −1.00"),
        ("length", [versus("p1", (1.5, 1.5), (900, 10))], "900 characters against 10"),
    ],
)
def test_a_kept_pair_that_looks_wrong_is_shown_with_why(
    kind: str, made: list[Made], note: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    page = publish(run, made)
    assert json.loads((run / "manifest.json").read_text())["found"]["suspicious"] == {kind: 1}
    assert note in page.words
    assert "1 kept pair to look at:" in page.words


def test_a_clear_long_answer_and_orders_that_agree_are_not_suspicious(tmp_path: Path) -> None:
    run = tmp_path / "run"
    page = publish(run, [versus("p1", (9.0, 8.0), (900, 10)), versus("p2", (9.0, 0.5))])
    assert json.loads((run / "manifest.json").read_text())["found"]["suspicious"] == {}
    assert "No kept pair looked wrong" in page.words


def example(name: str, chosen: str) -> Example:
    return Example(name, "c", "r", "Why?", chosen, "no", 2.0, 0.9)


def test_refusals_and_answers_chosen_again_and_again() -> None:
    found = Suspicions()
    for number in range(4):
        found.add([example(f"p{number}", f"  {ANSWER}")], [], {}, {}, 0.8)
    # Twice for one prompt is no repetition.
    found.add([example("q", "Once."), example("q", "Once.")], [], {}, {}, 0.8)
    found.add([example("r", "I'm sorry, but I cannot help with that.")], [], {}, {}, 0.8)
    assert found.counts == {"repeated": 4, "refusal": 1}
    groups = dict(found.groups)
    assert [item.note for item in groups["repeated"]] == [
        "it was chosen, word for word, for at least 4 prompts"
    ]
    assert groups["refusal"][0].prompt_id == "r"


def test_all_pairs_of_a_repeated_answer_are_counted() -> None:
    found = Suspicions()
    for name, pairs in (("p", 2), ("q", 3), ("r", 1)):
        found.add([example(name, ANSWER)] * pairs, [], {}, {}, 0.8)
        # The two of the first prompt count once it turns out that the answer comes again.
        assert found.counts["repeated"] == {"p": 0, "q": 5, "r": 6}[name]
    assert found.worst["repeated"][0][1].note == "it was chosen, word for word, for at least 3 prompts"


def test_of_one_answer_the_worse_pair_is_shown() -> None:
    found = Suspicions()
    for number, confidence in enumerate((0.85, 0.81, 0.88)):
        pair = replace(example(f"p{number}", "x" * 500), rejected="y" * (200 + 10 * number))
        found.add([replace(pair, confidence=confidence)], [], {}, {}, 0.8)
    assert found.counts["length"] == 3
    assert [item.prompt_id for _, item in found.worst["length"]] == ["p0"]


def test_what_an_audit_flagged_is_shown_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    publish(run, [versus("p1", (2.0, 2.0))])
    row = {
        "prompt_id": "p1",
        "prompt": "Why?",
        "chosen": "x",
        "rejected": "y",
        "margin": 2.0,
        "confidence": 0.9,
    }
    (run / "audit").mkdir()
    (run / "audit" / "suspicious.jsonl").write_text(json.dumps(row | {"probability": 0.03}) + "\n")
    directory = RunDirectory.open(run)
    found = find(directory, directory.manifest).suspicious
    assert found.counts == {"audit": 1}
    assert found.worst["audit"][0][1].note == "right with a probability of 3% only"


def test_a_column_of_few_values_divides_the_pairs(tmp_path: Path) -> None:
    made = []
    for number in range(9):
        prompt, sampled, results = versus(f"p{number}", (2.0, 2.0) if number < 4 else (0.1, 0.1))
        columns = {"topic": "<b>lamps</b>" if number < 6 else "socks", "row": number, "deep": {"a": 1}}
        made.append((replace(prompt, columns=columns), sampled, results))
    words = publish(tmp_path / "run", made).words
    assert "By topic prompts pairs a prompt mean margin chosen longer" in words
    assert "<b>lamps</b> 6 4 0.67 2.00 100% socks 3 0 0.00 – –" in words
    assert "By row" not in words
    assert "By deep" not in words


def test_slices_forget_a_column_of_many_values() -> None:
    slices = Slices()
    for number in range(1000):
        slices.add({"id": number, "kind": "ab"[number % 2]}, [])
    assert [name for name, _ in slices.shown] == ["kind"]
    assert slices._columns["id"] is None


def test_every_cause_of_failure_has_a_reply_to_read(tmp_path: Path) -> None:
    made = [
        versus("p1", (None, None), raw=" "),
        versus("p2", (2.0, None), raw=f"It depends. {HOSTILE}"),
    ]
    page = publish(tmp_path / "run", made)
    assert (
        "judging: the reply could not be read: one of 3 calls, of test/judge What came back It depends."
        in page.words
    )
    assert plain(HOSTILE).split()[0] in page.words
    assert "script" not in page.tags


def test_pairs_in_another_order_than_the_other_tables_are_counted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    publish(run, [versus(f"p{n}", (2.0, 2.0)) for n in range(5)], test_share=0)
    table = pq.read_table(run / "dpo" / "train.parquet")
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), run / "dpo" / "train.parquet")
    directory = RunDirectory.open(run)
    found = find(directory, directory.manifest)
    assert found.lengths.sides[0].n == table.num_rows == 5
