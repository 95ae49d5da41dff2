"""nDCG and reciprocal rank: visible arithmetic."""

from math import log2

import pytest

from fairpos.errors import InvalidRequest
from fairpos.metrics import average_precision, graded_tau, mrr, ndcg, recall, reciprocal_rank, trec_order


def test_ndcg():
    relevance = {"a": 3.0, "b": 1.0}
    ideal = 3 / log2(2) + 1 / log2(3)
    assert ndcg("xbay", relevance) == pytest.approx((1 / log2(3) + 3 / log2(4)) / ideal)
    assert ndcg("ab", relevance) == 1
    assert ndcg("xba", relevance, k=2) == pytest.approx((1 / log2(3)) / ideal)
    assert ndcg("xba", relevance, k=1) == 0
    assert ndcg("xy", {}) == 0
    assert ndcg("ab", {"a": -3.0, "b": 1.0}) == 1 / log2(3)  # a grade below 0 counts 0


def test_reciprocal_rank():
    assert reciprocal_rank("xya", {"a"}) == 1 / 3
    assert reciprocal_rank("xy", {"a"}) == 0
    assert mrr(["ax", "xya"], [{"a"}, {"a", "z"}]) == (1 + 1 / 3) / 2


def test_average_precision_and_recall():
    assert average_precision("axbyc", {"a", "b", "z"}) == (1 / 1 + 2 / 3) / 3
    assert average_precision("ab", set()) == 0
    assert recall("axb", {"a", "b", "z", "w"}, k=2) == 1 / 4
    assert recall("axb", {"a", "b", "z", "w"}) == 2 / 4
    assert recall("ab", set()) == 0


def test_the_order_of_trec_eval():
    assert trec_order({"d1": 0.5, "d2": 0.5, "d10": 0.5, "a": 0.6}) == ("a", "d2", "d10", "d1")
    assert trec_order({"a": 1.00000001, "b": 1.0}) == ("b", "a")  # equal in single precision
    assert trec_order({"a": 1e300, "b": -1e300, "é": 0.0, "z": 0.0}) == ("a", "é", "z", "b")


def test_tied_ids_are_neither_concordant_nor_discordant():
    grades = {"a": 2.0, "b": 1.0}
    assert graded_tau("abc", "abc", grades) == 1
    assert graded_tau("abc", "abc", grades, ties=["ab"]) == 2 / 3
    assert graded_tau("abc", "abc", grades, ties=["abc"]) == 0
    assert graded_tau("abc", "abcde", grades, ties=["bc"]) == (2 + 4 + 0) / 7


@pytest.mark.parametrize(
    "bad", [lambda: ndcg("a", {}, k=0), lambda: recall("a", {"a"}, k=0), lambda: mrr([], []), lambda: mrr(["a"], [])]
)
def test_bad_input_is_refused(bad):
    with pytest.raises(InvalidRequest):
        bad()
