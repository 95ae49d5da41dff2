"""nDCG and reciprocal rank: visible arithmetic."""

from math import log2

import pytest

from fairpos.errors import InvalidRequest
from fairpos.metrics import mrr, ndcg, reciprocal_rank


def test_ndcg():
    relevance = {"a": 3.0, "b": 1.0}
    ideal = 3 / log2(2) + 1 / log2(3)
    assert ndcg("xbay", relevance) == pytest.approx((1 / log2(3) + 3 / log2(4)) / ideal)
    assert ndcg("ab", relevance) == 1
    assert ndcg("xba", relevance, k=2) == pytest.approx((1 / log2(3)) / ideal)
    assert ndcg("xba", relevance, k=1) == 0
    assert ndcg("xy", {}) == 0


def test_reciprocal_rank():
    assert reciprocal_rank("xya", {"a"}) == 1 / 3
    assert reciprocal_rank("xy", {"a"}) == 0
    assert mrr(["ax", "xya"], [{"a"}, {"a", "z"}]) == (1 + 1 / 3) / 2


@pytest.mark.parametrize(
    "bad", [lambda: ndcg("a", {}, k=0), lambda: ndcg("a", {"a": -1}), lambda: mrr([], []), lambda: mrr(["a"], [])]
)
def test_bad_input_is_refused(bad):
    with pytest.raises(InvalidRequest):
        bad()
