"""Long lists by plans: the best are found, whatever the input order, in few windows; what failed is said."""

import pytest

from fairpos import FairModel, Request, Segment
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidComposition, InvalidOption
from fairpos.methods.catalogue import parse
from fairpos.testing.subjects import RecordingBackend, ToldBackend
from tests.methods.test_windows import BY_TEXT, best, passages


def slots(slot: int, count: int) -> float:
    """The first slot of any window is preferred by 3 nats."""
    return 3.0 if slot == 0 else 0.0


@pytest.mark.parametrize(("spec", "windows", "rounds"), [("blitz", 7, 7), ("joint:replicates=4", 20, 1)])
def test_the_best_of_a_hundred(spec, windows, rounds):
    found = FairModel(FakeBackend(quality=BY_TEXT)).rank("q", passages(100), spec)
    assert found.notes[0].endswith(f": {windows} windows, {rounds} rounds")
    assert found.usage.calls == len(found.views) == windows
    assert sorted(found.ranking) == sorted(best(100))
    if spec == "blitz":
        assert found.ranking[:10] == best(10)
        assert found.winner == "p0"
    else:
        assert len(set(found.ranking[:10]) & set(best(20))) >= 9


@pytest.mark.parametrize("spec", ["blitz+permutation:views=3", "joint:aggregation=rank_centrality+permutation:views=3"])
def test_with_views_inside_the_input_order_plays_no_part(spec):
    fair = FairModel(FakeBackend(quality=BY_TEXT, slot_bias=slots, noise=0.5))
    first, second = (fair.rank("q", passages(30, seed), spec) for seed in (1, 1))
    shuffled = fair.rank("q", list(reversed(passages(30, 1))), spec)
    assert first == second
    assert (first.ranking, first.ties) == (shuffled.ranking, shuffled.ties)


@pytest.mark.parametrize("spec", ["blitz:size=5", "joint:size=5,replicates=6"])
def test_views_inside_take_the_bias_off(spec):
    """Plainly every window stays as it is shown; over as many views as segments nobody is favoured."""
    fair = FairModel(FakeBackend(quality=BY_TEXT, slot_bias=lambda slot, count: -30.0 * slot))
    plain, fairer = (fair.rank("q", passages(20), each) for each in (spec, f"{spec}+permutation:views=5"))
    right = [len(set(found.ranking[:5]) & set(best(5))) for found in (plain, fairer)]
    assert right[0] < 4 <= right[1]


def test_a_retrievers_scores_decide_what_meets_first_and_input_keeps_the_order():
    scored = passages(10, scores=True)
    fair = FairModel(FakeBackend(quality=BY_TEXT))
    assert fair.rank("q", scored, "blitz:size=4").views[0].order == best(4)
    given = tuple(segment.id for segment in scored[:4])
    assert fair.rank("q", scored, "blitz:size=4,start=input").views[0].order == given


def test_indifference_is_a_tie_and_no_winner():
    flat = [Segment(id=id, text=id) for id in "abcdefg"]
    found = FairModel(FakeBackend()).rank("q", flat, "blitz:size=3")
    assert (found.winner, found.ties) == (None, (tuple("abcdefg"),))


def test_a_window_that_fails_is_said_and_others_make_up_for_it():
    fair = FairModel(RecordingBackend(FakeBackend(quality=BY_TEXT), {1}))
    found = fair.rank("q", passages(30), "blitz:size=6,top=3")
    assert found.ranking[:3] == best(3)
    assert found.status == "ok"
    assert any("windows gave no ranking: " in note for note in found.notes)


def test_nothing_at_all_is_no_ranking():
    told = ToldBackend(lambda call: Reply(status="timeout"))
    for spec in ("blitz", "joint"):
        found = FairModel(told).rank("q", passages(30), spec)
        assert (found.status, found.ranking, found.winner) == ("timeout", (), None)


def test_labels_travel_with_their_segments():
    request = Request("rank", "q", tuple(passages(6)), labels=tuple(f"L{i}" for i in range(6)))
    label_of = dict(zip(request.ids, request.labels, strict=True))
    recording = RecordingBackend(FakeBackend(quality=BY_TEXT))
    FairModel(recording).run([request], "blitz:size=3")
    for call in recording.asked:
        shown = call.prompt.request
        assert shown.labels == tuple(label_of[id] for id in shown.ids)


def test_options_out_of_range_and_other_tasks_are_refused():
    with pytest.raises(InvalidOption, match="size must be at least 2, got 1"):
        parse("blitz:size=1")
    with pytest.raises(InvalidOption, match="replicates must be at least 1, got 0"):
        parse("joint:replicates=0")
    with pytest.raises(InvalidComposition, match="method 'joint' is for rank"):
        FairModel(FakeBackend()).choose("q", ["a", "b"], "joint")
