"""Calls that repeat are made once; other texts are not remembered; failures are tried again."""

from dataclasses import replace

import pytest

from fairpos import Request
from fairpos.backends.base import Decoding, Generate, Live, Reply, Score
from fairpos.backends.fake import FakeBackend
from fairpos.backends.once import OnceBackend
from fairpos.errors import UnsupportedBackend
from fairpos.passages import as_segments
from fairpos.prompts import render


class Counted(FakeBackend):
    def run(self, calls):
        asked.extend(calls)
        return super().run(calls)


asked: list = []


def score(query="q"):
    return Score(render(Request("judge", query, as_segments(["a", "b"]))), (" A", " B"))


def test_equal_calls_are_one_call_and_count_as_cached():
    asked.clear()
    once = OnceBackend(Counted(slot_bias=[1.0]))
    first = once.run([score(), score("other"), score()])
    # As if alone: what depends on a batch is no function of the call.
    assert asked == [replace(score(), batch_invariant=True), replace(score("other"), batch_invariant=True)]
    assert [reply.usage.calls for reply in first] == [1, 1, 0]
    assert [reply.usage.cached for reply in first] == [0, 0, 1]
    assert first[0].log_probs == first[2].log_probs != ()
    before = once.seconds
    [again] = once.run([score()])
    assert len(asked) == 2
    assert again.log_probs == first[0].log_probs
    assert (again.usage.calls, again.usage.cached) == (0, 1)
    assert once.seconds > before  # what it would have cost


def test_texts_are_asked_for_anew_and_stay_in_their_places():
    asked.clear()
    once = OnceBackend(Counted())
    text = Generate(score().prompt)
    replies = once.run([text, score(), text, score()])
    assert len(asked) == 3
    assert [bool(reply.text) for reply in replies] == [True, False, True, False]
    once.run([text])
    assert len(asked) == 4


def test_greedy_texts_that_no_batch_changes_are_remembered_of_a_local_model():
    asked.clear()
    once = OnceBackend(Counted(capabilities=frozenset({"attention", "generate"})))
    alone = Generate(score().prompt, batch_invariant=True)
    first, again = once.run([alone, alone])
    assert asked == [alone]
    assert first.text == again.text != ""
    assert (first.usage.cached, again.usage.cached) == (0, 1)
    for other in (
        Generate(score().prompt),  # may depend on its batch
        replace(alone, decoding=Decoding(temperature=1.0, seed=3)),
        replace(alone, decoding=Decoding(live=Live(print, bool))),
    ):
        asked.clear()
        once.run([other])
        once.run([other])
        assert len(asked) == 2


def test_an_endpoint_promises_nothing_of_the_kind():
    asked.clear()
    once = OnceBackend(Counted(capabilities=frozenset({"generate"})))
    once.run([Generate(score().prompt, batch_invariant=True)] * 2)
    assert len(asked) == 2


def test_a_failure_is_not_remembered():
    class Failing(FakeBackend):
        def run(self, calls):
            asked.extend(calls)
            return [Reply(status="timeout") for _ in calls]

    asked.clear()
    once = OnceBackend(Failing())
    assert [reply.status for reply in once.run([score(), score()])] == ["timeout", "timeout"]
    once.run([score()])
    assert len(asked) == 2


def test_attention_is_read_with_all_that_the_reader_takes():
    """The backend itself has `replies`; whoever stands before it hands them on."""
    prompts, replies = [score().prompt, score("other").prompt], [" A", " B"]
    expected = FakeBackend().read_attention(prompts, replies=replies)
    found = OnceBackend(FakeBackend(capabilities=frozenset({"attention", "score"}))).read_attention(
        prompts, replies=replies, heads=[0], last_only=True
    )
    assert [reading.log_prob for reading in found] == [reading.log_prob for reading in expected]
    assert None not in [reading.log_prob for reading in found]


def test_a_backend_without_attention_is_refused_behind_a_memory_too():
    with pytest.raises(UnsupportedBackend, match="reading attention needs a local model"):
        OnceBackend(FakeBackend()).read_attention([score().prompt])
