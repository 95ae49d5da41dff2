"""Designs are permutations, repeat with their seed, and keep their laws."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos.errors import InvalidOption
from fairpos.orders.designs import all_orders, cyclic, latin, random_orders, spread

DESIGNS = [cyclic, random_orders, latin]


@pytest.mark.parametrize("design", DESIGNS)
@given(k=st.integers(1, 12), views=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_designs_are_permutations_and_repeat(design, k, views, seed):
    orders = design(k, views, seed)
    assert len(orders) == views
    assert all(sorted(order) == list(range(k)) for order in orders)
    assert design(k, views, seed) == orders


@pytest.mark.parametrize("design", [cyclic, latin])
@given(k=st.integers(1, 12), cycles=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_whole_cycles_show_every_item_equally_often_in_every_slot(design, k, cycles, seed):
    orders = design(k, cycles * k, seed)
    for slot in range(k):
        assert sorted(order[slot] for order in orders) == sorted(list(range(k)) * cycles)


def test_the_full_cycle_is_one_order_turned_and_never_reversed():
    orders = cyclic(5, 5, 1)
    assert orders == [orders[0][v:] + orders[0][:v] for v in range(5)]


def test_fewer_views_are_equally_spaced_and_from_4_up_every_other_runs_backwards():
    base = cyclic(20, 1, 7)[0]
    assert cyclic(20, 2, 7) == [base, base[10:] + base[:10]]
    assert cyclic(20, 3, 7) == [base, base[6:] + base[:6], base[13:] + base[:13]]
    assert cyclic(20, 4, 7) == [base, (base[5:] + base[:5])[::-1], base[10:] + base[:10], (base[15:] + base[:15])[::-1]]


def test_a_second_cycle_runs_backwards():
    orders = cyclic(6, 12, 0)
    assert orders[6:] == [order[::-1] for order in orders[:6]]
    assert len(set(orders)) == 12


@pytest.mark.parametrize("design", DESIGNS)
def test_seeds_differ(design):
    assert len({tuple(design(8, 3, seed)) for seed in range(20)}) > 15


def test_random_orders_are_uniform():
    orders = random_orders(3, 6000, 0)
    for order in itertools.permutations(range(3)):
        assert 900 < orders.count(order) < 1100


def test_all_orders():
    orders = all_orders(4)
    assert len(orders) == len(set(orders)) == math.factorial(4)
    with pytest.raises(InvalidOption, match=r"1 to 6 items .*got 7 items"):
        all_orders(7)


@given(st.integers(1, 40))
def test_spread_visits_each_view_once(views):
    assert sorted(spread(views)) == list(range(views))


def test_every_beginning_of_spread_is_spread():
    assert spread(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert spread(5) == [0, 4, 2, 1, 3]


@pytest.mark.parametrize("design", DESIGNS)
def test_no_items_or_no_views_are_refused(design):
    with pytest.raises(InvalidOption, match="got 0 items and 3 views"):
        design(0, 3, 0)
    with pytest.raises(InvalidOption, match="got 3 items and 0 views"):
        design(3, 0, 0)
