"""Routing: the surer answer is kept, whatever the order; where nothing says how sure an answer is, it is refused."""

import math
from dataclasses import replace

import pytest

from fairpos import Segment
from fairpos.backends.base import Decoding, Generate, Reply, Score
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidComposition, InvalidOption, NotCalibrated, UnknownName, UnsupportedBackend
from fairpos.methods.catalogue import parse
from fairpos.methods.placements import Placements
from fairpos.methods.route import Route, RoutedCase, best_margin
from fairpos.model import FairModel
from fairpos.rankers.verdict import JUDGE_WITH_TIES
from fairpos.testing.subjects import SEGMENTS, RecordingBackend, ToldBackend, all_orders, request_for, wordy_backend
from fairpos.testing.tiny import tiny_backend
from fairpos.types import Usage

OPTIONS = [Segment(id="a", text="a", score=0.0), Segment(id="b", text="b", score=1.0)]
# The second slot is preferred by 3 nats: plainly b (score 1, second in canonical order) leads by 4 nats, and over both
# orders, where the slots cancel out, by 1.
BIASED = FakeBackend(slot_bias=(0.0, 3.0))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean_share(one: float, other: float) -> float:
    """Of the better of two candidates whose log-probabilities are averaged over two orders with leads of so much."""
    good, bad = (math.exp((math.log(sigmoid(a)) + math.log(sigmoid(b))) / 2) for a, b in ((one, other), (-one, -other)))
    return good / (good + bad)


@pytest.mark.parametrize(
    ("margin", "kept"), [(-0.26, "permutation"), (-0.24, "the plain model"), (0, "the plain model")]
)
def test_the_order_free_answer_is_kept_where_it_is_as_sure_as_plain_and_margin(margin, kept):
    plain, other = sigmoid(4), mean_share(4, -2)
    assert other == pytest.approx(sigmoid(1))
    assert plain - other == pytest.approx(0.251, abs=1e-3)
    output = FairModel(BIASED).choose("q", OPTIONS, Route("permutation:views=2", margin))
    assert (
        f"route: the answer of {kept}; confidence {plain:.3f} plain, {other:.3f} with permutation" in output.notes[-1]
    )
    assert output.confidence == pytest.approx(plain if kept == "the plain model" else other)
    assert output.scores["b"] == pytest.approx(math.log(plain) if margin > -0.25 else output.scores["a"] + 1)
    assert (output.usage.calls, len(output.views)) == (3, 3)


def test_a_tie_that_is_likelier_than_any_candidate_is_what_the_answer_says():
    told = ToldBackend(lambda call: Reply(log_probs=tuple(map(math.log, (0.3, 0.1, 0.6)))))
    output = FairModel(told).judge("q", OPTIONS, Route("permutation:views=2"), template=JUDGE_WITH_TIES)
    assert (output.winner, output.confidence) == (None, pytest.approx(0.6))


def test_every_input_order_gives_the_same():
    for task in ("rank", "judge", "choose"):
        found = [
            FairModel(FakeBackend(slot_bias=(2, 0, 0, 1), noise=0.5)).run([view], "route:inner=permutation:views=4")[0]
            for view in all_orders(request_for(task))
        ]
        assert all(each == found[0] for each in found)


def texts(confidences: dict[str, float]) -> ToldBackend:
    """A model that can be told apart by its attention's name: it writes that, with this probability a token."""

    def reply(call):
        name = call.attend.name if call.attend else "plain"
        if isinstance(call, Generate):
            return Reply(text=f" by {name}", usage=Usage(10, 2, calls=1))
        assert call.replies == (f" by {name}",)
        return Reply(log_probs=(2 * math.log(confidences[name]),), tokens=(2,), usage=Usage(12, 0, calls=1))

    return ToldBackend(reply, frozenset({"generate", "score", "attention"}))


@pytest.mark.parametrize(
    ("margin", "plain", "kept"), [(0.1, 0.5, "by placements"), (0.1, 0.75, "by plain"), (-0.1, 0.75, "by placements")]
)
def test_a_text_is_as_sure_as_its_tokens_are_in_the_geometric_mean(margin, plain, kept):
    output = FairModel(texts({"plain": plain, "placements": 0.7})).answer("q", SEGMENTS, Route(margin=margin))
    assert output.text == kept
    assert output.confidence == pytest.approx(0.7 if kept == "by placements" else plain)
    assert output.usage == Usage(44, 4, calls=4)


def test_the_one_answer_that_could_be_scored_is_kept_and_none_is_said():
    def failing(call):
        failed = call.attend is not None if isinstance(call, Score) else False
        return Reply(status="timeout", detail="late") if failed else texts({"plain": 0.1}).reply(call)

    told = ToldBackend(failing, frozenset({"generate", "score", "attention"}))
    output = FairModel(told).answer("q", SEGMENTS, "route:margin=-1")
    assert output.text == "by plain"
    assert "only one of the two answers has a confidence" in output.notes[-1]


def test_on_a_real_model_the_confidence_is_that_of_the_text_it_wrote():
    fair = FairModel(tiny_backend())
    plain = fair.run([request_for("answer").canonical()], [], decoding=Decoding(max_new_tokens=5))[0]
    routed = fair.run([request_for("answer")], "route:margin=1", decoding=Decoding(max_new_tokens=5))[0]
    assert routed.text == plain.text
    assert 0 < routed.confidence < 1
    [shuffled] = fair.run(
        [request_for("answer").reordered((2, 0, 3, 1))], "route:margin=1", decoding=Decoding(max_new_tokens=5)
    )
    assert shuffled == routed


# --- Options and refusals


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("route:inner=none", InvalidOption, "inner must be one order-free method other than route, got 'none'"),
        ("route:inner=string", InvalidOption, "one order-free method"),
        ("route:inner=route", InvalidOption, "other than route"),
        ("route:inner=pin", UnknownName, "Did you mean 'pine'"),
        ("route:inner=placements:views=0", InvalidOption, r"placements: views must be in \[1, 200\], got 0"),
        ("route:margin=1.5", InvalidOption, r"margin must be in \[-1, 1\], got 1.5"),
    ],
)
def test_what_is_inside_is_checked_when_it_is_named(spec, error, words):
    with pytest.raises(error, match=words):
        parse(spec)


def test_options_of_the_inner_method_are_separated_by_semicolons():
    [found] = parse("route:inner=placements:views=5;bases=2,margin=.1")
    assert found.inner_methods == (Placements(views=5, bases=2),)
    assert found.margin == 0.1
    assert Route(Placements(views=5, bases=2), 0.1).inner_methods == found.inner_methods


@pytest.mark.parametrize(
    ("spec", "task", "ranker", "error", "words"),
    [
        ("route:inner=permutation", "rank", "pairwise", InvalidComposition, "'pairwise' gives none"),
        ("route:inner=permutation", "rank", "pointwise", InvalidComposition, "one distribution over all segments"),
        ("route:inner=permutation", "answer", "first_token", UnsupportedBackend, "every token of an answer"),
        ("route", "choose", "first_token", UnsupportedBackend, "'placements' needs a backend that can attention"),
        ("route:inner=pine+set_based", "choose", "first_token", InvalidComposition, "pine and set_based each replace"),
    ],
)
def test_what_has_no_confidence_is_refused_before_anything_is_asked(spec, task, ranker, error, words):
    recording = RecordingBackend(BIASED)
    with pytest.raises(error, match=words):
        FairModel(recording).run([request_for(task)], spec, ranker=ranker)
    assert not recording.asked


def test_verdicts_in_words_and_texts_by_vote_are_refused():
    with pytest.raises(UnsupportedBackend, match="needs a backend that can score"):
        FairModel(wordy_backend()).judge("q", OPTIONS, "route:inner=permutation")
    local = replace(BIASED, capabilities=frozenset({"generate", "score", "attention"}))
    with pytest.raises(InvalidComposition, match="makes a text of several"):
        FairModel(local).answer("q", OPTIONS, "route:inner=permutation")


def test_scores_that_are_no_log_probabilities_are_refused():
    with pytest.raises(InvalidComposition, match="needs log-probabilities from permutation"):
        FairModel(BIASED).rank("q", OPTIONS, "route:inner=permutation:aggregation=borda")


def test_a_vote_around_a_route_is_refused_for_texts():
    fair = FairModel(tiny_backend())
    with pytest.raises(InvalidComposition, match="put no route inside of it"):
        fair.answer("q", SEGMENTS, "permutation:views=2+route", max_new_tokens=2)


# --- Calibration


@pytest.mark.parametrize(
    ("cases", "margin"),
    [
        ([RoutedCase(-0.2, False, True), RoutedCase(0.3, False, True)], -1.0),
        ([RoutedCase(-0.2, True, False), RoutedCase(0.3, False, True)], 0.05),
        ([RoutedCase(0.1, True, False), RoutedCase(0.3, False, True)], 0.2),
        ([RoutedCase(0.1, True, False), RoutedCase(0.3, True, False)], 1.0),
        ([RoutedCase(-0.1, True, True), RoutedCase(0.1, True, True)], 0.0),
    ],
)
def test_the_best_margin_lies_between_leads(cases, margin):
    assert best_margin(cases) == pytest.approx(margin)


def test_calibration_finds_where_the_plain_answer_is_not_that_of_the_vote():
    """The second slot wins plainly by 3 nats less what the first is better by; the vote knows."""
    requests = [
        replace(
            request_for("choose"), segments=(Segment(id="x", text="x", score=by), Segment(id="y", text="y", score=0.0))
        )
        for by in (0.5, 1.0, 1.5, 2.0)
    ]
    fair = FairModel(BIASED)
    found = Route("permutation:views=2").calibrate(requests, fair.run, views=2)
    assert [output.winner for output in fair.run(requests, [])] == ["y"] * 4
    assert [output.winner for output in fair.run(requests, [found])] == ["x"] * 4
    assert found.margin < -0.3
    with pytest.raises(NotCalibrated, match="none of 1 requests"):
        Route("permutation:views=2").calibrate(
            [replace(requests[0], segments=(OPTIONS[0], replace(OPTIONS[0], id="z")))], FairModel(FakeBackend()).run
        )
