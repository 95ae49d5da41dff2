"""Sentences and chunks: nothing is lost, nothing is longer than it may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos import Segment
from fairpos.errors import InvalidOption
from fairpos.relevance.base import find_relevance, is_scored_alone, remembering
from fairpos.relevance.chunks import Chunked
from fairpos.relevance.sentences import chunks_of, sentence_spans, word_count


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. J. Roe met him in the U.S. in 1990. He left.", ["Dr. J. Roe met him in the U.S. in 1990.", "He left."]),
        ('"It rained!" she said no. Then (fig. 3) it ended.', ['"It rained!" she said no.', "Then (fig. 3) it ended."]),
        ("Heading\n\nIt begins\nand ends. 5 men came.", ["Heading", "It begins\nand ends.", "5 men came."]),
        ("\u6771\u3067\u3059\u3002\u304d\uff01Ok.", ["\u6771\u3067\u3059\u3002", "\u304d\uff01", "Ok."]),
        ("At 5 p.m. on Monday, e.g. here. No. 5 is next.", ["At 5 p.m. on Monday, e.g. here.", "No. 5 is next."]),
        ("no end", ["no end"]),
        ("  \n\n ", []),
    ],
)
def test_sentences(text, sentences):
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


@given(st.text(alphabet="aB. !?\n\u3002\u6771'\"1", max_size=80), st.integers(1, 6))
def test_no_character_is_lost_and_no_chunk_is_too_long(text, words):
    sentences = "".join(text[start:end] for start, end in sentence_spans(text))
    assert "".join(sentences.split()) == "".join(text.split())
    chunks = chunks_of(text, words)
    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert all(word_count(chunk) <= words for chunk in chunks)


def test_a_chunk_is_whole_sentences_and_a_long_sentence_is_cut():
    assert chunks_of("One two. Three four. Five six seven eight nine.", 4) == [
        "One two. Three four.",
        "Five six seven eight",
        "nine.",
    ]


@pytest.mark.parametrize("spec", ["bm25", "embedding"])
def test_a_document_is_worth_its_best_chunk(spec):
    source = find_relevance(spec)
    long = Segment(id="long", title="T", text="Bread is baked. Mars is red. Gold is dear.")
    short = Segment(id="short", text="Mars is red.")
    found = Chunked(source, 3).scores("red mars", [long, short])
    texts = ["Bread is baked.", "Mars is red.", "Gold is dear."]
    chunks = [Segment(id=str(i), title="T", text=text) for i, text in enumerate(texts)]
    expected = source.scores("red mars", [*chunks, short])
    assert found["short"] == pytest.approx(expected["short"], abs=1e-6)
    assert found["long"] == pytest.approx(max(expected[each.id] for each in chunks), abs=1e-6)


def test_what_chunks_take_from_their_source():
    assert not is_scored_alone(Chunked(find_relevance("bm25")))
    assert is_scored_alone(Chunked(find_relevance("embedding")))
    assert remembering(Chunked(find_relevance("bm25"))) == Chunked(find_relevance("bm25"))


class Counting:
    alone = True

    def __init__(self):
        self.asked = []

    def scores(self, query, segments):
        self.asked += [segment.text for segment in segments]
        return {segment.id: 1.0 for segment in segments}


def test_a_chunk_of_several_documents_is_scored_once_where_each_is_scored_alone():
    source = Counting()
    texts = ("A b. C d.", "C d. A b.")
    found = Chunked(source, 2).scores("q", [Segment(id=str(i), text=text) for i, text in enumerate(texts)])
    assert source.asked == ["A b.", "C d."]
    assert found == {"0": 1.0, "1": 1.0}


@pytest.mark.parametrize("words", [0, -1, True])
def test_a_chunk_has_words(words):
    with pytest.raises(InvalidOption, match="at least 1"):
        Chunked(find_relevance("bm25"), words)
