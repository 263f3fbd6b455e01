"""Losses, weights and orders against values worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from prefgen.errors import InputError
from trainers.dpo import DPOConfig, loss_at_reference, objective
from trainers.kto import check_classes, class_weights, shuffle
from trainers.orpo import ORPOConfig
from trainers.orpo import objective as orpo_objective
from trainers.pairs import Pairs, Side
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
    for loss in ("sigmoid", "robust", "conservative", "soft"):
        assert loss_at_reference(loss, 0.1) == pytest.approx(0.693147)  # type: ignore[arg-type]
    assert loss_at_reference("hinge", 0.1) == 1
    assert loss_at_reference("ipo", 0.1) == pytest.approx(25)


def pairs_of(chosen: list[float], rejected: list[float], confidence: list[float]) -> Pairs:
    """Log-ratios as given, of 2 tokens chosen and 4 rejected, from a reference of -10 and -20 nats."""

    def side(log_ratios: list[float], reference: float, tokens: int) -> Side:
        sums, told = torch.tensor(log_ratios) + reference, torch.full((len(log_ratios),), reference)
        return Side(sums, torch.full((len(log_ratios),), tokens), told)

    return Pairs(
        side(chosen, -10, 2),
        side(rejected, -20, 4),
        side([0.0] * len(chosen), 0, 0),
        torch.tensor(confidence),
    )


PAIRS = pairs_of([4.0, -2.0], [-6.0, 8.0], [1.0, 0.75])
"""Δ = 10 and -10, per token 4/2 + 6/4 = 3.5 and -2/2 - 8/4 = -3; β = 0.1 makes margins of 1 and -1."""


def test_dpo_of_two_pairs() -> None:
    loss, logged = objective(options(), 1, PAIRS)
    # (0.313262 + 1.313262) / 2
    assert float(loss) == pytest.approx(0.813262)
    assert {name: value.tolist() for name, value in logged.items()} == {
        "rewards/chosen": pytest.approx([0.4, -0.2]),
        "rewards/rejected": pytest.approx([-0.6, 0.8]),
        "rewards/accuracies": [1, 0],
        "rewards/margins": pytest.approx([1, -1]),
        "logps/chosen": [-6, -12],
        "logps/rejected": [-26, -12],
        "log_ratios/chosen": [4, -2],
        "log_ratios/rejected": [-6, 8],
        "kl_reference_policy": [1, -3],
    }


def test_dpo_per_token_with_weights_and_likelihood() -> None:
    loss, _ = objective(options(length_normalized=True), 1, PAIRS)
    # -log σ(0.35) = 0.533382 and -log σ(-0.3) = 0.854355
    assert float(loss) == pytest.approx((0.533382 + 0.854355) / 2, abs=1e-5)
    loss, _ = objective(options(weight_by_confidence=True), 0.75, PAIRS)
    # weights 1 and 0.5 over their mean of 0.75
    assert float(loss) == pytest.approx((0.313262 / 0.75 + 1.313262 * 0.5 / 0.75) / 2, abs=1e-5)
    loss, logged = objective(options(sft_weight=0.5), 1, PAIRS)
    # (6 + 12) nats over 2 + 2 tokens
    assert float(logged["nll_loss"]) == 4.5
    assert float(loss) == pytest.approx(0.813262 + 0.5 * 4.5)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        # (1 · 0.313262 + 0.75 · 1.313262 + 0.25 · 0.313262) / 2
        ("soft", 0.688262),
        # (3.5 - 5)² and (-3 - 5)²
        ("ipo", (2.25 + 64) / 2),
        # max(0, 1 - 1) and 1 + 1
        ("hinge", 1.0),
        # 0.8 · 0.313262 + 0.2 · 1.313262 and the same turned round: half their sum is half of 1.626523
        ("conservative", 0.813262),
        # (0.8 · 0.313262 - 0.2 · 1.313262) / 0.6 and the same turned round
        ("robust", 0.813262),
    ],
)
def test_each_loss_of_two_pairs(loss: str, value: float) -> None:
    noise = 0.2 if loss in ("conservative", "robust") else None
    assert float(objective(options(loss=loss, noise_rate=noise), 1, PAIRS)[0]) == pytest.approx(
        value, abs=1e-5
    )


def test_orpo_of_one_pair() -> None:
    half, fifth = 2 * math.log(0.5), 4 * math.log(0.2)
    prompt = Side(torch.tensor([-3.0]), torch.tensor([6]))
    pairs = Pairs(
        Side(torch.tensor([half]), torch.tensor([2])), Side(torch.tensor([fifth]), torch.tensor([4])), prompt
    )
    config = ORPOConfig(model="m", data=Path("d"), out=Path("o"), odds_weight=0.1)
    loss, logged = orpo_objective(config, pairs)
    # -log 0.5 a token, and odds of 1 to 1/4: -log σ(log 4) = -log 0.8
    assert float(loss) == pytest.approx(0.693147 + 0.1 * 0.223144, abs=1e-5)
    assert float(logged["log_odds_chosen"]) == pytest.approx(math.log(4), abs=1e-5)
    loss, _ = orpo_objective(config.model_copy(update={"learn_prompts": True}), pairs)
    # (2 · 0.693147 + 3) nats over 8 tokens
    assert float(loss) == pytest.approx(4.386294 / 8 + 0.0223144, abs=1e-5)


def options(**values: object) -> DPOConfig:
    given = {"model": "m", "data": "d", "out": "o", "beta": 0.1, **values}
    return DPOConfig.model_validate(given)
