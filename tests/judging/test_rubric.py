"""Scoring by a rubric: the mean of expected scores over views in which options and criteria change places."""

import math

import pytest

from fairpos import FairModel
from fairpos.backends.base import Reply, Score
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidRequest
from fairpos.judging.rubric import Rubric, score_answers
from fairpos.testing.subjects import RecordingBackend, ToldBackend, wordy_backend

RUBRIC = Rubric(("is right", "is short"), (1, 2, 3))


def by_answer(query, segment):
    """The answer says which score it deserves, else 1; any other is 2 nats less likely for each point off."""
    said = query.partition("Answer: ")[2].split()[0]
    deserved = float(said) if said.isdecimal() else 1.0
    return -2.0 * abs(float(segment.text.partition(":")[0]) - deserved)


def test_the_score_is_the_mean_of_the_views_expected_scores():
    replies = iter(((0.5, 0.25, 0.25), (0.2, 0.2, 0.6), (1.0, 0.0, 0.0)))  # of A, B, C

    def reply(call):
        return Reply(log_probs=tuple(math.log(p) if p else -math.inf for p in next(replies)))

    found = FairModel(ToldBackend(reply)).score("i", "a", RUBRIC)
    # Options as shown: 1 2 3, then 2 3 1, then 3 1 2.
    assert found.expected == pytest.approx((1 * 0.5 + 2 * 0.25 + 3 * 0.25, 2 * 0.2 + 3 * 0.2 + 1 * 0.6, 3.0))
    assert found.score == pytest.approx((1.75 + 1.6 + 3.0) / 3)
    assert found.spread == pytest.approx(0.6276, abs=1e-4)
    assert found.shares == pytest.approx({"1": (0.5 + 0.6) / 3, "2": (0.25 + 0.2) / 3, "3": (0.25 + 0.2 + 1) / 3})
    assert (found.status, found.usage.calls) == ("ok", 3)


def test_every_option_stands_in_every_slot_and_criteria_take_turns():
    recording = RecordingBackend(FakeBackend(quality=by_answer))
    FairModel(recording).score("i", "2", RUBRIC)
    shown = [call.prompt.request for call in recording.asked]
    assert all(isinstance(call, Score) for call in recording.asked)
    for slot in range(3):
        assert {request.ids[slot] for request in shown} == {"1", "2", "3"}
    first = [request.query.index("is right") < request.query.index("is short") for request in shown]
    assert first == [True, False, True]


def test_a_bias_for_slots_and_the_order_given_play_no_part():
    """A slot's bias of 3 nats moves single views, and no more than that."""
    fair = FairModel(FakeBackend(quality=by_answer, slot_bias=(3.0, 0.0, 0.0)))
    low, high = (fair.score("i", answer, RUBRIC) for answer in ("1", "3"))
    assert high.score > low.score + 0.5
    assert high.score + low.score == pytest.approx(4)  # symmetric about the middle
    assert low.spread > 0.3
    assert FairModel(FakeBackend(quality=by_answer)).score("i", "1", RUBRIC).spread == pytest.approx(0)
    turned = Rubric(("is short", "is right"), (3, 1, 2))
    assert fair.score("i", "1", turned) == low


def test_meanings_are_shown_and_travel_with_their_score():
    recording = RecordingBackend(FakeBackend(quality=by_answer))
    found = FairModel(recording).score("i", "2", Rubric(("c",), (2, 1), ("good", "bad")))
    assert [segment.text for segment in recording.asked[0].prompt.request.segments] == ["1: bad", "2: good"]
    assert found.score > 1.5


def test_views_that_fail_are_no_votes():
    fair = FairModel(RecordingBackend(FakeBackend(quality=by_answer), {1}))
    found = fair.score("i", "3", RUBRIC)
    assert (found.status, found.expected[1]) == ("partial", None)
    assert found.score == pytest.approx((found.expected[0] + found.expected[2]) / 2)
    nothing = FairModel(ToldBackend(lambda call: Reply("timeout"))).score("i", "3", RUBRIC)
    assert (nothing.score, nothing.status, nothing.shares) == (None, "timeout", {})


def test_a_verdict_in_words_counts_whole():
    found = FairModel(wordy_backend()).score("i", "3", RUBRIC)
    assert all(value in (1.0, 2.0, 3.0) for value in found.expected)


def test_many_answers_run_together_and_keep_their_order():
    fair = FairModel(FakeBackend(quality=by_answer))
    found = score_answers([("i", "3"), ("i", "1")], RUBRIC, fair.run, views=2)
    assert [round(each.score) for each in found] == [3, 1]
    assert [len(each.outputs) for each in found] == [2, 2]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rubric(()), "needs criteria"),
        (lambda: Rubric((" ",)), "at least 1 character"),
        (lambda: Rubric(("a", "a")), "must differ"),
        (lambda: Rubric(("a",), (1,)), "at least 2 different finite scores"),
        (lambda: Rubric(("a",), (1, 1)), "at least 2 different"),
        (lambda: Rubric(("a",), (1, math.nan)), "finite"),
        (lambda: Rubric(("a",), (1, 2), ("x",)), "got 1 meanings for 2 scores"),
        (lambda: FairModel(FakeBackend()).score("i", "a", RUBRIC, views=0), "views must be at least 1, got 0"),
    ],
)
def test_rubrics_that_are_none_are_refused(make, words):
    with pytest.raises(InvalidRequest, match=words):
        make()
