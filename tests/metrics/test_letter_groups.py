"""Letters: two share one exactly where they are not known to differ."""

import itertools
import random

import pytest

from fairpos.metrics.letter_groups import holm, letter_groups


def test_by_hand():
    assert letter_groups("xyz", []) == {"x": "a", "y": "a", "z": "a"}
    assert letter_groups("xyz", [("x", "z")]) == {"x": "a", "y": "ab", "z": "b"}
    assert letter_groups("xyz", [("x", "y"), ("z", "x"), ("y", "z")]) == {"x": "a", "y": "b", "z": "c"}


def test_the_law_on_random_differences():
    draw = random.Random(0)
    for _ in range(50):
        names = "abcdefg"
        different = [pair for pair in itertools.combinations(names, 2) if draw.random() < 0.5]
        letters = letter_groups(names, different)
        assert all(letters.values())
        for one, two in itertools.combinations(names, 2):
            assert bool(set(letters[one]) & set(letters[two])) == ((one, two) not in different)


def test_holm():
    # 3 * .01, 2 * .02, 1 * .03, each at least what comes before it.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
