"""Planted retrievers are told right: where they look, that a blind one is blind, and how often the intervals hold."""

import math

import pytest

from fairpos.audit.retrieval.audit import RetrievalPlan, audit_retriever
from fairpos.audit.retrieval.figures import retriever_figures
from fairpos.relevance.chunks import Chunked
from tests.audit.retrieval.planted import SENTENCES, WORDS, ByPlace, FirstWords, placed, questions


def figures(retriever, items, places=5):
    return retriever_figures("whole", None, placed(retriever, items, places), k=10, buckets=5, resamples=200)


def test_one_that_sees_the_first_words_alone():
    found = audit_retriever(questions(40), FirstWords(50), RetrievalPlan(chunks=(40,)))
    whole, chunked = found.ways
    # Places 1 to 3 have 0, 24 and 48 words before the answer: seen. Else it is level with 12 rivals: the mean over
    # ranks 1 to 13 of nDCG@10.
    level = sum(1 / math.log2(1 + rank) for rank in range(1, 11)) / 13
    assert [each.estimate for each in whole.by_place] == pytest.approx([1, 1, 1, level, level])
    assert whole.is_biased
    assert whole.figures["start_preferred"].estimate == 1
    assert [(each.low, each.items) for each in whole.by_depth] == [(0, 40), (50, 40)]
    assert whole.by_depth[1].against_start.estimate == pytest.approx(level - 1)
    assert "From 50 words before the answer on" in found.advice.place_words
    # A chunk of 40 words lies within the 50 that it sees, wherever the answer stands.
    assert [each.estimate for each in chunked.by_place] == [1] * 5
    assert not chunked.is_biased
    assert (found.advice.verdict, found.advice.words) == ("use chunks", 40)


def test_one_that_is_blind_to_the_place():
    """Noisy, and often wrong, but alike everywhere: cleared in 95 of 100 audits, and 0 is in the interval."""
    cleared = held = unleaning = 0
    for seed in range(100):
        found = figures(ByPlace(0.6, 0.6, seed), questions(30, seed))
        assert 0 < found.figures["moved_ndcg"].estimate < 1
        cleared += not found.is_biased
        held += found.figures["start_minus_end"].holds(0)
        unleaning += found.figures["start_preferred"].holds(0)
    assert cleared >= 95
    assert held >= 88  # of 95 but for 1 in 500 bad draws
    assert unleaning >= 88


def test_one_that_favours_the_end():
    found = audit_retriever(questions(60), ByPlace(0.2, 0.9), RetrievalPlan(chunks=()))
    assert found.whole.is_biased
    assert found.whole.figures["start_minus_end"].below_zero
    assert found.whole.figures["start_preferred"].below_zero
    assert "at the end" in found.advice.place_words
    assert "less well than at the start" not in found.advice.place_words
    assert found.advice.verdict == "undecided"  # the place counts, and nothing was tried


@pytest.mark.parametrize(("start", "end"), [(0.9, 0.4), (0.3, 0.8)])
def test_intervals_hold_the_true_difference(start, end):
    """95 % intervals hold the true value in 95 of 100 audits: at least 88 but for 1 in 500 bad draws."""
    difference = mean = last = 0
    for seed in range(100):
        found = figures(ByPlace(start, end, seed), questions(30, seed))
        difference += found.figures["start_minus_end"].holds(start - end)
        mean += found.figures["moved_ndcg"].holds((start + end) / 2)
        last += found.by_place[-1].holds(end)
    assert min(difference, mean, last) >= 88


def test_by_words_before_the_answer_intervals_hold_the_true_mean():
    """50 to 99 words before it: the places after 60, 72, 84 and 96 of 96 words, each with a chance of its own."""
    true = sum(0.9 - 0.5 * words / (SENTENCES * WORDS) for words in (60, 72, 84, 96)) / 4
    held = 0
    for seed in range(100):
        found = figures(ByPlace(0.9, 0.4, seed), questions(30, seed), places=9)
        held += found.by_depth[1].ndcg.holds(true)
    assert held >= 88


def test_where_answers_stand_as_they_are_is_sorted_into_buckets_without_a_finding():
    items = questions(200)
    found = figures(ByPlace(1.0, 0.0), items)
    assert [bucket.low for bucket in found.by_span] == [0, 0.2, 0.4, 0.6, 0.8]
    assert sum(bucket.items for bucket in found.by_span) == 200
    means = [bucket.ndcg.estimate for bucket in found.by_span]
    assert means == sorted(means, reverse=True)
    assert found.tests["span"].p < 0.01
    blind = [figures(ByPlace(0.6, 0.6, seed), questions(40, seed)).tests["span"].p for seed in range(50)]
    assert sum(p < 0.1 for p in blind) <= 12  # 5 are to be expected


def test_chunks_of_a_blind_retriever_change_nothing():
    items = questions(20)
    assert [each.moved for each in placed(Chunked(FirstWords(1000), 30), items)] == [
        each.moved for each in placed(FirstWords(1000), items)
    ]
