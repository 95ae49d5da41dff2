"""Consistency, preference fairness, repetition stability, RStd, Kendall's tau: hand-computed."""

import math

import pytest

from fairpos.errors import InvalidRequest
from fairpos.metrics import (
    consistency,
    flip_rate,
    kendall_tau,
    leaning,
    mean_length_preference,
    mean_pairwise_tau,
    preference_fairness,
    recall_by_label,
    repetition_stability,
    rstd,
    tau_psi,
)


def test_consistency_counts_items_whose_winner_stays():
    items = [("x", "x"), ("x", "y"), (None, None), ("x", None)]
    assert consistency(items) == 2 / 4
    assert flip_rate(items) == 1 - 2 / 4
    assert consistency([("x", "x", "x"), ("x", "x", "y")]) == 1 / 2


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [(v, "consistent") for v in ("AB", "BA", "CC")]
    + [(v, "primacy") for v in ("AA", "AC", "CA")]
    + [(v, "recency") for v in ("BB", "BC", "CB")],
)
def test_leaning_of_all_nine_pairs(verdicts, expected):
    assert leaning(tuple(verdicts)) == expected


def test_preference_fairness():
    pairs = [tuple(v) for v in ("AA", "AC", "BB", "AB", "CC", "CB", "BB", "BB", "BA", "AB")]
    r, p, n = 4, 2, 10
    assert preference_fairness(pairs) == pytest.approx((r * r / (r + p) - p * p / (r + p)) / n)
    assert preference_fairness([("A", "A")] * 7) == -1
    assert preference_fairness([("B", "B")] * 7) == 1
    assert preference_fairness([("A", "B")] * 7) == 0


def test_repetition_stability_is_the_mean_modal_share():
    assert repetition_stability([["A", "A", "B"], ["B"], ["A", "B"]]) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)


def test_rstd_is_the_spread_of_the_recalls_in_points():
    gold = ["A", "A", "B", "B", "B", "B"]
    picked = ["A", "A", "A", "B", None, "A"]  # recall A = 2/2, B = 1/4
    assert recall_by_label(gold, picked) == {"A": 1.0, "B": 0.25}
    centre = (1.0 + 0.25) / 2
    assert rstd(gold, picked) == pytest.approx(100 * math.sqrt(((1.0 - centre) ** 2 + (0.25 - centre) ** 2) / 2))
    assert rstd(["A", "B"], ["A", "A"]) == 50.0


def test_kendall_tau():
    assert kendall_tau("abc", "abc") == 1
    assert kendall_tau("abc", "cba") == -1
    assert kendall_tau("abc", "acb") == (2 - 1) / 3
    assert mean_pairwise_tau(["abc", "acb", "cba"]) == pytest.approx((1 / 3 + -1 + -1 / 3) / 3)
    assert tau_psi(["abc", "acb"]) == pytest.approx((1 - 1 / 3) / 2)
    assert tau_psi(["abc", "abc"]) == 0
    assert tau_psi(["abc", "cba"]) == 1


def test_length_preference():
    assert mean_length_preference([(9, 4), (3, 8), (5, 5), (2, 7)], [0, 1, 0, 0]) == (1 + 1 + 0 - 1) / 4


@pytest.mark.parametrize(
    "bad",
    [
        lambda: consistency([]),
        lambda: consistency([()]),
        lambda: preference_fairness([]),
        lambda: leaning(("A", "D")),
        lambda: repetition_stability([[]]),
        lambda: rstd(["A"], []),
        lambda: kendall_tau("ab", "ac"),
        lambda: kendall_tau("aab", "abb"),
        lambda: kendall_tau("a", "a"),
        lambda: mean_pairwise_tau(["ab"]),
        lambda: mean_length_preference([], []),
    ],
)
def test_bad_input_is_refused(bad):
    with pytest.raises(InvalidRequest):
        bad()
