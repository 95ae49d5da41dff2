"""Views are collected first and run together; what can't work is refused before anything runs."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from fairpos import FairModel, Request, Segment
from fairpos.backends.fake import FakeBackend, by_length
from fairpos.errors import InvalidComposition, UnknownName, UnsupportedBackend
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.outputs import folded
from fairpos.passages import as_segments
from fairpos.rankers.base import find_ranker as ranker
from fairpos.runner import run


@dataclass(frozen=True)
class BothWays(Method):
    """Forward and backward, first output wins."""

    name: ClassVar[str] = "both_ways"
    family: ClassVar[str] = "input"

    def arrange(self, request, backend):
        return [request, request.reordered(range(len(request.segments))[::-1])]

    def combine(self, request, views, outputs):
        return folded(outputs[0], outputs)


@dataclass(frozen=True)
class TwoRounds(Method):
    """Asks again for what won the first round."""

    name: ClassVar[str] = "two_rounds"
    family: ClassVar[str] = "input"

    def steps(self, request, backend):
        [first] = yield [request]
        best = [i for i, s in enumerate(request.segments) if s.id in first.ranking[:2]]
        [second] = yield [replace(request, segments=tuple(request.segments[i] for i in best))]
        return folded(second, [first, second])


class Counting:
    """Counts batches and calls."""

    def __init__(self, backend):
        self.backend, self.batches = backend, []
        self.name, self.capabilities = backend.name, backend.capabilities

    def run(self, calls):
        self.batches.append(len(calls))
        return self.backend.run(calls)


def rank(scores):
    segments = [Segment(id=f"s{i}", text=f"text {i}", score=score) for i, score in enumerate(scores)]
    return Request("rank", "q", as_segments(segments))


def go(requests, methods, backend):
    return run(requests, methods, backend, ranker=ranker("first_token"))


def test_all_views_of_all_requests_meet_in_one_batch():
    backend = Counting(FakeBackend())
    outputs = go([rank([0, 2, 1]), rank([3, 0])], [BothWays(), BothWays()], backend)
    assert backend.batches == [8]
    assert [o.ranking for o in outputs] == [("s1", "s2", "s0"), ("s0", "s1")]
    assert outputs[0].usage.calls == 4
    assert [view.order for view in outputs[1].views] == [("s0", "s1"), ("s1", "s0"), ("s1", "s0"), ("s0", "s1")]


def test_methods_that_work_in_rounds_run_their_rounds_together():
    backend = Counting(FakeBackend())
    outputs = go([rank([0, 2, 1]), rank([3, 0, 5])], [TwoRounds()], backend)
    assert backend.batches == [2, 2]
    assert [o.ranking for o in outputs] == [("s1", "s2"), ("s2", "s0")]
    assert [len(view.order) for view in outputs[0].views] == [3, 2]


def test_progress_counts_requests():
    seen = []
    run(
        [rank([0, 1])] * 3,
        [BothWays()],
        FakeBackend(),
        ranker=ranker("first_token"),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_two_owners_of_the_attention_are_refused_before_anything_runs():
    backend = Counting(FakeBackend())
    with pytest.raises(InvalidComposition, match="pine and set_based each replace the model's attention"):
        go([rank([0, 1])], parse("pine+set_based"), backend)
    assert backend.batches == []


def test_a_capability_that_the_backend_lacks():
    with pytest.raises(UnsupportedBackend, match=r"'pine' needs .* attention .* 'fake' can generate, score"):
        go([rank([0, 1])], parse("pine"), FakeBackend())


def test_a_method_for_other_tasks():
    method = type("OnlyJudge", (BothWays,), {"name": "only_judge", "tasks": frozenset({"judge"})})()
    with pytest.raises(InvalidComposition, match="'only_judge' is for judge; got task 'rank'"):
        go([rank([0, 1])], [method], FakeBackend())


def test_an_unknown_ranker():
    with pytest.raises(UnknownName, match="Did you mean 'first_token'"):
        ranker("first_tokn")


def test_fake_backend_prefers_what_it_was_told_to():
    fair = FairModel(FakeBackend(slot_bias=[5.0]))
    assert fair.judge("q", ["a", "b"]).winner == "1"
    assert fair.judge("q", [Segment(id="x", text="b"), Segment(id="y", text="a")]).winner == "x"
    assert FairModel(FakeBackend(label_bias={"B": 5.0})).choose("q", ["a", "b"]).winner == "2"
    assert FairModel(FakeBackend(quality=by_length)).judge("q", ["a", "bbb", "cc"]).winner == "2"
    assert (
        FairModel(FakeBackend()).answer("q", [Segment(text="no", score=0), Segment(text="yes", score=1)]).text == "yes"
    )


def test_fake_first_with_probability():
    fair = FairModel(FakeBackend(first_with=0.3))
    first = [
        fair.judge(f"q{i}", [Segment(id="a", text="x", score=0.0), Segment(id="b", text="y", score=9.0)]).winner == "a"
        for i in range(600)
    ]
    assert 0.24 < sum(first) / len(first) < 0.36


def test_labels_of_a_list_are_a_token_each_or_closed_where_one_begins_another():
    class Recording(FakeBackend):
        def run(self, calls):
            replies.extend(call.replies for call in calls)
            return super().run(calls)

    replies: list[tuple[str, ...]] = []

    def ranked(count, labels=None):
        go([replace(rank([float(i) for i in range(count)]), labels=labels)], [], Recording())
        return replies[-1]

    assert ranked(9) == tuple("123456789")
    assert ranked(10) == tuple(f" {letter}" for letter in "ABCDEFGHJK")  # a blank is a part of a word's token
    assert ranked(25)[-1] == " Z"
    assert (ranked(26)[0], ranked(26)[-1]) == ("1.", "26.")
    turned = ("11", *(str(number) for number in range(1, 11)))
    assert ranked(11, turned) == tuple(f" {letter}" for letter in "LABCDEFGHJK")  # the letter of a number is the same
    assert ranked(11, tuple("kjihgfedcba")) == tuple(f" {letter}" for letter in "kjihgfedcba")
    assert ranked(11, tuple(f"p{number}" for number in range(1, 12)))[0] == "p1."
