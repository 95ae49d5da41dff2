"""Listwise replies are read strictly: what isn't surely a vote is none."""

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos.errors import InvalidRequest
from fairpos.rankers.listwise import parse_listing

THREE = ("1", "2", "3")


@pytest.mark.parametrize(
    ("text", "labels", "status"),
    [
        ("[2] > [1] > [3]", "213", "ok"),
        ("[2]>[1]>[3].", "213", "ok"),
        ("[2], [1], [3]", "213", "ok"),
        ("[ 2 ] > [1] > [03]", "213", "ok"),
        ("1. [3]\n2. [1]\n3. [2]", "312", "ok"),
        ("- [3]\n- [1]\n- [2]", "312", "ok"),
        ("Sure! Here is the ranking: [3] > [1] > [2]. Tell me if you need more.", "312", "ok"),
        ("**[3]** > **[1]** > **[2]**", "312", "ok"),
        ("2 > 1 > 3", "213", "ok"),
        ("3\n1\n2\n", "312", "ok"),
        ("2 > 1 > 3.", "213", "ok"),
        # the best one alone, or a few
        ("[3]", "3", "partial"),
        ("3", "3", "partial"),
        ("[3] > [1]", "31", "partial"),
        ("The best is [2], because it names him.", "2", "partial"),
        # models think before they answer
        ("[1] and [2] are close. I compared [1], [2]. Final: [2] > [1] > [3]", "213", "ok"),
        ("[1] > [2]? No: [2] > [1]", "21", "partial"),
        # cut off: "[1" may have become "[12]"
        ("[2] > [1] > [", "21", "partial"),
        ("[2] > [1] > [3", "21", "partial"),
        # invented and repeated ids are dropped, never clamped
        ("[2] > [7] > [1] > [3]", "213", "ok"),
        ("[9] > [0] > [2]", "2", "partial"),
        ("[2] > [2] > [1] > [2] > [3] > [1]", "213", "ok"),
        # no votes
        ("Here are the 3 passages ranked", "", "unparsable"),
        ("Passage 3 is best, then passage 1", "", "unparsable"),
        ("1. Passage 3\n2. Passage 1", "", "unparsable"),
        ("[7] > [8]", "", "unparsable"),
        ("[] > []", "", "unparsable"),
        ("[1 > 2 > 3]", "", "unparsable"),
        ("yes", "", "unparsable"),
        ("12", "", "unparsable"),
        ("-1", "", "unparsable"),
        ("", "", "empty"),
        (" \n\t", "", "empty"),
        # refusals, even if they name ids
        ("I'm sorry, but I can't rank these.", "", "refused"),
        ("I cannot compare [1] and [2].", "", "refused"),
        ("I'm sorry, I can't rank [1], [2] and [3].", "", "refused"),
        ("As an AI language model, I have no opinion on passage [3].", "", "refused"),
        ("I’m unable to help with that.", "", "refused"),
        ("Unfortunately the passages are short, but: [2] > [1] > [3]", "213", "ok"),
    ],
)
def test_replies(text, labels, status):
    found = parse_listing(text, THREE)
    assert ("".join(found.labels), found.status) == (labels, status)


def test_what_was_dropped_is_told():
    assert parse_listing("[2] > [7] > [2] > [x] > [1]", THREE).dropped == ("7", "2", "x")


def test_letters_and_numbers_past_nine():
    assert parse_listing("[B] > [A]", ("A", "B")).labels == ("B", "A")
    twelve = tuple(map(str, range(1, 13)))
    found = parse_listing("[12] > [1] > [10] > [2] > [11]", twelve)
    assert (found.labels, found.status) == (("12", "1", "10", "2", "11"), "partial")


@pytest.mark.parametrize("labels", [("1", "1"), ("",), ("a b",)])
def test_bad_labels_are_refused(labels):
    with pytest.raises(InvalidRequest, match="labels must be"):
        parse_listing("[1]", labels)


@given(st.permutations([str(i) for i in range(1, 26)]), st.sampled_from([" > ", ">", ", ", "\n", " "]))
def test_every_order_in_brackets_is_read_back(order, joint):
    found = parse_listing(joint.join(f"[{label}]" for label in order), sorted(order))
    assert (found.labels, found.status, found.dropped) == (tuple(order), "ok", ())


@given(st.text(alphabet=string.ascii_letters + "0123456789[]>., \n", max_size=200))
def test_any_text_gives_labels_once_each(text):
    found = parse_listing(text, THREE)
    assert len(set(found.labels)) == len(found.labels)
    assert set(found.labels) <= set(THREE)
    assert all(label in text for label in found.labels)
    assert (found.status in ("ok", "partial")) == bool(found.labels)
    assert (found.status == "ok") == (len(found.labels) == 3)


@pytest.mark.parametrize(
    "text", ["[1]" + "\n 1. " * 20_000 + "x[2]", "[1]" + " >" * 50_000 + "x", "a\n\n" * 50_000 + "!"]
)
def test_no_reply_takes_long_to_read(text):
    started = time.perf_counter()
    parse_listing(text, THREE)
    assert time.perf_counter() - started < 1.0
