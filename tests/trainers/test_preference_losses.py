"""Losses on pairs against numbers worked by hand; log σ(1) = -0.313262, log σ(-1) = -1.313262."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, tensor

from trainers import preference_losses as losses


def each(loss: Tensor) -> list[float]:
    return [round(float(value), 5) for value in loss]


def test_sigmoid() -> None:
    assert each(losses.sigmoid_loss(tensor([0.0, 1.0, -1.0]))) == [0.69315, 0.31326, 1.31326]


def test_hinge() -> None:
    # 1 - 0, 1 - 0.25, nothing above 1, 1 + 1
    assert each(losses.hinge_loss(tensor([0.0, 0.25, 3.0, -1.0]))) == [1.0, 0.75, 0.0, 2.0]


def test_soft_label() -> None:
    # 0.8 · 0.3132617 + 0.2 · 1.3132617 = 0.2506093 + 0.2626523
    assert each(losses.soft_label_loss(tensor([1.0]), tensor([0.8]))) == [0.51326]
    # A label of 1 is plain DPO, one of 0 is DPO on the pair turned round.
    assert each(losses.soft_label_loss(tensor([1.0, 1.0]), tensor([1.0, 0.0]))) == [0.31326, 1.31326]


def test_conservative() -> None:
    # 0.9 · 0.3132617 + 0.1 · 1.3132617 = 0.2819355 + 0.1313262
    assert each(losses.conservative_loss(tensor([1.0]), 0.1)) == [0.41326]


def test_robust() -> None:
    # (0.9 · 0.3132617 - 0.1 · 1.3132617) / 0.8 = (0.2819355 - 0.1313262) / 0.8 = 0.1506093 / 0.8
    assert each(losses.robust_loss(tensor([1.0]), 0.1)) == [0.18826]
    assert each(losses.robust_loss(tensor([1.0]), 0.0)) == [0.31326]


@pytest.mark.parametrize("margin", [-2.0, 0.3, 4.0])
def test_robust_over_noisy_labels_is_the_loss_on_true_labels(margin: float) -> None:
    noise = 0.3
    right, turned = losses.robust_loss(tensor([margin, -margin]), noise)
    assert float((1 - noise) * right + noise * turned) == pytest.approx(
        float(losses.sigmoid_loss(tensor(margin))), rel=1e-5
    )


def test_ipo() -> None:
    # (0.5 - 1 / 0.2)² = 4.5²
    assert each(losses.ipo_loss(tensor([0.5, 5.0]), 0.1)) == [20.25, 0.0]


def test_odds_ratio() -> None:
    # p = 1/2 has odds 1, p = 1/5 has odds 1/4: the ratio is 4 and log 4 = 1.386294.
    chosen, rejected = tensor([math.log(0.5)]), tensor([math.log(0.2)])
    assert each(losses.log_odds_ratio(chosen, rejected)) == [1.38629]
    # σ(log 4) = 4/5, and -log 0.8 = 0.223144.
    assert each(losses.odds_ratio_loss(chosen, rejected)) == [0.22314]


def test_odds_of_what_is_certain_or_hopeless_are_finite() -> None:
    chosen, rejected = tensor([0.0, -1e-7]), tensor([-200.0, -1e-3]).requires_grad_()
    loss = losses.odds_ratio_loss(chosen, rejected)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert rejected.grad is not None
    assert torch.isfinite(rejected.grad).all()


def test_likelihood_is_a_mean_over_tokens_not_over_responses() -> None:
    # (2 + 9) nats over 1 + 3 tokens; a mean over responses would be (2 + 3) / 2.
    assert float(losses.negative_log_likelihood(tensor([-2.0, -9.0]), tensor([1, 3]))) == 2.75
    assert float(losses.negative_log_likelihood(tensor([0.0]), tensor([0]))) == 0


def test_weights() -> None:
    assert each(losses.confidence_weight(tensor([0.5, 0.75, 1.0]))) == [0.0, 0.5, 1.0]


# ------------------------------------------------------------------------------------------ where they push


def slope(loss: Callable[[Tensor], Tensor], at: float) -> float:
    margin = tensor([float(at)], requires_grad=True)
    loss(margin).sum().backward()
    assert margin.grad is not None
    return float(margin.grad)


def soft(margin: Tensor) -> Tensor:
    return losses.soft_label_loss(margin, 0.8)


def conservative(margin: Tensor) -> Tensor:
    return losses.conservative_loss(margin, 0.2)


def robust(margin: Tensor) -> Tensor:
    return losses.robust_loss(margin, 0.2)


@pytest.mark.parametrize("loss", [losses.sigmoid_loss, losses.hinge_loss, soft, conservative, robust])
def test_at_the_reference_every_loss_pushes_the_margin_up(loss: Callable[[Tensor], Tensor]) -> None:
    assert slope(loss, 0) < 0


@pytest.mark.parametrize("loss", [soft, conservative])
def test_a_label_of_four_in_five_asks_for_a_margin_of_log_four(loss: Callable[[Tensor], Tensor]) -> None:
    # d/dm = σ(m) - p, which is 0 at m = log(p / (1-p)) = log 4.
    assert slope(loss, math.log(4)) == pytest.approx(0, abs=1e-6)
    assert slope(loss, 1) < 0 < slope(loss, 2)


def test_a_robust_loss_pushes_on_where_a_conservative_one_has_stopped() -> None:
    # d/dm = -((1-e) σ(-m) + e σ(m)) / (1-2e), which never is 0.
    assert slope(robust, 6) < 0 < slope(conservative, 6)


def test_a_reached_hinge_and_a_reached_ipo_push_no_more() -> None:
    assert slope(losses.hinge_loss, 1.5) == 0
    assert slope(lambda difference: losses.ipo_loss(difference, 0.5), 1.0) == 0
    assert slope(lambda difference: losses.ipo_loss(difference, 0.5), 2.0) == 2


def test_odds_push_chosen_up_and_rejected_down() -> None:
    chosen, rejected = tensor([-1.0], requires_grad=True), tensor([-1.0], requires_grad=True)
    losses.odds_ratio_loss(chosen, rejected).sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert float(chosen.grad) < 0 < float(rejected.grad)
