"""A document whose answer can stand anywhere: its sentences stay in order, those that hold the answer move together.

Nothing but the place changes: every variant has the same sentences, and so the same words. What a sentence means may
lean on the one before it ("It was built in 1889"); that is lost at every place but its own, and so is no difference
between the places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairpos.errors import InvalidRequest
from fairpos.relevance.sentences import Span, sentence_spans, word_count


@dataclass(frozen=True, slots=True)
class MovableAnswer:
    """A text in two parts.

    Attributes:
        answer: The sentences that hold the answer, in their order.
        rest: All others.
    """

    answer: tuple[str, ...]
    rest: tuple[str, ...]

    @classmethod
    def of(cls, text: str, spans: Sequence[Span]) -> MovableAnswer:
        """A text taken apart.

        Args:
            text: With an answer.
            spans: Where that stands, in characters.
        """
        answer: list[str] = []
        rest: list[str] = []
        for start, end in sentence_spans(text):
            holds = any(start < last and first < end for first, last in spans)
            (answer if holds else rest).append(text[start:end])
        return cls(tuple(answer), tuple(rest))

    @property
    def places(self) -> int:
        """At how many places the answer can stand: before, between and after the other sentences."""
        return len(self.rest) + 1

    def slots(self, count: int) -> list[int]:
        """So many places, evenly spread from the first to the last, as numbers of the sentences before the answer.

        Raises:
            InvalidRequest: the document has fewer.
        """
        if not 2 <= count <= self.places:
            raise InvalidRequest(f"needs at least 2 and at most {self.places} places, got {count}")
        return [round(number * len(self.rest) / (count - 1)) for number in range(count)]

    def text_at(self, slot: int) -> str:
        """The text with the answer behind so many of the other sentences."""
        return " ".join((*self.rest[:slot], *self.answer, *self.rest[slot:]))

    def words_before(self, slot: int) -> int:
        """How many words stand before the answer there."""
        return sum(map(word_count, self.rest[:slot]))


def answer_spans(text: str, answers: Iterable[str]) -> list[Span]:
    """Every place where one of some answers stands in a text as whole words, in any capitals; in the text's order."""
    found: set[Span] = set()
    for answer in answers:
        words = [re.escape(word) for word in answer.split()]
        if words:
            found |= {match.span() for match in re.finditer(_whole(answer, r"\s+".join(words)), text, re.IGNORECASE)}
    return sorted(found)


def _whole(answer: str, pattern: str) -> str:
    """Where it begins or ends with a letter or digit, no other may touch it there."""
    stripped = answer.strip()
    before = r"(?<!\w)" if re.match(r"[a-zA-Z0-9]", stripped[0]) else ""
    after = r"(?!\w)" if re.match(r"[a-zA-Z0-9]", stripped[-1]) else ""
    return f"{before}{pattern}{after}"
