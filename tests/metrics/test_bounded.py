"""Intervals of bounded means: they cover what they say, and keep a width where all items agree."""

import numpy as np
import pytest

from fairpos.errors import InvalidRequest
from fairpos.metrics import bootstrap_interval, bounded_difference, bounded_mean


@pytest.mark.parametrize(("n", "high"), [(10, 0.278), (120, 0.031)])
def test_items_that_all_agree_leave_room_for_others(n, high):
    assert bounded_mean(np.zeros(n)).high == pytest.approx(high, abs=0.001)
    assert bounded_mean(np.ones(n)).low == pytest.approx(1 - high, abs=0.001)
    none = bounded_difference(np.zeros(n))
    assert none.low == pytest.approx(-none.high)
    assert none.high == pytest.approx(high, abs=0.001)
    all_of_it = bounded_difference(np.ones(n))
    assert all_of_it.high == 1
    assert 0 < all_of_it.low < 1


def test_one_item_proves_nothing():
    assert (bounded_mean([1.0]).low, bounded_difference([1.0]).low) == (0.0, pytest.approx(-0.4, abs=0.5))


def test_a_difference_turned_round_is_the_same_turned_round():
    values = np.random.default_rng(1).uniform(-1, 1, 30)
    there, back = bounded_difference(values), bounded_difference(-values)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.estimate == pytest.approx(values.mean())


def rate(probability):
    return probability, bounded_mean, lambda draw, n: (draw.random(n) < probability).astype(float)


def over_orders(mean):
    """Five orders of items that differ in how hard they are."""
    return mean, bounded_mean, lambda draw, n: draw.binomial(5, draw.beta(4 * mean, 4 * (1 - mean), n)) / 5


def paired(up, down):
    return up - down, bounded_difference, lambda draw, n: draw.choice([1.0, -1.0, 0.0], n, p=[up, down, 1 - up - down])


def paired_over_orders():
    def draw_differences(draw, n):
        hard = draw.beta(2, 2, n) * 0.8
        return (draw.binomial(5, hard + 0.2) - draw.binomial(5, hard)) / 5

    return 0.2, bounded_difference, draw_differences


@pytest.mark.parametrize("n", [20, 40, 120])
@pytest.mark.parametrize(
    "case",
    [
        rate(0.5),
        rate(0.95),
        over_orders(0.5),
        over_orders(0.1),
        paired(0.2, 0.1),
        paired(0.03, 0.01),
        paired_over_orders(),
    ],
    ids=["rate .5", "rate .95", "orders .5", "orders .1", "paired", "rarely differ", "paired orders"],
)
def test_the_truth_is_inside_as_often_as_it_says(case, n):
    truth, interval, values = case
    draw = np.random.default_rng(n)
    covered = np.mean([interval(values(draw, n)).holds(truth) for _ in range(400)])
    assert covered >= 0.92  # .95 less 2.75 standard errors of 400 simulations


def test_it_is_hardly_wider_than_a_bootstrap_that_has_enough_items():
    values = np.random.default_rng(0).binomial(5, 0.4, 300) / 5
    bounded, drawn = bounded_mean(values), bootstrap_interval(values)
    assert (bounded.high - bounded.low) == pytest.approx(drawn.high - drawn.low, rel=0.1)


@pytest.mark.parametrize("values", [[], [[0.5]], [1.1], [-0.1], [float("nan")]])
def test_values_outside_are_refused(values):
    with pytest.raises(InvalidRequest):
        bounded_mean(values)


def test_differences_outside_are_refused():
    with pytest.raises(InvalidRequest, match=r"\[-1, 1\], got -1.5 to 0.5"):
        bounded_difference([-1.5, 0.5])
