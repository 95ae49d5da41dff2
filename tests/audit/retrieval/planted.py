"""Retrievers that are told where to look, and questions whose answer can stand anywhere."""

import random
from dataclasses import dataclass
from typing import ClassVar

from fairpos.audit.retrieval.items import RetrievalItem
from fairpos.audit.retrieval.placing import ItemPlacings, place_documents
from fairpos.types import Segment

SENTENCES, WORDS = 8, 12  # of filler, before and after the answer's own sentence
RIVALS = 12  # more than nDCG@10 counts


def sentence(draw):
    return " ".join(["Filler", *(draw.choice("abcdefgh") * 3 for _ in range(WORDS - 1))]) + "."


def questions(count, seed=0):
    """Each has an answer that stands somewhere in its document, and rivals without it."""
    draw = random.Random(seed)
    items = []
    for number in range(count):
        answer = f"The key of q{seed}-{number} is found."
        sentences = [sentence(draw) for _ in range(SENTENCES)]
        sentences.insert(draw.randrange(SENTENCES + 1), answer)
        text = " ".join(sentences)
        start = text.index(answer)
        corpus = [Segment(id=f"r{i}", text=f"Rival {i}. {sentence(draw)}") for i in range(RIVALS)]
        document = Segment(id="d", text=text)
        spans = ((start, start + len(answer)),)
        items.append(RetrievalItem(f"q{seed}-{number}", f"q{seed}-{number}", document, spans, (document, *corpus)))
    return [
        RetrievalItem(each.id, each.query, each.document, each.spans, each.corpus, frozenset({"d"})) for each in items
    ]


def words_before(query, text):
    """How many words stand before the answer; None where it isn't there."""
    head, found, _ = text.partition(f"The key of {query} ")
    return len(head.split()) if found else None


@dataclass(frozen=True)
class FirstWords:
    """Sees so many words of a document, and nothing after them."""

    count: int
    alone: ClassVar[bool] = True
    name: ClassVar[str] = "first_words"

    def scores(self, query, segments):
        def score(text):
            before = words_before(query, text)
            return float(before is not None and before < self.count)

        return {segment.id: score(segment.text) for segment in segments}


@dataclass(frozen=True)
class ByPlace:
    """Finds the answer with a probability that goes from `start` to `end` with the share of the text before it.

    Where it doesn't, the document comes last of all, so that nDCG@10 is 1 or 0, and its mean that probability.
    """

    start: float
    end: float
    seed: int = 0
    alone: ClassVar[bool] = True

    def scores(self, query, segments):
        def score(text):
            before = words_before(query, text)
            if before is None:
                return 1.0
            share = before / (SENTENCES * WORDS)
            drawn = random.Random(f"{self.seed} {query} {text}").random()
            return 2.0 if drawn < self.start + (self.end - self.start) * share else 0.0

        return {segment.id: score(segment.text) for segment in segments}


def placed(retriever, items, places=5) -> list[ItemPlacings]:
    return place_documents(retriever, items, places)
