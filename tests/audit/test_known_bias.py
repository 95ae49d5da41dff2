"""The audit recovers what fakes were told to do, and finds nothing where there is nothing."""

import random

import pytest

from fairpos import Request, Segment
from fairpos.audit.runs import Plan, run_trials
from fairpos.audit.statistics import figures_of
from fairpos.audit.tasks import TASKS
from fairpos.backends.fake import FakeBackend, by_length
from fairpos.files.items import Item

JUDGE = TASKS["judge"]


def pairs(count, seed=0, gap=1.0):
    """Pairs whose better answer is one of either id, with scores `gap` apart and lengths at random."""
    draw = random.Random(seed)
    items = []
    for i in range(count):
        gold = draw.choice("AB")
        segments = tuple(
            Segment(id=id, text=f"{id} " + "x" * draw.randrange(5, 80), score=gap if id == gold else 0.0) for id in "AB"
        )
        items.append(Item(f"i{i}", Request("judge", f"q{seed}-{i}", segments), gold))
    return items


def audited(backend, items, methods=("none",), **options):
    trials = run_trials(backend, JUDGE, items, methods, Plan(cross=True), batch=50)
    found = [figures_of(method, trials, items, **{"resamples": 400, **options}) for method in methods]
    return found[0] if len(methods) == 1 else found


def test_always_first():
    found = audited(FakeBackend(slot_bias=[50.0]), pairs(60))
    assert found.figures["position_effect"].holds(1.0)
    assert found.figures["label_effect"].holds(0.0)
    assert found.figures["consistency"].estimate == 0
    assert found.figures["preference_fairness"].holds(-1.0)
    assert found.slot_shares == [1.0, 0.0]
    assert found.biases == ["position"]
    assert found.flip_matrix[0][1] == 60  # gold wins when it is first, and loses when it is second


def test_always_label_a():
    found = audited(FakeBackend(label_bias={"A": 50.0}), pairs(60))
    assert found.figures["label_effect"].holds(1.0)
    assert found.figures["position_effect"].holds(0.0)
    assert found.label_shares == [1.0, 0.0]
    assert found.biases == ["label"]
    # The usual swap can't tell: labels stand in slots, so that it looks like "always first".
    assert found.figures["preference_fairness"].holds(-1.0)


def test_longest_wins():
    found = audited(FakeBackend(quality=by_length), pairs(200))
    assert found.figures["length_preference"].low > 0.9  # some pairs are equally long
    assert found.figures["length_preference_beyond_gold"].above_zero
    assert found.figures["position_effect"].holds(0.0)
    assert found.figures["label_effect"].holds(0.0)
    assert found.biases == []
    assert found.figures["consistency"].estimate > 0.9


def test_first_with_probability():
    """95 % intervals hold the true value in 95 of 100 audits: at least 88 but for 1 in 500 bad draws."""
    held, p = 0, 0.3
    for seed in range(100):
        found = audited(FakeBackend(first_with=p, seed=seed), pairs(40, seed), resamples=300)
        held += found.figures["position_effect"].holds(p)
    assert held >= 88


def test_in_nats_the_effects_are_what_was_added():
    found = audited(FakeBackend(slot_bias=[0.8], label_bias={"A": -0.3}), pairs(30))
    # Half of what moving from one to the other adds: the bias is of one slot, one label.
    assert found.figures["position_effect_nats"].estimate == pytest.approx(0.8)
    assert found.figures["label_effect_nats"].estimate == pytest.approx(-0.3)


def test_an_unbiased_judge_is_cleared_in_95_of_100_audits():
    """Noisy and often inconsistent, but without a preference for a slot or a label."""
    cleared = 0
    for seed in range(100):
        found = audited(FakeBackend(noise=1.0, seed=seed), pairs(40, seed), resamples=400)
        assert found.figures["consistency"].estimate < 1
        cleared += found.biases == []
    assert cleared >= 95


def test_a_small_bias_is_found_with_enough_items():
    found = audited(FakeBackend(first_with=0.25, noise=1.0), pairs(300))
    assert "position" in found.biases
    assert found.figures["position_effect"].holds(0.25)


def test_methods_are_seen_to_remove_the_bias():
    items = pairs(80)
    plain, swapped, crossed = audited(
        FakeBackend(slot_bias=[3.0], label_bias={"B": 0.5}),
        items,
        ("none", "swap:verdict=mean", "swap:verdict=mean+cross_labels"),
    )
    assert plain.figures["consistency"].estimate == 0
    assert "position" in plain.biases
    for found in (swapped, crossed):
        assert found.figures["consistency"].estimate == 1
        assert found.figures["accuracy"].estimate == 1
        assert found.biases == []
    assert (plain.cost.calls, swapped.cost.calls, crossed.cost.calls) == (1, 2, 4)


@pytest.mark.parametrize("seed", range(4))
def test_planted_position_and_label_effects_are_found_within_their_intervals(seed):
    """Position .60 nats, label .25 nats, 120 pairs, noise on every reply."""
    backend = FakeBackend(slot_bias=[0.6], label_bias={"A": 0.25}, noise=0.5, seed=seed)
    found = audited(backend, pairs(120, seed), resamples=1000)
    assert found.figures["position_effect_nats"].holds(0.6)
    assert found.figures["label_effect_nats"].holds(0.25)
    assert "position" in found.biases
