"""Losses, weights and orders against values worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from prefgen.errors import InputError
from trainers.dpo import loss_at_reference, loss_terms
from trainers.kto import check_classes, class_weights, shuffle
from trainers.rows import Row


@pytest.mark.parametrize(
    ("counts", "given", "weights"),
    [
        ((10, 10), (None, None), (1, 1)),
        ((12, 10), (None, None), (1, 1)),
        ((8, 24), (None, None), (3, 1)),
        ((24, 8), (None, None), (1, 2.25)),
        ((24, 8), (1.0, None), (1, 2.25)),
        ((24, 8), (None, 1.0), (4 / 9, 1)),
        ((8, 24), (None, 1.0), (3, 1)),
        ((8, 24), (1.0, None), (1, 1 / 3)),
        ((8, 24), (2.0, 5.0), (2, 5)),
    ],
)
def test_class_weights(
    counts: tuple[int, int], given: tuple[float | None, float | None], weights: tuple[float, float]
) -> None:
    assert class_weights(*counts, *given) == pytest.approx(weights)


@pytest.mark.parametrize("good", [1, 7, 50, 93, 99])
def test_neither_class_outweighs_the_other(good: int) -> None:
    desirable, undesirable = class_weights(good, 100 - good)
    balance = desirable * good / (undesirable * (100 - good))
    assert 1 - 1e-9 <= balance <= 4 / 3 + 1e-9
    assert min(desirable, undesirable) == 1


def labelled(count: int) -> list[Row]:
    return [Row(Path("f.jsonl"), line, "p", ("c",), label=line % 2 == 0) for line in range(count)]


def test_the_seed_gives_the_order() -> None:
    rows = labelled(20)
    assert shuffle(rows, 1, 4) == shuffle(rows, 1, 4) != shuffle(rows, 2, 4)
    assert sorted(shuffle(rows, 1, 4), key=lambda row: row.line) == rows


def test_a_row_alone_in_its_batch_is_left_out() -> None:
    assert [len(shuffle(labelled(count), 0, 4)) for count in (4, 5, 6, 9)] == [4, 4, 6, 8]


def test_kto_refuses_one_class() -> None:
    check_classes(labelled(2))
    with pytest.raises(
        InputError, match=r"(?s)all labels are the same\n.*2 usable rows, all true.*fix: .*train sft"
    ):
        check_classes(labelled(4)[::2])


def test_the_loss_of_a_policy_that_is_its_reference() -> None:
    assert loss_at_reference("sigmoid", 0.1) == pytest.approx(0.693147)
    assert loss_at_reference("hinge", 0.1) == 1
    assert loss_at_reference("ipo", 0.1) == pytest.approx(25)


@pytest.mark.parametrize("margin", [-2.0, 0.0, 0.7])
def test_smoothing_is_made_of_losses_trl_has(margin: float) -> None:
    wrong = 0.2
    right, left = -math.log1p(math.exp(-margin)), -math.log1p(math.exp(margin))
    terms = {"sigmoid": -right, "robust": (-(1 - wrong) * right + wrong * left) / (1 - 2 * wrong)}
    mixed = loss_terms("sigmoid", wrong)
    weights = zip(mixed["loss_type"], mixed["loss_weights"], strict=True)  # type: ignore[call-overload]
    assert sum(weight * terms[name] for name, weight in weights) == pytest.approx(
        -(1 - wrong) * right - wrong * left
    )
    assert loss_terms("ipo", 0) == {"loss_type": ["ipo"]}
