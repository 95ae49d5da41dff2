"""Rankers that ask about a few at a time: setwise by a heap, and a tournament."""

import pytest

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.testing.subjects import RecordingBackend
from tests.methods.test_windows import BY_TEXT, best, passages


def slots(slot: int, count: int) -> float:
    """The first slot of any group is preferred by 9 nats."""
    return 9.0 if slot == 0 else 0.0


def test_setwise_finds_the_best_ten_of_a_hundred_and_ties_the_rest():
    found = FairModel(FakeBackend(quality=BY_TEXT)).rank("q", passages(100), ranker="setwise:views=1")
    assert found.ranking[:10] == best(10)
    assert [len(group) for group in found.groups] == [1] * 10 + [90]
    assert found.usage.calls == len(found.views) < 45
    assert found.notes[0].startswith(f"{found.usage.calls} calls, ")


def test_a_tournament_keeps_the_better_halves():
    found = FairModel(FakeBackend(quality=BY_TEXT)).rank("q", passages(100), ranker="tournament:size=20,views=1")
    assert found.winner == "p0"
    assert len(set(found.ranking[:10]) & set(best(12))) == 10
    assert found.notes == ("22 calls, 4 rounds",)
    assert sorted(found.ranking) == sorted(best(100))


@pytest.mark.parametrize("ranker", ["setwise:size=4,views=4", "tournament:size=4,views=4"])
def test_as_many_views_as_segments_take_the_slots_off_and_the_order_plays_no_part(ranker):
    fair = FairModel(FakeBackend(quality=BY_TEXT, slot_bias=slots))
    found = [fair.rank("q", shown, ranker=ranker) for shown in (passages(12), list(reversed(passages(12))))]
    assert found[0].winner == "p0"
    assert found[0] == found[1]
    assert fair.rank("q", passages(12), ranker=ranker.replace("views=4", "views=1")).ranking[:2] != best(2)


@pytest.mark.parametrize("ranker", ["setwise:size=4,views=1", "tournament:size=4,views=1"])
def test_a_group_that_fails_makes_the_ranking_partial_and_loses_nobody_else(ranker):
    fair = FairModel(RecordingBackend(FakeBackend(quality=BY_TEXT), {1}))
    found = fair.rank("q", passages(12), ranker=ranker)
    assert found.status == "partial"
    assert len(found.ranking) == len(set(found.ranking)) >= 8
