"""Orders by the judgements, and which places win in random ones: against hands and brute force."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from fairpos.audit.first_stage.audit import OrderPlan
from fairpos.audit.first_stage.orders import ListItem, is_random, lists_that_matter, order_names
from fairpos.audit.first_stage.preference import bucket_preferences
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.ranking.items import RankItem
from fairpos.types import Request, Segment


def one(grades, ids="abcd"):
    segments = tuple(Segment(id=id, text=f"text {id}") for id in ids)
    return ListItem(RankItem("q", Request("rank", "query", segments)), grades)


def shown(item, name, seed=0):
    return "".join(item.ids[place] for place in item.order(name, seed))


def test_best_and_worst_first():
    item = one({"a": 0.0, "b": 2.0, "d": 2.0, "x": 3.0})
    assert shown(item, "given") == "abcd"
    assert shown(item, "best") == "bdac"  # what isn't judged has 0; equals stay in the order that they came in
    assert shown(item, "worst") == "cadb"
    assert shown(one({"a": -1.0, "b": 0.0, "c": 1.0}), "best") == "cabd"  # below 0 counts 0


def test_random_orders_repeat_and_are_even():
    item = one({"a": 1.0})
    assert order_names(2) == ["given", "best", "worst", "random 1", "random 2"]
    assert [is_random(name) for name in order_names(1)] == [False, False, False, True]
    drawn = Counter(shown(item, f"random {number}") for number in range(2400))
    assert len(drawn) == 24
    assert max(drawn.values()) < 150  # 100 are to be expected
    assert shown(item, "random 1") == shown(item, "random 1")
    assert any(shown(item, f"random {i}") != shown(item, f"random {i}", seed=1) for i in range(5))


def test_an_order_is_shown_under_its_own_id_with_the_same_passages():
    found = one({"b": 1.0}).shown_in("best", 0, "key")
    assert (found.id, found.request.ids) == ("key", ("b", "a", "c", "d"))


def test_queries_on_which_no_order_can_matter_are_left_out_with_the_reason():
    good = one({"a": 1.0}).item
    items = [
        good,
        RankItem("unjudged", good.request),
        RankItem("equal", good.request),
        RankItem("absent", good.request),
        RankItem("hidden", None, ("a",), "has no text among the queries"),
    ]
    qrels = {"q": {"a": 1.0}, "equal": dict.fromkeys("abcd", 1.0), "absent": {"x": 1.0}, "hidden": {"a": 1.0}}
    found, left_out = lists_that_matter(items, qrels)
    assert [each.item.id for each in found] == ["q"]
    assert left_out == {"it isn't judged": 1, "all its passages have one grade": 2, "nothing of it can be shown": 1}


def brute_force(ids, groups, buckets):
    """Pair by pair."""
    rank = {id: number for number, group in enumerate(groups) for id in group}
    size = len(ids)
    part = [place * buckets // size for place in range(size)]
    won = [[] for _ in range(buckets)]
    for i, j in itertools.permutations(range(size), 2):
        if part[i] != part[j]:
            first, second = rank.get(ids[i], 99), rank.get(ids[j], 99)
            won[part[i]].append(1.0 if first < second else 0.5 if first == second else 0.0)
    return [sum(each) / len(each) for each in won]


def test_preferences_are_counted_pair_by_pair():
    draw = random.Random(0)
    for _ in range(50):
        ids = [f"d{i}" for i in range(draw.randint(2, 12))]
        ranked = draw.sample(ids, draw.randint(0, len(ids)))
        groups = []
        while ranked:
            size = draw.randint(1, 3)
            groups.append(tuple(ranked[:size]))
            ranked = ranked[size:]
        buckets = draw.randint(2, len(ids))
        expected = brute_force(ids, tuple(groups), buckets)
        assert bucket_preferences(ids, tuple(groups), buckets) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("buckets", [0, 1, 5])
def test_there_are_as_many_parts_as_passages_at_most(buckets):
    with pytest.raises(InvalidRequest, match="2 to the 4 passages"):
        bucket_preferences("abcd", (("a",),), buckets)


@pytest.mark.parametrize("change", [{"draws": 0}, {"k": 0}, {"buckets": 1}])
def test_what_a_plan_may_be(change):
    with pytest.raises(InvalidOption, match="must be at least"):
        OrderPlan(**change)
