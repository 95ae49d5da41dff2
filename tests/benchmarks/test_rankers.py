"""The benchmark of rankers: its data, and how its table is made."""

from collections import Counter

import pytest

from benchmarks import rankers
from fairpos.methods.catalogue import parse
from fairpos.metrics import wilson_interval
from fairpos.rankers.base import find_ranker as ranker
from fairpos.types import Output, Usage, View


def test_gold_passages_stand_everywhere_equally_often():
    asked = [pair for half in rankers.halves() for pair in half]
    assert len(asked) == 100
    assert len({request.query for request, _ in asked}) == 100
    places = Counter(request.ids.index(gold) for request, gold in asked)
    assert places == dict.fromkeys(range(5), 20)


def test_every_arm_can_be_parsed():
    for methods, name in rankers.ARMS.values():
        parse(methods)
        ranker(name)
    assert rankers.BASELINE in rankers.ARMS


def made(arm, right):
    """Records of an arm: question q is right if q is in `right`; 4 questions."""
    found = []
    for q in range(4):
        ranking = ("gold", "other") if q in right else ("other", "gold")
        views = (View(ranking, "ok"), View(ranking, "partial"))
        output = Output("rank", ranking=ranking, winner=ranking[0], usage=Usage(10, 1, 2), views=views)
        found.append(rankers.record(arm, q, output, "gold", 0.5))
    return found


def test_the_summary_is_paired_with_one_order_and_leaves_out_unfinished_arms():
    other = "pairwise"
    records = made(rankers.BASELINE, {0}) + made(other, {0, 1, 2}) + made("pointwise", {0})[:2]
    rows = {row["arm"]: row for row in rankers.summary(records)}
    assert set(rows) == {rankers.BASELINE, other}
    row = rows[other]
    assert row["accuracy"] == [0.75, *wilson_interval(3, 4)]
    assert row["mrr"][0] == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert row["gain_over_one_order"][0] == pytest.approx(0.5)
    assert rows[rankers.BASELINE]["gain_over_one_order"] == [0.0, 0.0, 0.0]
    assert (row["calls"], row["prompt_tokens"], row["new_tokens"], row["seconds"]) == (2, 10, 1, 0.5)
    assert row["views"] == {"ok": 4, "partial": 4}
    assert "| pairwise | 0.75 (0.30 to 0.95) | +0.50 " in rankers.table(list(rows.values()))
