"""Long lists by windows: what is best rises, requests run together, and the input order doesn't matter."""

import random

import pytest

from fairpos import FairModel, Request, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidComposition, InvalidOption
from fairpos.methods.catalogue import parse
from fairpos.runner import run
from tests.methods.test_permutation import Scripted

BY_TEXT = lambda query, segment: -float(segment.text.split()[-1])  # noqa: E731  "passage 3" is the fourth best


def passages(n, seed=0, scores=False):
    items = [
        Segment(
            id=f"p{i}",
            text=f"{random.Random(f'{seed}{i}').random():.8f} passage {i}",
            score=-float(i) if scores else None,
        )
        for i in range(n)
    ]
    random.Random(seed).shuffle(items)
    return items


class Counting(FakeBackend):
    def run(self, calls):
        batches.append(len(calls))
        return super().run(calls)


batches: list[int] = []


@pytest.fixture(autouse=True)
def _fresh():
    batches.clear()


def best(n):
    return tuple(f"p{i}" for i in range(n))


def test_sliding_windows_bring_the_best_to_the_front():
    fair = FairModel(Counting(quality=BY_TEXT))
    found = fair.rank("q", passages(100), "windows")
    assert found.ranking[:10] == best(10)
    assert sorted(found.ranking) == sorted(best(100))
    assert found.winner == "p0"
    assert batches == [1] * 9  # 80-100, 70-90, ..., 0-20
    assert [len(view.order) for view in found.views] == [20] * 9


def test_a_list_that_fits_is_one_window():
    fair = FairModel(Counting(quality=BY_TEXT))
    for kind in ("sliding", "disjoint"):
        assert fair.rank("q", passages(20), f"windows:kind={kind}").ranking == best(20)
    assert fair.rank("q", passages(1), "windows").ranking == ("p0",)
    assert batches == [1, 1, 1]


@pytest.mark.parametrize("n", [21, 25, 39, 41])
def test_odd_lengths_lose_nothing(n):
    fair = FairModel(FakeBackend(quality=BY_TEXT))
    for spec in (
        "windows:size=20,stride=10",
        "windows:size=4,stride=3,kind=disjoint",
        "windows:size=20,stride=19,kind=disjoint",
    ):
        found = fair.rank("q", passages(n), spec)
        assert sorted(found.ranking) == sorted(best(n))
        assert found.ranking[0] == "p0"


@pytest.mark.parametrize("size", [2, 3, 5])
def test_disjoint_windows_come_to_an_end(size):
    fair = FairModel(FakeBackend(quality=BY_TEXT))
    for stride in range(1, size):
        found = fair.rank("q", passages(23), f"windows:kind=disjoint,size={size},stride={stride}")
        assert sorted(found.ranking) == sorted(best(23))
        assert found.winner == "p0"


def test_disjoint_windows_are_asked_at_once_and_their_best_meet():
    fair = FairModel(Counting(quality=BY_TEXT))
    found = fair.rank("q", passages(100), "windows:kind=disjoint,size=20,stride=4")
    assert batches == [5, 1]
    assert found.ranking[:4] == best(4)
    # With good scores to begin with, every window gets its share of the best.
    batches.clear()
    found = fair.rank("q", passages(100, scores=True), "windows:kind=disjoint,size=20,stride=4")
    assert found.ranking[:20] == best(20)


def test_a_top_round_asks_once_more():
    fair = FairModel(Counting(quality=BY_TEXT))
    found = fair.rank("q", passages(30), "windows:size=10,stride=5,top=7")
    assert len(found.views) == 5 + 1
    assert len(found.views[-1].order) == 7
    assert found.ranking[:5] == best(5)


def test_requests_run_together_and_their_own_windows_one_after_the_other():
    fair = FairModel(Counting(quality=BY_TEXT))
    requests = [Request("rank", "q", tuple(passages(n, seed=n))) for n in (100, 50, 20)]
    outputs = fair.run(requests, "windows+permutation:views=5")
    assert batches == [15, 10, 10, 10, 5, 5, 5, 5, 5]
    assert [output.ranking[:10] for output in outputs] == [best(10)] * 3
    assert outputs[0].usage.calls == 9 * 5


@pytest.mark.parametrize("kind", ["sliding", "disjoint"])
@pytest.mark.parametrize("scores", [False, True])
def test_the_input_order_doesnt_matter_with_permutation_inside(kind, scores):
    fair = FairModel(FakeBackend(quality=BY_TEXT, slot_bias=[30.0, 5.0, 0.0, 3.0], noise=4.0))
    items = passages(30, scores=scores)
    spec = f"windows:size=10,stride=5,kind={kind},top=4+permutation:views=3"
    first = fair.rank("q", items, spec)
    assert fair.rank("q", items[::-1], spec) == first
    assert fair.rank("q", items[::-1], spec.replace("top=4", "top=4,start=input")) != first


def test_segments_without_scores_start_below_those_with():
    items = [Segment(id=f"p{i}", text=f"t {i}", score=float(i) if i % 2 else None) for i in range(6)]
    ranker = Scripted(["refused"])
    [output] = run([Request("rank", "q", tuple(items))], parse("windows:start=scores"), FakeBackend(), ranker=ranker)
    assert ranker.seen == [("p5", "p3", "p1", "p0", "p2", "p4")]
    assert (output.status, output.ranking) == ("refused", ())


def test_a_window_without_a_ranking_changes_nothing():
    items = [Segment(id=f"p{i}", text=f"t {i}", score=-float(i)) for i in range(6)]
    ranker = Scripted(["timeout", ["p3"], ["p1", "p0"]])
    [output] = run([Request("rank", "q", tuple(items))], parse("windows:size=2,stride=2"), FakeBackend(), ranker=ranker)
    assert ranker.seen == [("p4", "p5"), ("p2", "p3"), ("p0", "p1")]
    assert (output.ranking, output.status) == (("p1", "p0", "p3"), "partial")
    assert output.notes == (
        "1 of 3 windows gave no ranking and changed nothing: timeout",
        "3 of 6 segments were ranked by no window, and are unranked",
    )


def test_what_no_window_ranked_is_unranked():
    items = [Segment(id=f"p{i}", text=f"t {i}", score=-float(i)) for i in range(4)]
    [output] = run([Request("rank", "q", tuple(items))], parse("windows"), FakeBackend(), ranker=Scripted([["p2"]]))
    assert (output.ranking, output.status) == (("p2",), "partial")


def test_what_a_later_window_leaves_out_keeps_its_place_behind_those_it_ranks():
    items = [Segment(id=f"p{i}", text=f"t {i}", score=-float(i)) for i in range(4)]
    ranker = Scripted([["p3", "p2", "p1"], ["p0"]])
    [output] = run([Request("rank", "q", tuple(items))], parse("windows:size=3,stride=2"), FakeBackend(), ranker=ranker)
    assert ranker.seen == [("p1", "p2", "p3"), ("p0", "p3", "p2")]
    assert (output.ranking, output.status) == (("p0", "p3", "p2", "p1"), "ok")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("windows:size=1", "size must be at least 2, got 1"),
        ("windows:stride=0", "stride must be at least 1, got 0"),
        ("windows:size=5", "stride must be 1 to 5"),
        ("windows:size=5,stride=5,kind=disjoint", "stride must be 1 to 4 with disjoint windows of 5"),
        ("windows:top=21", r"top must be 0 \(off\) or 2 to size \(20\), got 21"),
        ("windows:kind=round", "kind must be one of sliding, disjoint"),
        ("windows:start=bm25", "start must be one of auto, scores, canonical, input"),
    ],
)
def test_what_is_refused(spec, words):
    with pytest.raises(InvalidOption, match=words):
        parse(spec)


def test_it_ranks_and_does_nothing_else():
    with pytest.raises(InvalidComposition, match="'windows' is for rank"):
        FairModel(FakeBackend()).judge("q", ["a", "b"], "windows")
