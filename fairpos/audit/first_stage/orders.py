"""A query's passages in the orders in which a reranker is asked: as they came, best first, worst first, at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fairpos.files.trec import Qrels
from fairpos.ranking.items import RankItem

GIVEN, BEST, WORST = "given", "best", "worst"
_RANDOM = "random"


@dataclass(frozen=True, slots=True)
class ListItem:
    """A query whose passages differ in grade, so that their order can matter.

    Attributes:
        item: With its passages as they came.
        grades: By passage; what isn't judged has 0.
    """

    item: RankItem
    grades: Mapping[str, float]

    @property
    def ids(self) -> tuple[str, ...]:
        """The passages that are shown, as they came."""
        return self.item.request.ids if self.item.request is not None else ()

    def grade_of(self, id: str) -> float:
        """A passage's grade."""
        return max(0.0, self.grades.get(id, 0.0))

    def order(self, name: str, seed: int) -> list[int]:
        """The places of the list, in the order of that name.

        Of passages with the same grade, "best" keeps the order that they came in; "worst" is "best" from the back.

        Args:
            name: One of `order_names`.
            seed: Of what is drawn at random, with the query and the name.
        """
        ids = self.ids
        places = list(range(len(ids)))
        if name == GIVEN:
            return places
        if name in (BEST, WORST):
            places.sort(key=lambda place: -self.grade_of(ids[place]))
            return places if name == BEST else places[::-1]
        random.Random(f"{seed}|{name}|{self.item.id}").shuffle(places)
        return places

    def shown_in(self, name: str, seed: int, id: str) -> RankItem:
        """The item to be ranked in that order, under another id."""
        assert self.item.request is not None
        return replace(self.item, id=id, request=self.item.request.reordered(self.order(name, seed)))


def order_names(draws: int) -> list[str]:
    """The names of all orders, so many of them drawn at random."""
    return [GIVEN, BEST, WORST, *(f"{_RANDOM} {number + 1}" for number in range(draws))]


def is_random(name: str) -> bool:
    """Whether an order is one of those drawn at random."""
    return name.startswith(_RANDOM)


def lists_that_matter(items: Sequence[RankItem], qrels: Qrels) -> tuple[list[ListItem], dict[str, int]]:
    """The queries on which an order can matter, and why others aren't among them -> how many.

    Args:
        items: Queries with their passages.
        qrels: Grades by query and passage.
    """
    found: list[ListItem] = []
    left_out: dict[str, int] = {}
    for item in items:
        one = ListItem(item, qrels.get(item.id, {}))
        reason = ""
        if item.request is None:
            reason = "nothing of it can be shown"
        elif item.id not in qrels:
            reason = "it isn't judged"
        elif len({one.grade_of(id) for id in one.ids}) < 2:
            reason = "all its passages have one grade"
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            found.append(one)
    return found, left_out
