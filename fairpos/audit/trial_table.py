"""The trials of one method as a table: a row an item, a column an order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairpos.audit.trial import Trial, anchor_of
from fairpos.files.items import Item
from fairpos.metrics.bootstrap import Array

Rows = Sequence[Sequence[Trial]]


@dataclass(frozen=True, slots=True)
class TrialTable:
    """What one method said.

    Attributes:
        items: In their order.
        main: Under the method's own labels, by item and order.
        crossed: With the labels turned too, by item, order and labeling; empty where they weren't.
    """

    items: Sequence[Item]
    main: Rows
    crossed: Rows

    @classmethod
    def of(cls, method: str, trials: Sequence[Trial], items: Sequence[Item]) -> TrialTable:
        """Sorts the trials of a method."""
        own = [trial for trial in trials if trial.method == method]
        crossed = _rows_by_item([trial for trial in own if trial.labels is not None], items)
        return cls(
            items,
            _rows_by_item([trial for trial in own if trial.labels is None], items),
            crossed if any(crossed) else [],
        )

    @property
    def slots(self) -> int:
        """Number of segments of every item, K."""
        return len(self.items[0].request.segments)

    @property
    def orders(self) -> int:
        """Number of orders of every item."""
        return len(self.main[0])

    @property
    def is_of_pairs(self) -> bool:
        """Whether two answers or options are compared."""
        return self.slots == 2 and self.items[0].request.task in ("judge", "choose")

    @property
    def flat(self) -> list[Trial]:
        """All trials under the method's own labels."""
        return [trial for row in self.main for trial in row]

    @property
    def told_apart(self) -> Rows:
        """The rows in which position is told from label, where labels were turned; else the main ones."""
        return self.crossed or self.main

    def column(self, value: Callable[[Trial], float | None]) -> Array | None:
        """A value of every trial, (items, orders); None where some trial has none."""
        rows = [[value(trial) for trial in row] for row in self.main]
        if any(each is None for row in rows for each in row):
            return None
        return np.array(rows, dtype=float)

    def picks(self, rows: Rows, place: Callable[[Trial], int | None]) -> Array:
        """Share of each item's picks by slot or label, (items, K)."""
        return np.array([_shares_of([place(trial) for trial in row], self.slots) for row in rows])

    def positions(self) -> list[int]:
        """The position of the gold segment in each order, from 0."""
        anchor = anchor_of(self.items[0])
        return [trial.shown.index(anchor) for trial in self.main[0]]

    def label_of(self, trial: Trial) -> int | None:
        """Number of the label that was picked, where labels were turned."""
        return None if trial.slot is None else (trial.slot + (trial.labels or 0)) % self.slots

    def flip_matrix(self) -> list[list[int]]:
        """See `MethodFigures.flip_matrix`; empty where no segment is ever named."""
        if not any(trial.picked is not None for trial in self.flat):
            return []
        if self.is_of_pairs:
            return self._flips_of_pairs()
        k = self.slots
        matrix = [[0] * (k + 1) for _ in range(k)]
        for item, row in zip(self.items, self.main, strict=True):
            for trial in row:
                matrix[trial.shown.index(anchor_of(item))][k if trial.slot is None else trial.slot] += 1
        return matrix

    def _flips_of_pairs(self) -> list[list[int]]:
        matrix = [[0] * 3 for _ in range(3)]
        for item, row in zip(self.items, self.main, strict=True):
            first, second = (2 if t.picked is None else int(t.picked != anchor_of(item)) for t in (row[0], row[-1]))
            matrix[first][second] += 1
        return matrix


@dataclass(frozen=True, slots=True)
class Losses:
    """Outputs without a verdict.

    Attributes:
        count: How many.
        outputs: Of how many.
        kinds: Counts by status.
        first: The first one's item and what went wrong.
    """

    count: int
    outputs: int
    kinds: Mapping[str, int]
    first: str = ""

    @classmethod
    def among(cls, trials: Sequence[Trial]) -> Losses:
        """Counts them."""
        lost = [trial for trial in trials if trial.is_lost]
        first = f"{lost[0].item!r}: {lost[0].reason}" if lost else ""
        return cls(len(lost), len(trials), dict(Counter(trial.status for trial in lost).most_common()), first)

    @property
    def share(self) -> float:
        """Of all outputs, 0 to 1."""
        return self.count / max(1, self.outputs)

    @property
    def is_total(self) -> bool:
        """Whether nothing came back at all."""
        return 0 < self.count == self.outputs

    @property
    def words(self) -> str:
        """In a sentence without its end."""
        kinds = ", ".join(f"{count} {status}" for status, count in self.kinds.items())
        return f"{self.count} of {self.outputs} outputs ({self.share:.0%}) gave nothing that counts: {kinds}"


def _rows_by_item(trials: Sequence[Trial], items: Sequence[Item]) -> list[list[Trial]]:
    rows: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        rows[trial.item].append(trial)
    return [sorted(rows[item.id], key=lambda t: (t.order, -1 if t.labels is None else t.labels)) for item in items]


def _shares_of(places: Sequence[int | None], count: int) -> list[float]:
    return [sum(place == slot for place in places) / len(places) for slot in range(count)]
