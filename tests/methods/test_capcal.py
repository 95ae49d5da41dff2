"""The slots' preference is read from a prompt without content and taken off."""

import math

import pytest

from fairpos import FairModel, Segment
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidComposition, InvalidOption
from fairpos.methods.capcal import CapCal
from fairpos.methods.catalogue import parse

BIAS = [1.0, 0.0, -0.5]


def passages(scores):
    return [Segment(id=id, text=f"text of {id}", title="T", score=s) for id, s in zip("abcd", scores, strict=False)]


def softmax(values):
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def test_scores_are_probabilities_less_the_slots_share():
    found = FairModel(FakeBackend(slot_bias=BIAS)).rank("q", passages([0.0, 0.9, 0.5]), "capcal")
    probability, nothing = softmax([1.0, 0.9, 0.0]), softmax(BIAS)
    entropy = -sum(p * math.log(p) for p in nothing)
    alpha = min(5 * entropy / math.log(3), 2)
    expected = [p - alpha * (e - 1 / 3) for p, e in zip(probability, nothing, strict=True)]
    assert found.scores == pytest.approx(dict(zip("abc", expected, strict=True)))
    assert found.ranking == ("b", "c", "a")
    assert found.winner == "b"
    assert found.usage.calls == 2
    assert len(found.views) == 2


def test_the_correction_shrinks_with_the_entropy_of_the_content_free_answer():
    # One slot has all: H is nearly 0, and so is alpha.
    found = FairModel(FakeBackend(slot_bias=[30.0])).rank("q", passages([0.0, 1.0, 2.0]), "capcal")
    assert found.scores == pytest.approx({"a": 1.0, "b": 0.0, "c": 0.0}, abs=1e-6)


def test_without_bias_nothing_changes():
    fair = FairModel(FakeBackend())
    found = fair.rank("q", passages([0.0, 1.0, 2.0]), "capcal")
    assert found.scores == pytest.approx(
        {k: math.exp(v) for k, v in fair.rank("q", passages([0, 1, 2])).scores.items()}
    )
    assert fair.rank("q", passages([0.0]), "capcal").scores == {"a": 1.0}
    off = FairModel(FakeBackend(slot_bias=BIAS)).rank("q", passages([0.0, 1.0]), "capcal:cap=0")
    assert off.scores == pytest.approx(dict(zip("ab", softmax([1.0, 1.0]), strict=True)))


@pytest.mark.parametrize("task", ["judge", "choose"])
def test_it_serves_judging_and_choosing(task):
    fair = FairModel(FakeBackend(slot_bias=[0.6]))
    items = passages([0.0, 0.5])
    ask = getattr(fair, task)
    assert ask("q", items).winner == "a"
    assert ask("q", items, "capcal").winner == "b"


def test_inside_permutation_every_view_is_calibrated():
    fair = FairModel(FakeBackend(slot_bias=BIAS))
    found = fair.rank("q", passages([0.0, 0.9, 0.5]), "permutation:views=3+capcal")
    assert found.usage.calls == 6
    assert found == fair.rank("q", passages([0.0, 0.9, 0.5])[::-1], "permutation:views=3+capcal")


def test_slots_are_matched_where_a_method_inside_sorts_the_segments():
    """An order-free attention inside shows segments by content, placeholders by id: the slot is what counts."""
    fair = FairModel(FakeBackend(slot_bias=BIAS, capabilities=frozenset({"generate", "score", "attention"})))
    items = [Segment(id="a", text="zebra", score=0.0), Segment(id="b", text="ant", score=0.2)]
    found = fair.rank("q", items, "capcal+pine")
    assert found.views[0].order == ("b", "a")
    nothing = softmax(BIAS[:2])
    alpha = min(5 * -sum(p * math.log(p) for p in nothing) / math.log(2), 2)
    probability = softmax([1.2, 0.0])
    assert found.scores == pytest.approx(
        {"b": probability[0] - alpha * (nothing[0] - 0.5), "a": probability[1] - alpha * (nothing[1] - 0.5)}
    )


def test_a_failed_call_gives_no_result():
    class Failing(FakeBackend):
        def run(self, calls):
            return [
                Reply(status="timeout") if "N/A" in call.prompt.text else reply
                for call, reply in zip(calls, super().run(calls), strict=True)
            ]

    found = FairModel(Failing()).rank("q", passages([0.0, 1.0]), "capcal")
    assert (found.status, found.ranking, found.scores) == ("timeout", (), {})
    assert [view.status for view in found.views] == ["ok", "timeout"]


def test_what_is_refused():
    with pytest.raises(InvalidComposition, match="put methods that ask several times outside of it"):
        FairModel(FakeBackend()).rank("q", passages([0.0, 1.0]), "capcal+permutation")
    with pytest.raises(InvalidComposition, match="'capcal' is for choose, judge, rank"):
        FairModel(FakeBackend()).answer("q", passages([0.0, 1.0]), "capcal")
    for spec, words in {
        "capcal:slope=-1": "slope must be at least 0, got -1",
        "capcal:cap=inf": "cap must be at least 0, got inf",
        "capcal:placeholder= ": "placeholder must be some text",
    }.items():
        with pytest.raises(InvalidOption, match=words):
            parse(spec)
    assert CapCal().order_free is False
