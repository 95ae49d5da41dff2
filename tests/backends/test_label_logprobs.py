"""Labels read from listed alternatives: what is known is exact, what isn't is a bound and says so."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos.backends.completion import TokenLogprob
from fairpos.backends.label_logprobs import label_log_probs
from fairpos.errors import InvalidRequest


def token(text, **top):
    """A token and the alternatives beside it, as probabilities; `_` stands for a space."""
    listed = {name.replace("_", " "): p for name, p in top.items()}
    return tokens_of(text, listed)


def tokens_of(text, listed):
    ranked = sorted(((t, math.log(p)) for t, p in listed.items()), key=lambda pair: -pair[1])
    return TokenLogprob(text, math.log(listed.get(text, 1.0)), tuple(ranked))


def read(tokens, labels):
    found = label_log_probs(tokens, labels)
    return [round(math.exp(p), 9) for p in found.log_probs], list(found.bounded)


def test_single_tokens_with_and_without_a_space_and_capitals_add_up():
    tokens = [token("yes", yes=0.5, _yes=0.1, Yes=0.2, no=0.15)]
    assert read(tokens, ("yes", "no")) == ([0.8, 0.15], [False, False])


def test_labels_that_differ_by_capitals_alone_are_told_apart():
    assert read([token("a", a=0.5, A=0.3)], ("A", "a")) == ([0.3, 0.5], [False, False])


def test_an_unlisted_label_has_at_most_the_least_listed_or_what_is_left():
    assert read([token("A", A=0.7, B=0.2)], ("A", "B", "C")) == ([0.7, 0.2, 0.1], [False, False, True])
    assert read([token("A", A=0.7, B=0.01)], ("A", "B", "C")) == ([0.7, 0.01, 0.01], [False, False, True])


def test_a_bracket_before_the_label_is_skipped():
    assert read([token("[", A=0.2), token("B", A=0.3, B=0.6)], ("A", "B")) == ([0.3, 0.6], [False, False])


def test_a_label_and_its_closing_bracket_as_one_token():
    assert read([tokens_of("1]", {"1]": 0.6, "10]": 0.3})], ("1", "10")) == ([0.6, 0.3], [False, False])


def test_numbers_that_are_tokens_of_their_own_are_taken_whole():
    tokens = [tokens_of("10", {"10": 0.5, "1": 0.3, "2": 0.1})]
    assert read(tokens, ("1", "2", "10")) == ([0.3, 0.1, 0.5], [False, False, False])


def test_spelled_numbers_are_told_apart_on_the_path_of_the_reply():
    tokens = [tokens_of("1", {"1": 0.6, "2": 0.3}), tokens_of("0", {"0": 0.7, "1": 0.1, "]": 0.15, "\n": 0.05})]
    found, bounded = read(tokens, ("1", "2", "10", "11"))
    assert found == [0.12, 0.3, 0.42, 0.06]
    assert bounded == [False] * 4


def test_spelled_numbers_off_the_path_share_a_bound():
    tokens = [tokens_of("2", {"2": 0.6, "1": 0.3}), tokens_of("]", {"]": 1.0})]
    found, bounded = read(tokens, ("1", "2", "10"))
    assert found == [0.3, 0.6, 0.3]
    assert bounded == [True, False, True]


def test_a_beginning_that_only_one_label_has_is_that_label():
    assert read([tokens_of("al", {"al": 0.6, "be": 0.3})], ("alpha", "beta")) == ([0.6, 0.3], [False, False])


def test_words_that_are_no_labels_leave_nothing_to_read():
    assert label_log_probs([token("I", I=0.9, We=0.1)], ("A", "B")) is None
    assert label_log_probs([], ("A", "B")) is None
    assert label_log_probs([TokenLogprob("A", -0.1)], ("A", "B")) is None
    # "1" is no more than a beginning that two labels share: nothing is known for sure.
    assert label_log_probs([tokens_of("1", {"1": 0.9})], ("1", "10")) is None


def test_a_number_that_no_label_begins_is_dropped():
    assert read([tokens_of("7", {"7": 0.5, "2": 0.4})], ("1", "2"))[0] == [0.1, 0.4]


@pytest.mark.parametrize("labels", [(), ("A", "A"), ("",), ("A-1",)])
def test_bad_labels_are_refused(labels):
    with pytest.raises(InvalidRequest, match="labels must be"):
        label_log_probs([token("A", A=0.9)], labels)


@given(
    masses=st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=12),
    count=st.integers(1, 12),
    kept=st.integers(1, 12),
)
def test_bounds_hold_and_the_rest_is_exact(masses, count, kept):
    """Whole-number tokens with any probabilities, of which only the best `kept` are listed."""
    total = sum(masses)
    truth = {str(i + 1): mass / total for i, mass in enumerate(masses)}
    listed = dict(sorted(truth.items(), key=lambda pair: -pair[1])[:kept])
    labels = [name for name in truth if int(name) <= max(2, count)][:9]  # one digit: nothing is spelled
    found = label_log_probs([tokens_of(next(iter(listed)), listed)], labels)
    if found is None:
        assert not set(labels) & set(listed)
        return
    for label, log_prob, bounded in zip(labels, found.log_probs, found.bounded, strict=True):
        if bounded:
            assert label not in listed
            assert math.exp(log_prob) >= truth[label] - 1e-9
        else:
            assert math.exp(log_prob) == pytest.approx(truth[label])
