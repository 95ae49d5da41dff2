"""Bootstrap, sample sizes, Wilson: hand-computed, repeatable, and covering what they should."""

import math

import numpy as np
import pytest

from fairpos.errors import InvalidRequest
from fairpos.metrics import bootstrap_interval, difference_interval, gap, group_gap_test, items_needed, wilson_interval


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_a_mean_is_near_its_normal_interval():
    values = np.random.default_rng(1).normal(2.0, 1.0, size=400)
    found = bootstrap_interval(values, resamples=8000)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert found.estimate == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_blocks_give_what_one_block_gives(monkeypatch):
    table = np.random.default_rng(1).random((20, 3))
    whole = bootstrap_interval(table, gap, resamples=500)
    monkeypatch.setattr("fairpos.metrics.bootstrap._CELLS", 600)
    assert bootstrap_interval(table, gap, resamples=500) == whole


def test_paired_differences_lose_what_items_have_in_common():
    draw = np.random.default_rng(2)
    item = draw.normal(size=100) * 10
    a, b = item + 0.5, item + draw.normal(size=100) * 0.1
    found = difference_interval(a, b)
    assert found.above_zero
    assert not found.below_zero
    assert found.holds(0.5)
    assert found.high - found.low < 0.1  # unpaired: about 5


def test_items_needed():
    differences = [1.0, 0.0, 0.0, 0.0]  # mean 1/4, variance 3/16 * 4/3 = 1/4
    z = 1.959963984540054 + 0.8416212335729143
    assert items_needed(differences) == math.ceil((z * 0.5 / 0.25) ** 2)
    assert items_needed([1.0, -1.0]) is None
    assert items_needed([0.0, 0.0]) is None
    assert items_needed([0.5, 0.5, 0.5]) == 2


def test_as_many_items_as_said_do_decide():
    draw = np.random.default_rng(5)
    n = items_needed(np.repeat([-1.0, 0.0, 1.0], [200, 400, 400]))
    decided = sum(
        bootstrap_interval(draw.choice([-1.0, 0.0, 1.0], p=[0.2, 0.4, 0.4], size=n), resamples=400).above_zero
        for _ in range(200)
    )
    assert 0.7 < decided / 200 < 0.9  # power .8


def test_wilson_interval():
    # 8 of 10, z = 2: centre (.8 + 4/20) / (1 + 4/10), half 2 / 1.4 * sqrt(.16/10 + 4/400)
    low, high = wilson_interval(8, 10, z=2)
    assert (low + high) / 2 == pytest.approx((0.8 + 0.2) / 1.4)
    assert (high - low) / 2 == pytest.approx(2 / 1.4 * math.sqrt(0.016 + 0.01))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: bootstrap_interval([]),
        lambda: bootstrap_interval([1.0], level=1.0),
        lambda: bootstrap_interval([1.0], resamples=0),
        lambda: difference_interval([1.0], [1.0, 2.0]),
        lambda: items_needed([1.0]),
        lambda: items_needed([1.0, 2.0], power=1.0),
    ],
)
def test_bad_input_is_refused(bad):
    with pytest.raises(InvalidRequest):
        bad()


def test_groups_of_items_are_told_apart_by_more_than_chance_alone():
    scores, groups = [1.0] * 10 + [0.0] * 10, [3] * 10 + [7] * 10
    found = group_gap_test(scores, groups)
    assert found.gap == 1
    assert found.p < 0.01
    assert group_gap_test([0.5] * 20, groups).p == 1
    assert group_gap_test(scores, [0] * 20).gap == 0
    draw = np.random.default_rng(0)
    drawn = [group_gap_test(draw.random(40), draw.integers(5, size=40), permutations=99).p for _ in range(200)]
    assert sum(p <= 0.1 for p in drawn) <= 33  # 20 are to be expected, 33 are 3 standard deviations more


@pytest.mark.parametrize(("scores", "groups"), [([], []), ([1.0], [0, 1]), ([[1.0]], [[0]])])
def test_a_group_for_every_score(scores, groups):
    with pytest.raises(InvalidRequest, match="a score and a group of each"):
        group_gap_test(scores, groups)
