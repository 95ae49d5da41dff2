"""An answer is moved, all else stays; ranks that are tied are worth their mean."""

import math

import pytest

from fairpos.audit.retrieval.moving import MovableAnswer, answer_spans
from fairpos.audit.retrieval.placing import Placing, place_documents, why_unmoved
from fairpos.errors import InvalidRequest
from fairpos.types import Segment
from tests.audit.retrieval.planted import questions

TEXT = "One is here. The tower is 330 metres high. It was built in 1889. Nobody minds. 330 metres is a lot."


def test_all_sentences_that_hold_the_answer_move_together():
    movable = MovableAnswer.of(TEXT, answer_spans(TEXT, ["330 metres"]))
    assert movable.answer == ("The tower is 330 metres high.", "330 metres is a lot.")
    assert movable.rest == ("One is here.", "It was built in 1889.", "Nobody minds.")
    assert movable.places == 4
    assert movable.slots(3) == [0, 2, 3]
    assert movable.text_at(1) == (
        "One is here. The tower is 330 metres high. 330 metres is a lot. It was built in 1889. Nobody minds."
    )
    assert [movable.words_before(slot) for slot in range(4)] == [0, 3, 8, 10]


def test_every_variant_has_the_same_words():
    movable = MovableAnswer.of(TEXT, [(13, 20)])
    for slot in range(movable.places):
        assert sorted(movable.text_at(slot).split()) == sorted(TEXT.split())


@pytest.mark.parametrize("count", [0, 1, 5])
def test_no_more_places_than_there_are(count):
    with pytest.raises(InvalidRequest, match="at most 4 places"):
        MovableAnswer.of(TEXT, answer_spans(TEXT, ["330 metres"])).slots(count)


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("In 1837 he did. Not in 18371.", "1837", [(3, 7)]),
        ("ADA  Lovelace wrote it.", "Ada Lovelace", [(0, 13)]),
        ("C++ is older than C.", "C++", [(0, 3)]),
        ("\u6771\u4eac\u306f\u9996\u90fd\u3067\u3059\u3002", "\u9996\u90fd", [(3, 5)]),
        ("nothing", "none", []),
        ("a.b", " ", []),
    ],
)
def test_answers_are_found_as_whole_words(text, answer, found):
    assert answer_spans(text, [answer]) == found


def test_ties_are_worth_the_mean_over_their_places():
    assert Placing(0, 0, 1.0).ndcg(10) == 1
    assert Placing(2, 0, 1.0).ndcg(10) == pytest.approx(1 / math.log2(4))
    assert Placing(0, 1, 1.0).ndcg(10) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert Placing(10, 0, 1.0).ndcg(10) == 0
    assert Placing(0, 3, 1.0).within(1) == 0.25


def test_why_an_answer_stays_where_it_is():
    item = questions(1)[0]
    assert why_unmoved(item, 9) == ""
    assert "too few sentences for 10 places" in why_unmoved(item, 10)


class Nothing:
    def scores(self, query, segments):
        return {segment.id: math.nan for segment in segments}


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(InvalidRequest, match="must give every document a finite score, got nan"):
        place_documents(Nothing(), questions(1), 3)


class Listed:
    """Not scored alone: a document's score depends on how many there are."""

    def __init__(self):
        self.lists = []

    def scores(self, query, segments):
        self.lists.append([segment.id for segment in segments])
        return {segment.id: float(len(segments)) for segment in segments}


def test_a_retriever_that_sees_the_list_never_sees_two_variants_of_one_document():
    retriever, items = Listed(), questions(2)
    place_documents(retriever, items, 3)
    assert len(retriever.lists) == 2 * 4
    for ids in retriever.lists:
        assert len(ids) == 13
        assert sum(id.startswith("at ") for id in ids) == 1


def test_documents_without_sentences_or_title_are_no_special_case():
    segment = Segment(id="d", text="word")
    assert MovableAnswer.of(segment.text, [(0, 4)]).places == 1
