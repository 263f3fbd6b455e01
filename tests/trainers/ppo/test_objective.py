"""PPO's arithmetic against numbers worked by hand, and against slow loops over plain lists."""

from __future__ import annotations

import math
import random

import pytest
import torch

from trainers.ppo import objective

MASK = [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]


def table(seed: int, scale: float = 1.0) -> list[list[float]]:
    generator = random.Random(seed)
    return [[generator.gauss(0, scale) for _ in row] for row in MASK]


def lengths() -> list[int]:
    return [int(sum(row)) for row in MASK]


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row, length in zip(rows, lengths(), strict=True) for value in row[:length]]


def unpadded(tensor: torch.Tensor) -> list[float]:
    return flat(tensor.tolist())


# ------------------------------------------------------------------------------------------------ advantages


def test_advantages_by_hand() -> None:
    """γ = .9, λ = .5. δ_2 = 1 - .3 = .7; δ_1 = 0 + .9·.3 - .2 = .07; δ_0 = 0 + .9·.2 - .1 = .08.

    A_2 = .7; A_1 = .07 + .45·.7 = .385; A_0 = .08 + .45·.385 = .25325; returns = A + V.
    """
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.1, 0.2, 0.3]])
    advantages, returns = objective.generalized_advantages(rewards, values, torch.ones(1, 3), 0.9, 0.5)
    assert advantages[0].tolist() == pytest.approx([0.25325, 0.385, 0.7])
    assert returns[0].tolist() == pytest.approx([0.35325, 0.585, 1.0])


def test_a_response_ends_where_its_mask_does() -> None:
    """Two tokens and two of padding, whose rubbish changes nothing; the value after the end is 0.

    γ = λ = 1: A_1 = 2 - .5 = 1.5; A_0 = (1 + .5 - .25) + 1.5 = 2.75.
    """
    rewards, values = torch.tensor([[1.0, 2.0, 70.0, 80.0]]), torch.tensor([[0.25, 0.5, 50.0, 60.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    advantages, returns = objective.generalized_advantages(rewards, values, mask, 1.0, 1.0)
    assert advantages[0].tolist() == pytest.approx([2.75, 1.5, 0, 0])
    assert returns[0].tolist() == pytest.approx([3.0, 2.0, 0, 0])


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.8), (0.99, 0.0)])
def test_advantages_against_their_definition(gamma: float, lam: float) -> None:
    """A_t = Σ_k (γλ)^k δ_{t+k}, summed term by term."""
    rewards, values = table(1), table(2)
    found, returns = objective.generalized_advantages(
        torch.tensor(rewards), torch.tensor(values), torch.tensor(MASK), gamma, lam
    )
    slow = []
    for reward, value, length in zip(rewards, values, lengths(), strict=True):
        after = [*value[1:length], 0.0]
        deltas = [reward[t] + gamma * after[t] - value[t] for t in range(length)]
        slow += [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, length)) for t in range(length)]
    assert unpadded(found) == pytest.approx(slow, abs=1e-5)
    assert unpadded(returns) == pytest.approx(
        [a + v for a, v in zip(slow, flat(values), strict=True)], abs=1e-5
    )


def test_lambda_1_is_the_sum_of_what_comes_and_lambda_0_looks_one_token_ahead() -> None:
    rewards, values, mask = torch.tensor(table(1)), torch.tensor(table(2)), torch.tensor(MASK)
    _, returns = objective.generalized_advantages(rewards, values, mask, 1.0, 1.0)
    assert float(returns[0, 0]) == pytest.approx(float(rewards[0].sum()), abs=1e-5)
    one_step, _ = objective.generalized_advantages(rewards, values, mask, 1.0, 0.0)
    expected = rewards[0, 1] + values[0, 2] - values[0, 1]
    assert float(one_step[0, 1]) == pytest.approx(float(expected))


# ---------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 2.0, -2.4, 1),  # -min(1.5·2, 1.2·2)
        (0.5, 2.0, -1.0, 0),  # -min(.5·2, .8·2)
        (1.5, -2.0, 3.0, 0),  # -min(1.5·-2, 1.2·-2)
        (0.5, -2.0, 1.6, 1),  # -min(.5·-2, .8·-2)
        (1.1, 2.0, -2.2, 0),
        (1.0, -2.0, 2.0, 0),
    ],
)
def test_the_clipped_objective_by_hand(ratio: float, advantage: float, loss: float, clipped: int) -> None:
    new = torch.tensor([[math.log(ratio) - 1]], requires_grad=True)
    found, cut = objective.policy_loss(new, torch.tensor([[-1.0]]), torch.tensor([[advantage]]), 0.2)
    assert float(found.detach()) == pytest.approx(loss)
    assert float(cut) == clipped
    found.backward()
    # d(-A r)/d(log p) = -A r, and nothing once it is clipped.
    assert new.grad is not None
    assert float(new.grad) == pytest.approx(0 if clipped else -advantage * ratio)


@pytest.mark.parametrize(
    ("value", "loss"),
    [
        (0.9, 0.405),  # kept at .7: ½ max((.9-0)², (.7-0)²) = ½·.81
        (0.1, 0.045),  # kept at .3: ½ max(.01, .09)
        (0.6, 0.18),  # within .2 of the old value: ½·.36
    ],
)
def test_the_clipped_value_loss_by_hand(value: float, loss: float) -> None:
    found = objective.value_loss(torch.tensor([[value]]), torch.tensor([[0.5]]), torch.tensor([[0.0]]), 0.2)
    assert float(found) == pytest.approx(loss)


def test_losses_against_loops() -> None:
    new, old, advantages = table(3, 0.5), table(4, 0.5), table(5)
    losses, _ = objective.policy_loss(torch.tensor(new), torch.tensor(old), torch.tensor(advantages), 0.2)
    slow = []
    for n, o, a in zip(flat(new), flat(old), flat(advantages), strict=True):
        ratio = math.exp(n - o)
        slow.append(-min(ratio * a, min(max(ratio, 0.8), 1.2) * a))
    assert unpadded(losses) == pytest.approx(slow, abs=1e-5)
    squared = objective.value_loss(torch.tensor(new), torch.tensor(old), torch.tensor(advantages), 0.2)
    slow = []
    for v, o, r in zip(flat(new), flat(old), flat(advantages), strict=True):
        kept = min(max(v, o - 0.2), o + 0.2)
        slow.append(max((v - r) ** 2, (kept - r) ** 2) / 2)
    assert unpadded(squared) == pytest.approx(slow, abs=1e-5)


# --------------------------------------------------------------------------------------- rewards and the KL


def test_kl_estimates_by_hand() -> None:
    """p = .5, q = .25: k1 = ln 2; k3 = .5 - 1 + ln 2. The other way round: k1 = -ln 2; k3 = 2 - 1 - ln 2."""
    p, q = torch.tensor([[0.5, 0.25]]).log(), torch.tensor([[0.25, 0.5]]).log()
    assert objective.kl_k1(p, q)[0].tolist() == pytest.approx([math.log(2), -math.log(2)])
    assert objective.kl_k3(p, q)[0].tolist() == pytest.approx([math.log(2) - 0.5, 1 - math.log(2)])


def test_both_estimates_have_the_kl_as_their_mean() -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    kl = float((p * (p / q).log()).sum())
    for estimate in (objective.kl_k1, objective.kl_k3):
        assert float((p * estimate(p.log(), q.log())).sum()) == pytest.approx(kl)


def test_the_score_stands_at_the_last_token() -> None:
    """β = .5; the second response is cut by the limit, so 1 is taken from its score of 3."""
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    kl = torch.tensor([[0.2, 0.4, 9.0], [1.0, 0.0, -0.2]])
    scores = objective.penalize_unfinished(torch.tensor([2.0, 3.0]), torch.tensor([True, False]), 1.0)
    rewards = objective.token_rewards(scores, kl, mask, 0.5)
    assert rewards[0].tolist() == pytest.approx([-0.1, 2 - 0.2, 0])
    assert rewards[1].tolist() == pytest.approx([-0.5, 0, 2 + 0.1])


def test_log_probs_and_entropy_by_hand() -> None:
    """Logits ln 1, ln 3 give .25 and .75; at temperature ½ they are squared: .1 and .9."""
    logits, tokens = torch.tensor([[[0.0, math.log(3)]]]), torch.tensor([[1]])
    assert float(objective.token_log_probs(logits, tokens, 1.0)) == pytest.approx(math.log(0.75))
    assert float(objective.token_log_probs(logits, tokens, 0.5)) == pytest.approx(math.log(0.9))
    by_hand = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert float(objective.entropy(logits, 1.0)) == pytest.approx(by_hand)


# ------------------------------------------------------------------------------------------------- whitening


def test_whitening_by_hand() -> None:
    """1, 3 and 5: mean 3, variance 8/3."""
    values, mask = (
        torch.tensor([[1.0, 3.0, 99.0], [5.0, -99.0, 99.0]]),
        torch.tensor([[1.0, 1, 0], [1, 0, 0]]),
    )
    step = 2 / math.sqrt(8 / 3)
    expected = [[-step, 0, 0], [step, 0, 0]]
    assert objective.whiten(values, mask).tolist() == [pytest.approx(row, abs=1e-5) for row in expected]
    kept = objective.whiten(values, mask, shift_mean=False)
    assert kept.tolist() == [pytest.approx([3 - step, 3, 0]), pytest.approx([3 + step, 0, 0])]


def test_whitening_against_a_loop() -> None:
    values = table(6, 3.0)
    known = flat(values)
    mean = sum(known) / len(known)
    variance = sum((value - mean) ** 2 for value in known) / len(known)
    slow = [(value - mean) / math.sqrt(variance) for value in known]
    assert unpadded(objective.whiten(torch.tensor(values), torch.tensor(MASK))) == pytest.approx(
        slow, abs=1e-4
    )


def test_one_token_alone_is_whitened_to_0() -> None:
    assert float(objective.whiten(torch.tensor([[7.0]]), torch.ones(1, 1))) == 0


def test_explained_variance_by_hand() -> None:
    """Returns 0, 2, 4 (variance 8/3); values 0, 1, 2 leave 0, 1, 2 (variance 2/3): 1 - ¼."""
    returns, mask = torch.tensor([[0.0, 2.0, 4.0, 50.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    values = torch.tensor([[0.0, 1.0, 2.0, -50.0]])
    assert float(objective.explained_variance(values, returns, mask)) == pytest.approx(0.75)
    assert float(objective.explained_variance(returns, returns, mask)) == pytest.approx(1)
    assert float(objective.explained_variance(0 * returns, returns, mask)) == pytest.approx(0)
