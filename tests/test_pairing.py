"""Pairing against tables worked out by hand, and every reason a pair is dropped for."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import PROMPT, candidate, failure, judgment

from prefgen.candidate import Candidate
from prefgen.pairing import KTORow, Paired, PairingRule, kto_rows, kto_weights, pair_up, similarity
from prefgen.verdicts import Standing, settle

WORDS = [
    "an apple on the table",
    "two boats in a harbour",
    "green rivers run downhill",
    "every clock is late",
]
FOUR = [candidate(text, number) for number, text in enumerate(WORDS)]
W, X, Y, Z = FOUR
EASY = PairingRule(min_confidence=0.5)


def standing_of(scores: dict[Candidate, float]) -> Standing:
    return Standing({item.id: score for item, score in scores.items()})


def pairs(paired: Paired) -> list[tuple[str, str]]:
    return [(item.chosen.text, item.rejected.text) for item in paired.preferences]


RANKED = standing_of({W: 3.0, X: 1.0, Y: 0.0, Z: -4.0})


def test_best_worst() -> None:
    assert pairs(pair_up(PROMPT, FOUR, RANKED, EASY)) == [(W.text, Z.text)]


def test_best_2sigma() -> None:
    """Mean 0, population sd sqrt(26/4) = 2.55, so the target is -5.1: Z at -4 is nearest."""
    rule = replace(EASY, strategy="best-2sigma")
    assert pairs(pair_up(PROMPT, FOUR, RANKED, rule)) == [(W.text, Z.text)]


def test_best_2sigma_leaves_an_outlier_alone() -> None:
    """Sixteen at 0, one each at 1, -1, -2 and -9: mean -.55, sd 2.05, target -4.65; -2 is nearer than -9."""
    crowd = [candidate(f"filler number {n} {'abcdefghijklmnopqrst'[n]}", n) for n in range(20)]
    scores = dict.fromkeys(crowd, 0.0) | {crowd[0]: 1.0, crowd[1]: -1.0, crowd[2]: -2.0, crowd[3]: -9.0}
    rule = replace(EASY, strategy="best-2sigma")
    (found,) = pair_up(PROMPT, crowd, standing_of(scores), rule).preferences
    assert (found.chosen, found.rejected) == (crowd[0], crowd[2])


def test_best_random_is_the_same_draw_whatever_the_order_of_candidates() -> None:
    rule = replace(EASY, strategy="best-random", seed=3)
    drawn = {tuple(pairs(pair_up(PROMPT, random.Random(n).sample(FOUR, 4), RANKED, rule))) for n in range(10)}
    assert len(drawn) == 1
    rejected = {pairs(pair_up(PROMPT, FOUR, RANKED, replace(rule, seed=seed)))[0] for seed in range(40)}
    assert rejected == {(W.text, X.text), (W.text, Y.text), (W.text, Z.text)}


def test_all_pairs_clearest_first() -> None:
    rule = replace(EASY, strategy="all", max_pairs=10)
    found = pair_up(PROMPT, FOUR, RANKED, rule)
    expected = [(W, Z), (X, Z), (Y, Z), (W, Y), (W, X), (X, Y)]
    assert pairs(found) == [(better.text, worse.text) for better, worse in expected]
    assert [item.margin for item in found.preferences] == [7, 5, 4, 3, 2, 1]


def test_max_pairs_keeps_the_clearest() -> None:
    found = pair_up(PROMPT, FOUR, RANKED, replace(EASY, strategy="all", max_pairs=2))
    assert pairs(found) == [(W.text, Z.text), (X.text, Z.text)]
    assert found.dropped == {"over_max_pairs": 4}


@given(st.permutations(FOUR), st.sampled_from(["best-worst", "best-random", "best-2sigma", "all"]))
def test_a_verdict_belongs_to_an_id_not_to_a_place(order: list[Candidate], strategy: str) -> None:
    rule = replace(EASY, strategy=strategy, max_pairs=6)
    assert pair_up(PROMPT, order, RANKED, rule) == pair_up(PROMPT, FOUR, RANKED, rule)


@given(st.permutations(range(4)))
def test_the_winner_wins_wherever_it_stands_in_the_list(order: list[int]) -> None:
    shuffled = [FOUR[place] for place in order]
    told = [
        judgment(a.id, b.id, float(WORDS.index(b.text) - WORDS.index(a.text)))
        for a in FOUR
        for b in FOUR
        if a != b
    ]
    standing = settle([item.id for item in shuffled], told)
    assert pairs(pair_up(PROMPT, shuffled, standing, EASY)) == [(W.text, Z.text)]


def two(a: Candidate, b: Candidate, margin: float, rule: PairingRule = EASY) -> Paired:
    return pair_up(PROMPT, [a, b], settle([a.id, b.id], [judgment(a.id, b.id, margin)]), rule)


def test_a_tie_is_no_pair() -> None:
    assert two(W, X, 0.0).dropped == {"tie": 1}


def test_orders_that_disagree_are_dropped_by_the_margin() -> None:
    told = [judgment(W.id, X.id, 2.0, order="ab"), judgment(W.id, X.id, -1.8, order="ba")]
    found = pair_up(PROMPT, [W, X], settle([W.id, X.id], told), PairingRule())
    assert not found.preferences
    assert found.dropped == {"margin": 1}


@pytest.mark.parametrize(("margin", "kept"), [(1.0986, False), (1.0987, True)])
def test_the_margin_is_the_log_odds_of_the_confidence(margin: float, kept: bool) -> None:
    """log(.75 / .25) = 1.09861."""
    found = two(W, X, margin, PairingRule(min_confidence=0.75))
    assert bool(found.preferences) == kept
    assert kept or found.dropped == {"margin": 1}


def test_a_failed_pair_is_dropped_as_a_failure() -> None:
    told = [judgment(W.id, X.id, 2.0), failure(W.id, X.id)]
    found = pair_up(PROMPT, [W, X], settle([W.id, X.id], told), EASY)
    assert found.dropped == {"judge_failure": 1}


def test_what_was_not_judged_because_it_is_unfinished_is_no_failure_of_the_judge() -> None:
    cut = candidate("an answer that was cut", 7, "length")
    assert pair_up(PROMPT, [W, cut], settle([W.id], []), EASY).dropped == {"unfinished": 1}
    rule = replace(EASY, strategy="all")
    standing = settle([W.id, X.id], [judgment(W.id, X.id, 2.0)])
    found = pair_up(PROMPT, [W, X, cut], standing, rule)
    assert found.dropped == {"unfinished": 2}
    assert len(found.preferences) == 1


def test_a_failed_judgment_of_an_unfinished_response_is_a_failure() -> None:
    cut = candidate("an answer that was cut", 7, "length")
    found = pair_up(PROMPT, [W, cut], settle([W.id, cut.id], [failure(W.id, cut.id)]), EASY)
    assert found.dropped == {"judge_failure": 1}


def test_two_that_met_in_one_order_only_are_no_pair() -> None:
    """Where not everybody met, scores rank W before X before Y before Z; W and Z met in one order."""
    told = [judgment(W.id, X.id, 1.0), judgment(X.id, Y.id, 1.0), judgment(Y.id, Z.id, 1.0)]
    told.append(judgment(Z.id, W.id, -3.0))
    ids = [item.id for item in FOUR]
    found = pair_up(PROMPT, FOUR, settle(ids, told), EASY)
    assert not found.preferences
    assert found.dropped == {"not_compared": 1}
    found = pair_up(PROMPT, FOUR, settle(ids, [*told, judgment(W.id, Z.id, 3.5)]), EASY)
    assert [item.margin for item in found.preferences] == [3.25]


def test_near_identical_texts_are_no_pair() -> None:
    twin = candidate(W.text.upper() + "  ", 5)
    assert two(W, twin, 5.0).dropped == {"near_identical": 1}
    assert two(W, twin, 5.0, replace(EASY, max_similarity=1.0)).preferences


@given(st.text(), st.text())
def test_similarity_is_a_share(a: str, b: str) -> None:
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, a) == 1


def test_length_gap() -> None:
    """10 and 4 characters: (10 - 4) / 10 = .6."""
    long, short = candidate("abcd efghi", 0), candidate("xyzz", 1)
    assert two(long, short, 3.0, replace(EASY, max_length_gap=0.59)).dropped == {"length_gap": 1}
    assert two(long, short, 3.0, replace(EASY, max_length_gap=0.6)).preferences
    assert two(long, short, 3.0).preferences


def test_a_truncated_response_is_never_chosen_unless_asked() -> None:
    cut = candidate("the best of all but cut", 6, "length")
    assert two(cut, W, 4.0).dropped == {"chosen_truncated": 1}
    assert two(W, cut, 4.0).preferences
    assert two(cut, W, 4.0, replace(EASY, allow_truncated=True)).preferences


@pytest.mark.parametrize("strategy", ["best-worst", "best-random", "best-2sigma"])
def test_the_best_that_is_whole_is_chosen_over_one_that_is_worse(strategy: str) -> None:
    """A cut response that stands above the chosen one is never its rejected one."""
    cut = candidate("the best of all but cut", 6, "length")
    standing = standing_of({cut: 9.0, W: 1.0, X: -2.0})
    for seed in range(10):
        rule = replace(EASY, strategy=strategy, seed=seed)
        assert pairs(pair_up(PROMPT, [cut, W, X], standing, rule)) == [(W.text, X.text)]


def test_where_only_the_worst_is_whole_the_better_was_truncated() -> None:
    cut = candidate("the best of all but cut", 6, "length")
    for strategy in ("best-worst", "best-random", "best-2sigma", "all"):
        found = pair_up(PROMPT, [cut, W], standing_of({cut: 9.0, W: 1.0}), replace(EASY, strategy=strategy))
        assert found.dropped == {"chosen_truncated": 1}


def test_all_truncated() -> None:
    cut = [replace(item, finish_reason="length") for item in FOUR]
    standing = standing_of({item: float(number) for number, item in enumerate(cut)})
    assert pair_up(PROMPT, cut, standing, EASY).dropped == {"chosen_truncated": 1}


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_response_is_never_chosen(text: str) -> None:
    empty = candidate(text, 8)
    for rule in (EASY, replace(EASY, allow_truncated=True), replace(EASY, strategy="all")):
        found = two(empty, W, 9.0, rule)
        assert not found.preferences
        assert found.dropped == {"chosen_empty": 1}
    assert two(W, empty, 9.0).preferences


def test_scores_and_direct_margin_that_disagree_are_inconsistent() -> None:
    """W beats X by 5 and X beats Y by 5, but Y beats W by 1: best by score is W, worst is Y."""
    told = [judgment(W.id, X.id, 5.0), judgment(X.id, Y.id, 5.0), judgment(Y.id, W.id, 1.0)]
    found = pair_up(PROMPT, [W, X, Y], settle([W.id, X.id, Y.id], told), EASY)
    assert found.dropped == {"inconsistent": 1}


@pytest.mark.parametrize("some", [[], [W]])
def test_fewer_than_two_candidates(some: list[Candidate]) -> None:
    assert pair_up(PROMPT, some, settle([], []), EASY).dropped == {"fewer_than_two_candidates": 1}


@given(
    st.lists(st.tuples(st.floats(-6, 6), st.sampled_from(["stop", "length"]), st.booleans()), max_size=6),
    st.sampled_from(["best-worst", "best-random", "best-2sigma", "all"]),
    st.sampled_from([0.5, 0.75, 0.9]),
)
def test_every_pair_keeps_the_promises(
    rows: list[tuple[float, str, bool]], strategy: str, min_confidence: float
) -> None:
    made = {
        candidate("" if empty else f"word{n} other{n} third{n}", n, finish): score
        for n, (score, finish, empty) in enumerate(rows)
    }
    rule = PairingRule(strategy=strategy, min_confidence=min_confidence, max_pairs=3)
    found = pair_up(PROMPT, list(made), standing_of(made), rule)
    assert len(found.preferences) <= 3
    assert found.preferences or found.dropped
    for item in found.preferences:
        assert made[item.chosen] > made[item.rejected]
        assert item.confidence >= min_confidence
        assert not item.chosen.truncated
        assert not item.chosen.empty


def labels(rows: list[KTORow]) -> dict[str, bool]:
    return {row.candidate.text: row.label for row in rows}


def test_kto_rows_of_pairs() -> None:
    found = pair_up(PROMPT, FOUR, RANKED, EASY)
    rows = kto_rows(PROMPT, FOUR, RANKED, found.preferences, EASY)
    assert labels(rows) == {W.text: True, Z.text: False}
    assert [row.score for row in rows] == [3.0, -4.0]


def test_a_candidate_chosen_here_and_rejected_there_is_left_out() -> None:
    found = pair_up(PROMPT, FOUR, RANKED, replace(EASY, strategy="all", max_pairs=10))
    assert labels(kto_rows(PROMPT, FOUR, RANKED, found.preferences, EASY)) == {W.text: True, Z.text: False}


def test_kto_rows_by_threshold() -> None:
    """Mean 0, half of log(.75 / .25) is .549: W and X are above, Z below, Y at the mean."""
    rule = PairingRule(min_confidence=0.75)
    rows = kto_rows(PROMPT, FOUR, RANKED, [], rule, "threshold")
    assert labels(rows) == {W.text: True, X.text: True, Z.text: False}


def test_threshold_rows_that_are_cut_or_empty_are_never_desirable() -> None:
    cut, empty = candidate("cut answer here", 6, "length"), candidate("", 7)
    scores = standing_of({cut: 5.0, empty: 5.0, W: 5.0, X: -15.0})
    everything = [cut, empty, W, X]
    rows = kto_rows(PROMPT, everything, scores, [], PairingRule(), "threshold")
    assert labels(rows) == {W.text: True, X.text: False}
    allowed = kto_rows(PROMPT, everything, scores, [], PairingRule(allow_truncated=True), "threshold")
    assert labels(allowed) == {cut.text: True, W.text: True, X.text: False}


def test_equal_scores_give_no_threshold_rows() -> None:
    assert kto_rows(PROMPT, [W, X], standing_of({W: 1.0, X: 1.0}), [], EASY, "threshold") == []
    assert kto_rows(PROMPT, [W], standing_of({W: 1.0}), [], EASY, "threshold") == []


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_kto_weights_bring_the_ratio_into_the_papers_range(desirable: int, undesirable: int) -> None:
    first, second = kto_weights(desirable, undesirable)
    assert 1 - 1e-9 <= first * desirable / (second * undesirable) <= 4 / 3 + 1e-9
    assert 1.0 in (first, second)
    assert min(first, second) >= 1


@pytest.mark.parametrize("counts", [(0, 3), (3, 0), (0, 0)])
def test_kto_needs_both_classes(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="both classes"):
        kto_weights(*counts)


class Doubtful:
    """Holds the shorter response for likelier than the judge does."""

    def probability(self, margin: float, better: Candidate, worse: Candidate) -> float:
        return 0.4 if len(better.text) > len(worse.text) else 0.45


def test_no_label_that_the_calibration_believes_the_other_way_round() -> None:
    long, short = candidate("a much longer response", 0), candidate("short", 1)
    standing = settle([long.id, short.id], [judgment(long.id, short.id, 3.0)])
    rule = PairingRule(min_confidence=0.3, confidence=Doubtful())
    found = pair_up(PROMPT, [long, short], standing, rule)
    assert not found.preferences
    assert found.dropped == {"margin": 1}
