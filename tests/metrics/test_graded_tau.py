"""Kendall's tau against grades."""

import math
import random

import pytest
from scipy.stats import kendalltau

from fairpos.metrics import graded_tau, kendall_tau


def test_by_hand():
    # grades a 2, b 1, c 0, d 0: five pairs count. a > c > b > d gets all but (b, c) right.
    assert graded_tau("acbd", "abcd", {"a": 2, "b": 1}) == (4 - 1) / 5


def test_unranked_ids_stand_below_and_tie_among_themselves():
    assert graded_tau("c", "abc", {"a": 1}) == -1 / 2  # (a, c) wrong, (a, b) neither
    assert graded_tau("", "abc", {"a": 1}) == 0.0


def test_without_grades_to_tell_apart_it_is_no_number():
    assert math.isnan(graded_tau("ab", "ab", {"a": 1, "b": 1}))


@pytest.mark.parametrize("seed", range(5))
def test_with_a_grade_of_its_own_for_each_it_is_kendalls(seed):
    ids = list("abcdefgh")
    ranking = random.Random(seed).sample(ids, 8)
    grades = {id: 8 - i for i, id in enumerate(ids)}
    tau = graded_tau(ranking, ids, grades)
    assert tau == pytest.approx(kendall_tau(ids, ranking))
    assert tau == pytest.approx(kendalltau([-ranking.index(id) for id in ids], [grades[id] for id in ids]).statistic)
