"""Each alarm on hand-made histories: when it speaks, and when it has to be silent."""

from __future__ import annotations

import math

import pytest

from trainers.alarms import Alarm, Evaluation, correlation_bound, find_alarms, lower_bound
from trainers.monitor import history


def names(*evaluations: Evaluation, kl_target: float | None = None) -> list[tuple[str, int, int]]:
    return [(alarm.name, alarm.step, alarm.good_step) for alarm in find_alarms(evaluations, kl_target)]


def told(step: int, numbers: dict[str, float] | None = None, **values: list[float | None]) -> Evaluation:
    return Evaluation(step, numbers or {}, values)


# ------------------------------------------------------------------------------------------------- arithmetic


def test_lower_bound_by_hand() -> None:
    # Mean 2, s = 1 (deviations -1 0 1), n = 3: 2 - t(0.95, 2) · 1 / √3 with t = 2.91999.
    assert lower_bound([1, 2, 3], 0.05) == pytest.approx(2 - 2.919986 / math.sqrt(3))
    assert lower_bound([2, 2], 0.05) == 2
    assert lower_bound([2], 0.05) == -math.inf


def test_correlation_bound_by_hand() -> None:
    # atanh 0.6 = 0.693147, minus 1.645 / √16 = 0.41125, gives 0.281897; tanh of that is 0.274664.
    assert correlation_bound(0.6, 19) == pytest.approx(0.274664, abs=1e-5)
    assert 0.99 < correlation_bound(1.0, 100) <= 1
    assert correlation_bound(0.9, 3) == -1


# ------------------------------------------------------------------------------------------- over-optimised


def judged(step: int, scores: list[float | None], reward: float) -> Evaluation:
    return told(step, {"train/reward": reward}, held_out=scores)


GOOD = [1.0, 2.0, 3.0, 4.0]


def test_the_proxy_rises_while_the_held_out_judge_falls() -> None:
    # Differences from the first to the third: 0.5 0.6 0.5 0.6, mean 0.55, far above their noise.
    between, late = [0.8, 1.7, 2.8, 3.7], [0.5, 1.4, 2.5, 3.4]
    run = [judged(0, GOOD, 0.1), judged(10, between, 0.2), judged(20, late, 0.3)]
    assert names(*run) == [("over_optimised", 20, 0)]
    seen = find_alarms(run)[0].seen
    assert "from 2.5 to 1.95 on 4 prompts, while what is trained on rose from 0.1 to 0.3" in seen


@pytest.mark.parametrize(
    ("scores", "rewards"),
    [
        ((GOOD, [0.8, 1.7, 2.8, 3.7], [0.5, 1.4, 2.5, 3.4]), (0.3, 0.2, 0.1)),  # the proxy falls as well
        ((GOOD, [0.4, 1.3, 2.4, 3.3], [0.5, 1.4, 2.5, 3.4]), (0.1, 0.2, 0.3)),  # it comes back
        ((GOOD, [1.0, 1.0, 3.0, 4.0], [-2.0, 3.0, 1.0, 5.0]), (0.1, 0.2, 0.3)),  # as noisy as it falls
        ((GOOD, [0.8, 1.7, 2.8, 3.7], [None, None, None, 3.4]), (0.1, 0.2, 0.3)),  # one prompt is no sample
        ((GOOD, [1.1, 2.1, 3.1, 4.1], [1.2, 2.2, 3.2, 4.2]), (0.1, 0.2, 0.3)),  # both rise
    ],
)
def test_it_is_silent_otherwise(scores: tuple[list[float | None], ...], rewards: tuple[float, ...]) -> None:
    run = [judged(10 * n, one, reward) for n, (one, reward) in enumerate(zip(scores, rewards, strict=True))]
    assert names(*run) == []


def test_what_is_maximised_is_looked_for_in_order() -> None:
    assert told(0, {"reward": 1.0, "train/reward": 2.0, "loss": 3.0}).proxy() == 1
    assert told(0, {"rewards/margins": 2.0, "loss": 3.0}).proxy() == 2
    assert told(0, {"loss": 3.0, "train/loss": 4.0}).proxy() == -3
    assert told(0).proxy() is None


# ------------------------------------------------------------------------------------------------- all others


def test_longer_answers() -> None:
    start = told(0, length=[10.0, 20.0, 30.0])
    # 14 26 38 have mean 26, 1.3 times 20; differences 4 6 8 are above noise.
    assert names(start, told(5, length=[14.0, 26.0, 38.0])) == [("length", 5, 0)]
    assert names(start, told(5, length=[12.0, 24.0, 37.0])) == []  # 73 / 60 = 1.22
    assert names(start, told(5, length=[4.0, 6.0, 80.0])) == []  # one long answer


def test_chosen_responses_become_less_likely() -> None:
    def run(*values: float) -> list[Evaluation]:
        return [told(n, {"logps/chosen": value}) for n, value in enumerate(values)]

    # The margin is 10% of 50: below -55 twice, the second time lower.
    assert names(*run(-50, -56, -57)) == [("chosen_falls", 2, 0)]
    assert names(*run(-50, -45, -56, -54, -58, -60)) == [("chosen_falls", 5, 3)]
    assert names(*run(-50, -54, -60)) == []
    assert names(*run(-50, -60, -57)) == []


def test_reward_follows_length() -> None:
    leads: list[float | None] = [float(n % 5 - 2) for n in range(20)]
    start = told(0, {"watch/reward_length_correlation": 0.9}, reward_lead=leads, length_lead=leads)
    late = told(9, {"watch/reward_length_correlation": 0.6}, reward_lead=leads, length_lead=leads)
    few = told(9, {"watch/reward_length_correlation": 0.6}, reward_lead=leads[:4], length_lead=leads[:4])
    assert names(start) == []  # an untrained head
    assert names(start, late) == [("reward_follows_length", 9, 0)]
    assert names(start, few) == []
    logged = [told(9, {"train/reward_length_correlation": value}) for value in (0.51, 0.5)]
    assert names(start, logged[0]) == [("reward_follows_length", 9, 0)]
    assert names(start, logged[1]) == []


def test_divergence_past_its_target() -> None:
    start, late = told(0, {"watch/kl": 0.0}), told(4, {"watch/kl": 6.1, "kl": 0.2})
    assert names(start, late) == []
    assert names(start, late, kl_target=6.0) == [("kl", 4, 0)]
    assert names(start, told(4, {"kl": 99.0}), kl_target=6.0) == []  # a trainer's own number, of another kind
    assert names(start, told(4, {"watch/kl_start": 7.0}), kl_target=6.0) == [("kl", 4, 0)]


def test_entropy_repetition_and_refusals() -> None:
    start = told(0, entropy=[2.0, 2.2, 1.8], repetition=[0.0, 0.1, 0.0], refusal=[0.0] * 10)
    assert names(start, told(1, entropy=[0.9, 1.0, 0.9])) == [("entropy", 1, 0)]
    assert names(start, told(1, entropy=[1.1, 1.1, 0.9])) == []
    assert names(start, told(1, repetition=[0.3, 0.4, 0.3])) == [("repetition", 1, 0)]
    assert names(start, told(1, repetition=[0.1, 0.2, 0.1])) == []
    # Mean 0.4, s = 0.516, t(0.95, 9) = 1.833: 0.4 - 1.833 · 0.516 / √10 = 0.10, above 0.
    assert names(start, told(1, refusal=[1.0] * 4 + [0.0] * 6)) == [("refusals", 1, 0)]
    assert names(start, told(1, refusal=[1.0] * 2 + [0.0] * 8)) == []


def test_each_kind_is_told_once_with_its_remedy() -> None:
    run = [told(n, {"watch/kl": float(n)}) for n in range(5)]
    found = find_alarms(run, kl_target=1.5)
    assert [alarm.step for alarm in found] == [2]
    assert "2 nats" in found[0].seen
    assert "--beta" in found[0].remedy
    assert Alarm.model_validate_json(found[0].model_dump_json()) == found[0]


def test_history_of_a_metrics_file() -> None:
    """Training logs are averaged from one evaluation to the next; the watcher's numbers have names of their
    own."""
    lines: list[dict[str, float | str | None]] = [
        {"step": 0, "epoch": 0.0, "split": "eval", "loss": 0.7, "kl": 0.0},
        {"step": 0, "epoch": 0.0, "split": "watch", "kl": 1.0},
        {"step": 1, "epoch": 0.1, "split": "train", "reward": 1.0},
        {"step": 2, "epoch": 0.2, "split": "train", "reward": 2.0, "loss": None},
        {"step": 2, "epoch": 0.2, "split": "eval", "loss": 0.6},
        {"step": 2, "epoch": 0.2, "split": "alarm", "name": "kl"},
        {"step": 2, "epoch": 0.2, "split": "final", "loss": 9.0},
    ]
    first, second = history(lines, {2: {"length": (3.0,)}})
    assert (first.step, second.step) == (0, 2)
    assert (first.numbers["kl"], first.numbers["watch/kl"]) == (0, 1)
    assert (second.numbers["train/reward"], second.numbers["loss"]) == (1.5, 0.6)
    assert second.values == {"length": (3.0,)}
