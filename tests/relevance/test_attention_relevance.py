"""Relevance read from attention, with numbers small enough to follow."""

import numpy as np
import pytest

from fairpos import Segment
from fairpos.attention.reading import Reading
from fairpos.errors import InvalidOption, UnsupportedBackend
from fairpos.relevance.base import RELEVANCE
from fairpos.relevance.base import find_relevance as relevance
from fairpos.relevance.icr import kept_sum


class Scripted:
    """A reader whose attention is made up: `weights` by (query, texts)."""

    name = "scripted"
    capabilities = frozenset({"attention"})

    def __init__(self, weigh):
        self.weigh = weigh
        self.prompts = []

    def read_attention(self, prompts, *, heads=(), pairs=(), last_only=False, replies=()):
        self.prompts += prompts
        return [self.weigh(prompt.request) for prompt in prompts]


def test_icr_subtracts_the_empty_query_and_sums_layers_and_tokens():
    def weigh(request):
        asked = request.query != "N/A"
        #            a: 2 tokens   b: 1 token
        weights = [[3.0, 1.0, 5.0], [1.0, 1.0, 1.0]] if asked else [[1.0, 1.0, 4.0], [0.0, 0.0, 3.0]]
        return Reading(np.array(weights, dtype=np.float32), (2, 1))

    backend = Scripted(weigh)
    scores = relevance("icr").on(backend).scores("who", [Segment(id="b", text="y"), Segment(id="a", text="x")])
    assert scores == {"a": (3 - 1) + (1 - 0) + (1 - 1) + (1 - 0), "b": (5 - 4) + (1 - 3)}
    assert [prompt.request.ids for prompt in backend.prompts] == [("a", "b")] * 2


def test_icr_drops_tokens_far_below_the_mean():
    tokens = np.array([1.0] * 9 + [-9.0])  # mean 0, standard deviation 3
    assert kept_sum(tokens, 2.0) == 9.0
    assert kept_sum(tokens, 3.0) == 0.0


def test_calibrated_attention_subtracts_the_dummy_in_the_same_slot():
    slots = np.array([5.0, 1.0, 2.0])
    content = {"x": 1.0, "y": 3.0, "z": 2.0}

    def weigh(request):
        found = slots + [content.get(segment.text, 0.5) for segment in request.segments]
        return Reading(found[None].astype(np.float32), (1, 1, 1))

    source = relevance("attention_calibrated").on(Scripted(weigh))
    segments = [Segment(id=text, text=text) for text in "zyx"]
    assert source.scores("q", segments) == {"x": 0.5, "y": 2.5, "z": 1.5}


def test_the_dummy_is_as_long_as_what_it_stands_for():
    seen = []

    def weigh(request):
        seen.append([len(segment.text.split()) for segment in request.segments])
        return Reading(np.zeros((1, 2), dtype=np.float32), (1, 1))

    segments = [Segment(id="a", text="a " * 7), Segment(id="b", text="one two")]
    relevance("attention_calibrated").on(Scripted(weigh)).scores("q", segments)
    assert seen == [[7, 2]] * 3


@pytest.mark.parametrize("name", ["icr", "attention_calibrated"])
def test_a_source_on_no_model(name):
    assert name in RELEVANCE
    with pytest.raises(UnsupportedBackend, match="on no model"):
        relevance(name).scores("q", [Segment(id="a", text="x")])
    with pytest.raises(InvalidOption, match="dummy must be words"):
        relevance("attention_calibrated:dummy= ")


def test_the_passage_that_answers_is_found_by_smollm2s_attention(smollm2):
    segments = [
        Segment(id="milk", text="Milk is white and comes from cows."),
        Segment(id="bern", text="The capital of Switzerland is Bern."),
        Segment(id="tree", text="Trees have leaves in summer."),
    ]
    scores = relevance("icr").on(smollm2.backend).scores("What is the capital of Switzerland?", segments)
    assert max(scores, key=scores.__getitem__) == "bern"
