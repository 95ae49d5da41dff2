"""Expected values are visible arithmetic."""

import math

import pytest

from fairpos.aggregate import borda, majority, mean_log_prob, rank_centrality, rrf, win_rate
from fairpos.errors import InvalidOption, InvalidRequest


def test_rrf_adds_reciprocal_ranks():
    found = rrf([[1, 2, 0], [0, 1, 2]], 3)
    assert found.scores == (1 / (60 + 3) + 1 / (60 + 1), 1 / (60 + 1) + 1 / (60 + 2), 1 / (60 + 2) + 1 / (60 + 3))
    assert found.order == (1, 0, 2)


def test_rrf_puts_items_left_out_on_the_middle_rank_of_the_bottom_or_nowhere():
    # Ranks 2, 3 and 4 are left: their middle is 3.
    assert rrf([[2]], 4).scores == (1 / (60 + 3), 1 / (60 + 3), 1 / (60 + 1), 1 / (60 + 3))
    assert rrf([[2]], 4, unranked="ignore").scores == (0.0, 0.0, 1 / (60 + 1), 0.0)
    assert rrf([[0, 1]], 2, k=0).scores == (1 / 1, 1 / 2)


def test_borda_counts_items_below():
    found = borda([[1, 2, 0], [0, 1, 2]], 3)
    assert found.scores == ((0 + 2) / 2, (2 + 1) / 2, (1 + 0) / 2)
    assert found.order == (1, 0, 2)


def test_borda_shares_the_points_of_items_left_out():
    # 3 points for the first; the other three share 2 + 1 + 0.
    assert borda([[2]], 4).scores == (1.0, 1.0, 3.0, 1.0)
    # One item alone is compared with nothing: half of all points for everyone.
    assert borda([[2]], 4, unranked="ignore").scores == (1.5, 1.5, 1.5, 1.5)
    assert borda([[2, 0]], 4, unranked="ignore").scores == (0 + 2 / 2, 3 / 2, 1 + 2 / 2, 3 / 2)


def test_majority_counts_first_places_and_breaks_ties_by_borda():
    found = majority([[0, 1, 2], [2, 1, 0], [0, 1, 2], [2, 0, 1]], 3)
    assert found.scores == (2 / 4, 0 / 4, 2 / 4)
    assert found.order == (0, 2, 1)  # 5 points against 4
    assert majority([[1], [], []], 2).scores == (0.0, 1 / 3)


def test_mean_log_prob():
    found = mean_log_prob([[-1.0, -2.0, -3.0], [-3.0, -1.0, -3.0]], 3)
    assert found.scores == ((-1 - 3) / 2, (-2 - 1) / 2, (-3 - 3) / 2)
    assert found.order == (1, 0, 2)
    assert mean_log_prob([[-1.0, -math.inf], [-5.0, 0.0]], 2).order == (0, 1)


@pytest.mark.parametrize("aggregate", [borda, rrf, majority])
def test_equal_items_keep_their_numbers_order(aggregate):
    assert aggregate([[0, 1, 2], [2, 1, 0]], 3, unranked="ignore").order in {(0, 1, 2), (0, 2, 1)}
    assert aggregate([[]], 3).order == (0, 1, 2)


def test_the_win_rate_is_a_share_of_the_comparisons_that_took_place():
    """0 beat 1 and 2, 1 beat 2 and lost to 0 and tied with 3; nobody met 4."""
    found = win_rate([[0, 1, 2], [[1, 3]]], 5)
    assert found.scores == (1.0, (1 + 0.5) / 3, 0.0, 0.5, 0.5)
    assert found.places == ((0,), (1, 3, 4), (2,))
    assert win_rate([[2]], 3, unranked="last").scores == (0.25, 0.25, 1.0)


def test_rank_centrality_is_the_stationary_share_of_the_walk_to_winners():
    """Two items, three wins to one: with half a win more each, the shares are 3.5 / 5 and 1.5 / 5."""
    found = rank_centrality([[0, 1]] * 3 + [[1, 0]], 2)
    assert found.scores == pytest.approx((0.7, 0.3))
    # 1 and 2 beat one item each, but 1 beat the one who beats all others.
    found = rank_centrality([[1, 0], [0, 3], [0, 4], [0, 5], [2, 5]], 6)
    assert win_rate([[1, 0], [0, 3], [0, 4], [0, 5], [2, 5]], 6).places[0] == (1, 2)
    assert found.order[0] == 1
    assert rank_centrality([[0, 1], [1, 2], [2, 0]], 3).places == ((0, 1, 2),)


@pytest.mark.parametrize("aggregate", [borda, rrf, majority, win_rate, rank_centrality])
def test_bad_rankings_are_refused(aggregate):
    with pytest.raises(InvalidRequest, match="item 0 twice"):
        aggregate([[0, 0]], 2)
    with pytest.raises(InvalidRequest, match="numbered 0 to 1"):
        aggregate([[2]], 2)
    with pytest.raises(InvalidOption, match="last, ignore"):
        aggregate([[1]], 2, unranked="middle")


def test_bad_options_and_distributions_are_refused():
    with pytest.raises(InvalidOption, match="k must be at least 0, got -1"):
        rrf([[0]], 1, k=-1)
    with pytest.raises(InvalidRequest, match="no views"):
        mean_log_prob([], 2)
    with pytest.raises(InvalidRequest, match="view 2 has 1 log-probabilities; there are 2 items"):
        mean_log_prob([[-1.0, -1.0], [0.0]], 2)
    with pytest.raises(InvalidRequest, match="NaN or infinite"):
        mean_log_prob([[math.nan, 0.0]], 2)
