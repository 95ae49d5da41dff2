"""CalibraEval: after the map no label is favoured, whatever monotone thing was done to its probability."""

import math
import random

import numpy as np
import pytest

from fairpos import FairModel, Segment
from fairpos.backends.base import Reply
from fairpos.backends.fake import FakeBackend
from fairpos.errors import NotCalibrated
from fairpos.methods.calibraeval import CalibraEval, log_odds, mapped_log_odds, quantiles
from fairpos.testing.subjects import ToldBackend
from fairpos.types import Request


def pairs(count, seed, options=2):
    draw = random.Random(seed)
    for number in range(count):
        segments = [Segment(id=str(i), text=f"{number} {i}", score=draw.gauss(0, 1.5)) for i in range(options)]
        yield Request("judge" if options == 2 else "choose", f"q{number}", tuple(segments))


def bent(odds):
    """A preference for A that is large where the judge is in doubt and small where it is sure."""
    return odds + 2.0 / (1 + odds**2 / 4)


def bent_judge(call):
    first, second = call.prompt.request.segments
    odds = bent(first.score - second.score)
    both = [-math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))]
    shown = dict(zip("AB", both, strict=True))
    return Reply(log_probs=tuple(shown.get(reply.strip()[:1], -50.0) for reply in call.replies))


def calibrated(fair, requests):
    return CalibraEval().calibrate(list(requests), lambda views: fair.run(views))


def both_orders(fair, request, methods):
    turned = request.reordered([1, 0])
    one, two = fair.run([request], methods=methods)[0], fair.run([turned], methods=methods)[0]
    first = request.ids[0]
    return math.exp(one.scores[first]), math.exp(two.scores[request.ids[1]])


def test_what_a_label_gets_in_both_orders_sums_to_one():
    assert all(bent(x + 0.01) > bent(x) for x in np.arange(-8, 8, 0.01))  # monotone
    fair = FairModel(ToldBackend(bent_judge))
    method = calibrated(fair, pairs(200, 1))
    plain, mapped = [], []
    for request in pairs(60, 2):
        plain.append(abs(sum(both_orders(fair, request, "none")) - 1))
        mapped.append(abs(sum(both_orders(fair, request, [method])) - 1))
    assert np.mean(plain) > 0.3
    assert np.mean(mapped) < 0.02
    assert max(mapped) < 0.1


def test_a_constant_preference_is_taken_off_to_the_bit_of_a_sum():
    fair = FairModel(FakeBackend(slot_bias=(1.25, 0.0)))
    method = calibrated(fair, pairs(40, 1))
    for request in pairs(20, 2):
        [output] = fair.run([request], methods=[method])
        odds = request.segments[0].score - request.segments[1].score
        assert output.scores[request.ids[0]] == pytest.approx(-math.log1p(math.exp(-odds)), abs=1e-6)


def test_without_bias_nothing_changes():
    fair = FairModel(FakeBackend())
    method = calibrated(fair, pairs(40, 1))
    for request in pairs(10, 2):
        [plain], [mapped] = fair.run([request]), fair.run([request], methods=[method])
        assert mapped.scores == pytest.approx(plain.scores, abs=1e-6)
        assert mapped.usage.calls == 1


@pytest.mark.parametrize("options", [2, 4])
def test_verdicts_in_one_call_are_right_more_often_than_plain_ones(options):
    fair = FairModel(FakeBackend(slot_bias=(3.0, 1.0, 0.0, -1.0)[:options], noise=0.3))
    method = calibrated(fair, pairs(60, 1, options))
    asked = list(pairs(150, 2, options))
    best = [max(request.segments, key=lambda segment: segment.score).id for request in asked]
    hits = {
        name: np.mean([o.winner == b for o, b in zip(fair.run(asked, methods=methods), best, strict=True)])
        for name, methods in (("plain", "none"), ("mapped", [method]))
    }
    assert hits["mapped"] > hits["plain"] + 0.08
    assert hits["mapped"] > 0.85


def test_the_map_rises_and_goes_on_beyond_its_ends():
    knots, mean = np.array([-1.0, 0.0, 0.0, 3.0]), np.array([-2.0, -0.5, 0.5, 2.0])
    assert mapped_log_odds(-1.0, knots, mean) == -2.0
    assert mapped_log_odds(0.0, knots, mean) == 0.0  # two quantiles here, their mean
    assert mapped_log_odds(1.5, knots, mean) == 1.0
    assert (mapped_log_odds(-5.0, knots, mean), mapped_log_odds(7.0, knots, mean)) == (-6.0, 6.0)
    points = [mapped_log_odds(x, knots, mean) for x in np.arange(-4, 6, 0.1)]
    assert points == sorted(points)


def test_log_odds_of_a_sure_label_are_finite():
    assert log_odds({"A": 0.0, "B": -math.inf}, "A") == 30.0
    assert log_odds({"A": 0.0, "B": -math.inf}, "B") == -30.0
    assert log_odds({"A": -1e-9, "B": -20.0}, "A") == pytest.approx(20.0, abs=1e-6)
    assert quantiles([3.0, 1.0, 2.0]) == [1.0, 2.0, 3.0]


def test_before_it_has_learned_it_refuses():
    with pytest.raises(NotCalibrated, match="calibraeval has no prior"):
        FairModel(FakeBackend()).run(list(pairs(1, 1)), methods="calibraeval")
