"""Human labels beside a judge's annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Runner, write_prompts

from pipelines.evaluation.annotations import Annotation, as_lines
from pipelines.evaluation.human_labels import corrected
from prefgen.errors import InputError
from prefgen.labels import LabelledPair, read_labels

FILE = Path("labels.jsonl")


def annotated(preferences: list[float], texts: bool = True) -> list[Annotation]:
    return [
        Annotation(
            f"q{n}",
            value,
            1,
            1,
            response_model=f"ours {n}" if texts else None,
            response_baseline=f"theirs {n}" if texts else None,
        )
        for n, value in enumerate(preferences)
    ]


def labelled(folder: Path, labels: dict[int, str], exchanged: bool = False) -> list[LabelledPair]:
    rows = []
    for n, label in labels.items():
        ours, theirs = f"ours {n}", f"theirs {n}"
        a, b = (theirs, ours) if exchanged else (ours, theirs)
        rows.append({"id": f"q{n}", "prompt": "?", "response_a": a, "response_b": b, "label": label})
    return read_labels(write_prompts(folder / "labels.jsonl", rows))


def test_a_small_table_by_hand(tmp_path: Path) -> None:
    annotations = annotated([0.8, 0.2, 0.6, 0.4, 0.9, 0.7, 0.5, 0.3])
    found = corrected(annotations, labelled(tmp_path, {0: "a", 1: "b", 2: "a", 3: "b"}), FILE)
    assert (found["n"], found["human_win_rate"]) == (4, 50)
    # The table of tests/judges/test_correction.py.
    assert found["prediction_powered"]["value"] == pytest.approx(60)
    assert found["prediction_powered"]["judge_weight"] == 1
    # No error on two wins and two losses; the judge calls two and a half of four wins.
    assert (found["rogan_gladen"]["sensitivity"], found["rogan_gladen"]["specificity"]) == (1, 1)
    assert found["rogan_gladen"]["value"] == pytest.approx(62.5)


def test_sides_are_told_by_their_texts(tmp_path: Path) -> None:
    annotations = annotated([0.8, 0.2, 0.6, 0.4, 0.9])
    straight = corrected(annotations, labelled(tmp_path, {0: "a", 1: "tie", 2: "a"}), FILE)
    turned = corrected(annotations, labelled(tmp_path, {0: "b", 1: "tie", 2: "b"}, exchanged=True), FILE)
    assert straight == turned
    assert straight["human_win_rate"] == pytest.approx(100 * 2.5 / 3)


def test_labels_of_other_answers_are_refused(tmp_path: Path) -> None:
    labels = labelled(tmp_path, {0: "a", 2: "b"})
    annotations = annotated([0.8, 0.2])
    other = [annotations[1], Annotation("q0", 0.8, 1, 1, response_model="new", response_baseline="theirs 0")]
    with pytest.raises(InputError, match="the label 'q0' is of other answers"):
        corrected(other, labels, FILE)
    # Without texts the ids have to do.
    assert corrected(annotated([0.8, 0.2], texts=False), labels, FILE)["n"] == 1


def test_labels_of_unjudged_prompts_are_counted(tmp_path: Path) -> None:
    annotations = [*annotated([0.8, 0.2, 0.6]), Annotation("q3", None, 1, 1)]
    found = corrected(annotations, labelled(tmp_path, {0: "a", 3: "b", 9: "b"}), FILE)
    assert (found["n"], found["n_unused"]) == (1, 2)
    assert found["prediction_powered"] is None
    with pytest.raises(InputError, match="no label is of a prompt with a judgment"):
        corrected(annotations, labelled(tmp_path, {8: "a"}), FILE)


def test_a_judge_that_guesses_is_refused(tmp_path: Path) -> None:
    annotations = annotated([0.8, 0.2] * 10)
    labels = labelled(tmp_path, {n: "ab"[n // 2 % 2] for n in range(12)})
    found = corrected(annotations, labels, FILE)["rogan_gladen"]
    assert (found["value"], found["ci"]) == (None, None)
    assert "below 0.2" in found["refused"]


def test_labels_put_a_biased_judge_right(tmp_path: Path, prefgen: Runner) -> None:
    """A judge 15 points too kind: both corrections hold the truth, the judge's own interval does not."""
    random = np.random.default_rng(11)
    human = random.random(800) < 0.5
    judge = np.where(random.random(800) < 0.8, human, True)
    annotations = [
        Annotation(f"q{n}", 0.5 + 0.4 * (1 if value else -1), 1, 1, response_model="x", response_baseline="y")
        for n, value in enumerate(judge)
    ]
    (tmp_path / "a.jsonl").write_text(as_lines(annotations))
    rows: list[dict[str, Any]] = [
        {
            "id": f"q{n}",
            "prompt": "?",
            "response_a": "x",
            "response_b": "y",
            "label": "a" if human[n] else "b",
        }
        for n in random.choice(800, 150, replace=False)
    ]
    labels = write_prompts(tmp_path / "l.jsonl", rows)
    done = prefgen("evaluate", "--annotations", tmp_path / "a.jsonl", "--labels", labels, "--json")
    assert done.code == 0, done.err
    found = done.result
    truth = 100 * human.mean()
    assert found["ci"][0] > truth
    for name in ("prediction_powered", "rogan_gladen"):
        low, high = found["human"][name]["ci"]
        assert low < truth < high
    assert found["human"]["prediction_powered"]["effective_labels"] > 200
    spoken = prefgen("evaluate", "--annotations", tmp_path / "a.jsonl", "--labels", labels)
    assert "150 human labels" in spoken.out
