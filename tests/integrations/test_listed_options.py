"""Where a prompt lists its options; the expected parts are written out."""

import pytest

from fairpos.integrations.listed_options import Listing, find_listing

TEXTS = ("red", "dark blue", "green")
LETTERS = ("A", "B", "C")


@pytest.mark.parametrize(
    ("listed", "labels", "frame", "separator", "leading"),
    [
        ("Q?\nA. red\nB. dark blue\nC. green\nAnswer:", LETTERS, ("", ". "), "\n", False),
        ("Q?\nA) red\nB) dark blue\nC) green", LETTERS, ("", ") "), "\n", True),
        ("Q?\n(A) red; (B) dark blue; (C) green; Answer:", LETTERS, ("(", ") "), "; ", False),
        ("Q? (A) red (B) dark blue (C) green\nAnswer:", LETTERS, ("(", ") "), " ", True),
        ("Q?\n[a] red\n[b] dark blue\n[c] green\n", ("a", "b", "c"), ("[", "] "), "\n", False),
        ("Q?\n1: red\n2: dark blue\n3: green\n", ("1", "2", "3"), ("", ": "), "\n", False),
        ("Q?\n\n- red\n- dark blue\n- green\n\nAnswer:", ("", "", ""), ("- ", ""), "\n", False),
        ("Q?\nred\ndark blue\ngreen\nAnswer:", ("", "", ""), ("", ""), "\n", False),
    ],
)
def test_options_are_found_with_their_frame(listed, labels, frame, separator, leading):
    found = find_listing(listed, [(text,) for text in TEXTS], None)
    assert found is not None
    assert (found.texts, found.labels, (found.opening, found.closing)) == (TEXTS, labels, frame)
    assert (found.separator, found.leading) == (separator, leading)
    pieces = "".join(found.piece(slot, text) for slot, text in enumerate(TEXTS))
    assert found.prefix + pieces + found.suffix == listed


def test_the_last_list_counts():
    """Examples come before the question; theirs keep their order."""
    prompt = "Q1?\nA. red\nB. green\nAnswer: B\n\nQ2?\nA. red\nB. green\nAnswer:"
    found = find_listing(prompt, [("red",), ("green",)], ["A", "B"])
    assert found == Listing(
        "Q1?\nA. red\nB. green\nAnswer: B\n\nQ2?\n", "Answer:", ("red", "green"), ("A", "B"), "", ". ", "\n", False
    )


def test_the_longest_text_of_a_document_is_meant():
    known = {"red", "red wine", "green"}
    found = find_listing("Q?\nA. red wine\nB. green\nAnswer:", [known, known], ["A", "B"])
    assert found is not None
    assert found.texts == ("red wine", "green")


@pytest.mark.parametrize(
    "prompt",
    [
        "Q?\nAnswer:",  # no list
        "Q? red, dark blue, or green?\nAnswer:",  # no one separator
        "Q?\nA. red\nB. dark blue\n\nC. green\nAnswer:",
        "Q?\nA. dark blue\nB. red\nC. green\nAnswer:",  # another order
        "Q?\nA. red\nB. dark blue\nC. green\nD. white\nAnswer:",  # another option follows
        "Q?\nA. red\nB. dark blue\nC. greenish\nAnswer:",
        "Q?\nA. red\nC. dark blue\nB. green\nAnswer:",
        "Q?\nA. red\nB) dark blue\nC. green\nAnswer:",
        "Q?\nA. red\nB. dark blue\nC. green wine\nAnswer:",
        "Q? (A) red (B) dark blue (C) green Answer:",  # or an option called "green Answer:"
        "Q? NASA. red\nB. dark blue\nC. green\nAnswer:",
        "Is red dark blue green?",
        "Is it\nred dark blue green\n",
    ],
)
def test_what_is_no_list_is_not_guessed(prompt):
    assert find_listing(prompt, [(text,) for text in TEXTS], None) is None


@pytest.mark.parametrize("prompt", ["Q?\nA. red\nB. white\nC. green\nAnswer:", "Q?\nA. \nB. \nC. \nAnswer:"])
def test_labels_alone_say_nothing_of_texts_that_are_unknown(prompt):
    assert find_listing(prompt, [set(TEXTS)] * 3, LETTERS) is None
