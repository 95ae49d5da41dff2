"""Swap, crossed labels and calibrations against models whose bias is known."""

import math

import pytest

from fairpos import FairModel, Request, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidComposition, InvalidOption, NotCalibrated, UnsupportedBackend
from fairpos.methods.batch_calibration import BatchCalibration
from fairpos.methods.catalogue import parse
from fairpos.methods.label_prior import calibrated
from fairpos.methods.pride import Pride
from fairpos.methods.swap import Swap
from fairpos.passages import as_segments
from fairpos.rankers.verdict import IN_WORDS, JUDGE_IN_WORDS_WITH_TIES, JUDGE_WITH_TIES
from fairpos.replies.verdict import parse_verdict

NAMES = "xyzw"


def answers(*qualities):
    return [Segment(id=NAMES[i], text=f"answer {i}", score=q) for i, q in enumerate(qualities)]


def request(*qualities, task="judge", query="q"):
    return Request(task, query, as_segments(answers(*qualities)))


def biased(**bias):
    return FairModel(FakeBackend(**bias))


ALWAYS_FIRST = {"slot_bias": [50.0]}
ALWAYS_A = {"label_bias": {"A": 50.0}}


def test_swap_calls_a_disagreement_a_tie():
    always_first = biased(**ALWAYS_FIRST).judge("q", answers(0, 1), "swap")
    assert (always_first.winner, always_first.status) == (None, "ok")
    assert always_first.usage.calls == 2
    assert [view.order for view in always_first.views] == [("x", "y"), ("y", "x")]
    assert biased(slot_bias=[0.5]).judge("q", answers(0, 1), "swap").winner == "y"
    assert biased(slot_bias=[2.0]).judge("q", answers(0, 1), "swap").winner is None


def test_swap_mean_decides_by_what_is_left_when_the_bias_cancels():
    found = biased(slot_bias=[2.0]).judge("q", answers(0, 1), "swap:verdict=mean")
    # margins y - x: 1 - 2 with x first, 1 + 2 with y first
    p = [1 / (1 + math.exp(1)), 1 / (1 + math.exp(-3))]
    assert found.winner == "y"
    assert found.scores["y"] == pytest.approx(math.log(sum(p) / 2))
    assert found.scores["x"] == pytest.approx(math.log(1 - sum(p) / 2))


def test_exactly_equal_candidates_are_a_tie():
    assert biased(slot_bias=[2.0]).judge("q", answers(1, 1), "swap:verdict=mean").winner is None


@pytest.mark.parametrize("methods", ["swap", "swap:verdict=mean", "swap+cross_labels"])
def test_the_input_order_does_not_matter(methods):
    fair = biased(slot_bias=[1.0, 0.3], label_bias={"B": 0.7}, noise=1.0)
    for quality in ((0, 1, 2), (1, 1.1, 0.9)):
        segments = answers(*quality)
        one = fair.judge("q", segments, methods)
        for order in ((1, 0, 2), (2, 1, 0), (1, 2, 0)):
            other = fair.judge("q", [segments[i] for i in order], methods)
            assert (other.winner, other.scores) == (one.winner, one.scores)


def test_three_candidates_are_turned_through_all_rotations():
    found = biased(slot_bias=[0.5]).judge("q", answers(0, 1, 0.2), "swap")
    assert [view.order for view in found.views] == [("x", "y", "z"), ("y", "z", "x"), ("z", "x", "y")]
    assert found.winner == "y"
    assert biased(slot_bias=[1.5]).judge("q", answers(0, 1, 0.2), "swap").winner is None


def test_an_order_without_a_verdict_leaves_none():
    class Silent(FakeBackend):
        def run(self, calls):
            replies = super().run(calls)
            return [r if i else type(r)(status="refused") for i, r in enumerate(replies)]

    for methods in ("swap", "swap:verdict=mean"):
        found = FairModel(Silent()).judge("q", answers(0, 1), methods)
        assert (found.winner, found.status) == (None, "partial")
        assert "1 of 2 orders gave no verdict" in found.notes[0]


def test_swap_does_not_remove_a_label_bias_that_travels_but_crossing_does():
    fair = biased(label_bias={"A": 2.0})
    views = Request("judge", "q", as_segments(answers(0, 1)), labels=("A", "B"))
    assert fair.run([views], "swap")[0].winner == "x"  # x carries the A through both orders
    assert fair.run([views], "swap+cross_labels")[0].winner == "y"
    assert fair.run([views], "cross_labels")[0].winner == "y"


def test_crossing_asks_two_orders_times_two_labelings():
    class Seen(FakeBackend):
        def run(self, calls):
            seen.extend((call.prompt.request.ids, call.prompt.labels) for call in calls)
            return super().run(calls)

    seen = []
    FairModel(Seen()).judge("q", answers(0, 1), "swap+cross_labels")
    assert sorted(seen) == [
        (("x", "y"), ("A", "B")),
        (("x", "y"), ("B", "A")),
        (("y", "x"), ("A", "B")),
        (("y", "x"), ("B", "A")),
    ]


def test_a_model_that_goes_by_the_letter_has_nothing_left_to_say():
    found = biased(**ALWAYS_A).choose("q", answers(1, 1, 1), "cross_labels")
    assert found.winner is None


def test_contextual_takes_off_what_is_said_to_no_content():
    # Without content all qualities are 0, so that the bias alone is left: it cancels exactly.
    fair = biased(slot_bias=[2.0, 0.0, 0.7], label_bias={"C": 1.0})
    found = fair.choose("q", answers(0, 1, 0.5), "contextual")
    assert found.winner == "y"
    assert found.scores["y"] - found.scores["x"] == pytest.approx(1.0)
    assert found.scores["y"] - found.scores["z"] == pytest.approx(0.5)
    assert found.usage.calls == 2


def test_batch_calibration_takes_off_the_mean_of_the_batch():
    fair = biased(slot_bias=[1.0])
    batch = [request(0, 1), request(1, 0)]
    method = BatchCalibration().calibrate(batch, fair.run)
    # p(A): x first with margin 0 - 1 + 1 = 0, then 1 - 0 + 1 = 2
    mean = (0.5 + 1 / (1 + math.exp(-2))) / 2
    [(labels, shares)] = method.prior
    assert labels == ("A", "B")
    assert shares == pytest.approx((mean, 1 - mean))
    found = fair.run(batch, [method])
    assert [output.winner for output in found] == ["y", "x"]
    assert found[0].scores["x"] == pytest.approx(math.log(0.5) - math.log(2 * mean))


def test_pride_recovers_the_prior_over_labels():
    bias = {"A": 1.5, "B": -0.5, "C": 0.2}
    fair = biased(label_bias=bias)
    requests = [request(0, 0.3 * i, 0.1, task="choose", query=f"q{i}") for i in range(40)]
    method = Pride().calibrate(requests, fair.run)
    [(_, shares)] = method.prior
    total = sum(math.exp(b) for b in bias.values())
    assert shares == pytest.approx([math.exp(b) / total for b in bias.values()])
    assert [o.winner for o in fair.run(requests, [method])] == [o.winner for o in biased().run(requests)]


def test_pride_asks_a_share_of_the_requests_in_all_rotations():
    calls = []

    def ask(views):
        calls.extend(views)
        return biased().run(views)

    Pride(share=0.05).calibrate([request(0, 1, 2, query=f"q{i}") for i in range(100)], ask)
    assert len(calls) == 5 * 3
    assert {view.labels for view in calls} == {("A", "B", "C")}
    assert [view.ids for view in calls[:3]] == [("x", "y", "z"), ("y", "z", "x"), ("z", "x", "y")]


def test_sets_of_labels_have_priors_of_their_own():
    fair = biased(label_bias={"A": 1.0})
    requests = [request(0, 1), request(0, 1, 2), request(1, 0)]
    method = Pride(share=1).calibrate(requests, fair.run)
    assert [labels for labels, _ in method.prior] == [("A", "B"), ("A", "B", "C")]


@pytest.mark.parametrize("methods", ["pride", "batch_calibration"])
def test_a_prior_that_is_missing_is_an_error_before_anything_runs(methods):
    with pytest.raises(NotCalibrated, match=f"{methods} has no prior for the labels A B"):
        biased().judge("q", answers(0, 1), methods)


def test_methods_are_calibrated_with_those_inside_of_them():
    fair = biased(slot_bias=[1.0])
    chosen = calibrated(parse("swap+batch_calibration"), [request(0, 1), request(1, 0)], fair.run)
    assert fair.judge("q", answers(0, 1), chosen).winner == "y"
    with pytest.raises(InvalidComposition, match="pride needs one view inside"):
        calibrated(parse("pride+swap"), [request(0, 1)], fair.run)


def test_bad_options():
    with pytest.raises(InvalidOption, match="share must be in"):
        Pride(share=0)
    with pytest.raises(InvalidOption, match="verdict must be one of tie, mean"):
        Swap(verdict="most")
    with pytest.raises(InvalidOption, match=r"has no option .prior.; it has: seed, share"):
        parse("pride:prior=x")


# Ties and verdicts in words


def test_ties_are_allowed_where_the_template_names_them():
    fair = biased(tie_within=0.5)
    assert fair.judge("q", answers(0, 0.3)).winner == "y"
    tied = fair.judge("q", answers(0, 0.3), template=JUDGE_WITH_TIES)
    assert (tied.winner, tied.status, tied.tie) == (None, "ok", 0.0)
    assert fair.judge("q", answers(0, 3), template=JUDGE_WITH_TIES).winner == "y"
    assert fair.judge("q", answers(0, 0.3), "swap:verdict=mean", template=JUDGE_WITH_TIES).winner is None
    assert fair.judge("q", answers(0, 3), "swap", template=JUDGE_WITH_TIES).winner == "y"


@pytest.mark.parametrize("verdicts", ["distribution", "text"])
def test_permutation_calls_a_tie_what_most_views_call_one(verdicts):
    template = JUDGE_WITH_TIES if verdicts == "distribution" else JUDGE_IN_WORDS_WITH_TIES
    # y - x is .3 where x stands first, and 1.3 where y does: one tie, one win.
    fair = biased(slot_bias=[0.5], tie_within=0.5)
    two = fair.judge("q", answers(0, 0.8), "permutation:views=2", template=template, verdicts=verdicts)
    assert two.winner == "y"
    tied = fair.judge("q", answers(0, 0.0), "permutation:views=2", template=template, verdicts=verdicts)
    assert (tied.winner, tied.status) == (None, "ok")
    three = biased(tie_within=2.0, slot_bias=[1.5]).judge(
        "q", answers(0, 0.7, 0.1), "permutation:views=3", template=template, verdicts=verdicts
    )
    assert three.winner is None
    assert three.notes


def test_verdicts_in_words_keep_their_evidence():
    fair = biased(slot_bias=[0.5])
    found = fair.judge("q", answers(0, 1), "swap", verdicts="text")
    assert found.winner == "y"
    assert [view.text for view in found.views] == ["I prefer it. [[B]]", "I prefer it. [[A]]"]
    tied = biased(tie_within=9).judge("q", answers(0, 1), verdicts="text", template=JUDGE_IN_WORDS_WITH_TIES)
    assert (tied.winner, tied.status) == (None, "ok")
    assert biased().choose("q", answers(0, 1)).winner == "y"


def test_a_backend_without_distributions_is_asked_for_words():
    fair = biased(capabilities=frozenset({"generate"}))
    assert fair.judge("q", answers(0, 1)).views[0].text == "I prefer it. [[B]]"
    with pytest.raises(UnsupportedBackend, match="no distribution over labels"):
        fair.judge("q", answers(0, 1), verdicts="distribution")
    with pytest.raises(UnsupportedBackend, match="'contextual' needs a backend that can score"):
        fair.judge("q", answers(0, 1), "contextual")


def test_calibrations_need_the_distribution():
    with pytest.raises(InvalidComposition, match="'contextual' needs the distribution"):
        biased().judge("q", answers(0, 1), "contextual", verdicts="text")


def test_votes_of_verdicts_in_words_are_averaged():
    found = biased(slot_bias=[0.5]).judge("q", answers(0, 1, 0.9), "swap:verdict=mean", verdicts="text")
    # First slot gains .5: x y z -> y, y z x -> y, z x y -> z
    assert found.winner == "y"
    assert found.scores["y"] == pytest.approx(math.log(2 / 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("because ... [[A]]", "A"),
        ("[[A]] so, again: [[ A ]]", "A"),
        ('{"winner": "B", "why": "clear"}', "B"),
        ('Here: ```json\n{"reasons": {"a": 1}, "verdict": "A"}\n```', "A"),
        ("[[C]]", "C"),
        ("A", None),
        ("The answer is A.", None),
        ("[[A]] or [[B]]", None),
        ('[[A]] {"winner": "B"}', None),
        ("[[D]]", None),
        ("[A]", None),
        ("", None),
        ('{"winner": "B"', None),
        ("{" * 2000, None),
    ],
)
def test_parsing_is_strict(text, expected):
    assert parse_verdict(text, ("A", "B"), "C") == expected
    if expected == "C":
        assert parse_verdict(text, ("A", "B")) is None


def test_unparsable_text_is_a_status_not_a_tie():
    class Vague(FakeBackend):
        def run(self, calls):
            return [type(r)(text="Both have merits: [[A]], [[B]]", usage=r.usage) for r in super().run(calls)]

    found = FairModel(Vague()).judge("q", answers(0, 1), verdicts="text")
    assert (found.winner, found.status, found.views[0].text) == (None, "unparsable", "Both have merits: [[A]], [[B]]")


def test_templates_in_words_ask_for_what_is_parsed():
    assert "[[X]]" in IN_WORDS["judge"].question
    assert not IN_WORDS["judge"].ties
    assert JUDGE_IN_WORDS_WITH_TIES.ties
