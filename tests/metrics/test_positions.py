"""Accuracy by position and what is read off it, PSI, orders, crossed effects: hand-computed."""

import numpy as np
import pytest

from fairpos.errors import InvalidRequest
from fairpos.metrics import (
    accuracy,
    accuracy_by_position,
    best_of_orders,
    gap,
    label_effect,
    pick_shares,
    position_effect,
    position_gap_test,
    primacy,
    psi,
    recency,
    worst_of_orders,
    worst_position,
)

TABLE = [  # 4 items, gold at 4 positions
    [1, 0, 0, 1],
    [1, 1, 0, 1],
    [1, 0, 0, 0],
    [0, 0, 0, 1],
]


def test_the_curve_and_its_figures():
    assert accuracy_by_position(TABLE).tolist() == [3 / 4, 1 / 4, 0, 3 / 4]
    assert accuracy(TABLE) == 7 / 16
    assert gap(TABLE) == 3 / 4 - 0
    assert worst_position(TABLE) == 0
    assert primacy(TABLE) == 3 / 4 - (1 / 4 + 0) / 2
    assert recency(TABLE) == 3 / 4 - (1 / 4 + 0) / 2
    assert best_of_orders(TABLE) == 1
    assert worst_of_orders(TABLE) == 0
    assert best_of_orders([[0, 0], [0, 1]]) == 1 / 2
    assert worst_of_orders([[1, 1], [0, 1]]) == 1 / 2


def test_leading_axes_are_left_alone():
    stacked = np.stack([TABLE, np.ones((4, 4))])
    for statistic in (accuracy, gap, worst_position, primacy, recency, best_of_orders, worst_of_orders):
        assert statistic(stacked).tolist() == [float(statistic(TABLE)), float(statistic(np.ones((4, 4))))]


def test_psi():
    assert psi([0.8, 0.4, 0.6]) == pytest.approx(1 - 0.4 / 0.8)
    assert psi([0.5, 0.5]) == 0
    assert psi([0.0, 0.0]) == 0
    assert psi([0.0, 0.3]) == 1
    assert psi([[0.8, 0.4], [1.0, 1.0]]).tolist() == [0.5, 0.0]


def test_gap_test_tells_bias_from_chance():
    biased = np.tile([1.0, 0.0, 0.0], (30, 1))
    found = position_gap_test(biased)
    assert found.gap == 1.0
    assert found.p == 1 / 1001
    assert 0 < found.by_chance < 0.5
    flat = np.tile([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], (15, 1))
    assert position_gap_test(flat).p == 1.0
    assert position_gap_test(flat).by_chance == 0.0
    # Two items, two positions, both right at the first only: of the 4 equally likely tables 2 have a gap of 1.
    assert position_gap_test([[1, 0], [1, 0]], permutations=4000).p == pytest.approx(0.5, abs=0.03)


def cells(judge):
    """X's value (+1, -1) in the four cells; the judge gets (X is first, X has the first label) and names X or not."""
    return [[[1 if judge(first, label) else -1 for label in (True, False)] for first in (True, False)]]


def test_crossed_effects_are_orthogonal():
    always_first = cells(lambda first, label: first)
    always_label_a = cells(lambda first, label: label)
    fair = cells(lambda first, label: True)
    confounded = cells(lambda first, label: first and label)
    assert (position_effect(always_first), label_effect(always_first)) == (1, 0)
    assert (position_effect(always_label_a), label_effect(always_label_a)) == (0, 1)
    assert (position_effect(fair), label_effect(fair)) == (0, 0)
    # X wins in 1 cell of 4: X first 1 - 1 = 0 against -1 - 1 = -2; (0 - -2) / 2 / 2.
    assert (position_effect(confounded), label_effect(confounded)) == (0.5, 0.5)
    both = np.concatenate([always_first, fair])
    assert position_effect(both) == 1 / 2
    assert position_effect(np.stack([both, both])).tolist() == [0.5, 0.5]


def test_crossed_effects_of_log_probabilities():
    # margin of X = quality 2 + 3 if first, -3 if second + 0.5 if labelled A, -0.5 if B
    table = [[[2 + 3 + 0.5, 2 + 3 - 0.5], [2 - 3 + 0.5, 2 - 3 - 0.5]]]
    assert position_effect(table) == 3
    assert label_effect(table) == 0.5


def test_pick_shares():
    assert pick_shares([[0, 0], [2, -1]], 3).tolist() == [2 / 3, 0, 1 / 3]
    assert np.isnan(pick_shares([-1, -1], 2)).all()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: accuracy_by_position([1, 0]),
        lambda: primacy([[1, 0]]),
        lambda: psi([-0.1, 0.5]),
        lambda: psi([]),
        lambda: position_gap_test([1, 0]),
        lambda: position_effect([[1, 0]]),
        lambda: pick_shares([3], 3),
    ],
)
def test_bad_input_is_refused(bad):
    with pytest.raises(InvalidRequest):
        bad()
