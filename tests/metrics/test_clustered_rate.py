"""Without clusters it is Wilson's interval with Student's quantile; with them it is as wide as they are few."""

import numpy as np
import pytest

from fairpos.errors import InvalidRequest
from fairpos.metrics import clustered_rate, wilson_interval


def test_alone_it_is_wilson():
    found = clustered_rate([1] * 700 + [0] * 300, [1] * 1000)
    assert (found.low, found.high) == pytest.approx(wilson_interval(700, 1000), abs=2e-4)


def test_clusters_that_agree_count_once():
    together = clustered_rate([8] * 70 + [0] * 30, [8] * 100)
    alone = clustered_rate([1] * 70 + [0] * 30, [1] * 100)
    assert together == alone


@pytest.mark.parametrize(("rate", "agree"), [(0.5, 0.0), (0.9, 0.3), (0.9, 0.7), (0.95, 0.5), (0.97, 0.5)])
def test_clusters_of_eight_are_held(rate, agree):
    # Each observation is its cluster's with this probability, else one of its own. 600 draws: ±.01 in a standard error.
    draw = np.random.default_rng(2)
    own, shared = draw.random((600, 40, 8)) < rate, draw.random((600, 40, 1)) < rate
    points = np.where(draw.random((600, 40, 8)) < agree, shared, own).sum(axis=-1)
    assert 0.91 <= np.mean([clustered_rate(won, [8] * 40).holds(rate) for won in points]) <= 0.99


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_is_certain_at_the_ends(share):
    found = clustered_rate([share] * 120, [1] * 120)
    assert found.estimate == share
    assert found.high - found.low == pytest.approx(0.03, abs=0.005)  # 3 / 120, the rule of three


def test_ties_alone_have_a_width():
    found = clustered_rate([0.5] * 120, [1] * 120)
    assert 0.1 < found.high - found.low < 0.2


def test_one_cluster_says_nothing():
    assert (clustered_rate([3], [4]).low, clustered_rate([3], [4]).high) == (0.0, 1.0)
    for points, sizes in (([], []), ([2], [1]), ([0], [0]), ([1, 1], [1])):
        with pytest.raises(InvalidRequest):
            clustered_rate(points, sizes)
