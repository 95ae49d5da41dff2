"""A prompt in tokens: where its segments lie, and which of them can change places.

Everything is keyed by segment id. A position is a property of one layout, never a name for a segment.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from fairpos.errors import InvalidLayout

Span: TypeAlias = tuple[int, int]  # start, end (exclusive), counted in tokens


@dataclass(frozen=True, slots=True)
class Layout:
    """A prompt in tokens: plain pieces and sets of interchangeable segments.

    Attributes:
        input_ids: Token ids of the whole prompt.
        sets: One tuple of spans per set, in storage order; the spans of a set touch each other.
        ids: Segment ids, aligned with `spans`.
        links: For each segment the ids of those that it refers to, aligned with `spans`; empty where nothing is known.
    """

    input_ids: tuple[int, ...]
    sets: tuple[tuple[Span, ...], ...]
    ids: tuple[str, ...] = field(default=())
    links: tuple[tuple[str, ...], ...] = field(default=())

    @classmethod
    def of(
        cls,
        input_ids: Sequence[int],
        spans: Sequence[Span] | Sequence[Sequence[Span]],
        ids: Sequence[str] | None = None,
    ) -> Layout:
        """Checks spans and groups them into sets.

        Args:
            input_ids: Token ids of the whole prompt.
            spans: (start, end) of each segment, end exclusive, in storage order. Segments that touch form one set;
                plain tokens between two segments start a new set. A list of lists of spans names the sets outright,
                which also keeps apart two sets with nothing between them.
            ids: Names for the segments; "1", "2", ... where not given.

        Raises:
            InvalidLayout: there are no ids; a segment, the prefix or the suffix is empty; spans overlap, aren't in
                storage order or leave the ids; a set has plain tokens inside it.
        """
        tokens = tuple(int(token) for token in input_ids)
        sets = _group_spans(spans)
        flat = tuple(span for members in sets for span in members)
        _check_spans(tokens, flat)
        for number, members in enumerate(sets, 1):
            for (_, end), (start, _) in itertools.pairwise(members):
                if start != end:
                    raise InvalidLayout(
                        f"set {number} has {start - end} plain tokens between its segments; got {members}"
                    )
        names = tuple(str(i) for i in range(1, len(flat) + 1)) if ids is None else tuple(ids)
        if len(names) != len(flat):
            raise InvalidLayout(f"got {len(names)} ids for {len(flat)} spans")
        return cls(tokens, sets, names)

    @property
    def spans(self) -> tuple[Span, ...]:
        """All segments' spans in storage order."""
        return tuple(span for members in self.sets for span in members)

    @property
    def prefix_end(self) -> int:
        """Number of tokens before the first segment."""
        return self.sets[0][0][0] if self.sets else len(self.input_ids)

    @property
    def suffix_start(self) -> int:
        """Index of the first token after the last segment."""
        return self.sets[-1][-1][1] if self.sets else 0

    def __len__(self) -> int:
        return len(self.input_ids)

    def canonical(self) -> Layout:
        """The same prompt with the members of every set sorted by their token ids.

        Every input order has the same canonical layout, so that a forward pass over it runs the very same computation:
        this is what makes order invariance exact to the bit.
        """
        tokens = list(self.input_ids)
        sets, names, links, first = [], [], [], 0
        for members in self.sets:
            order = sorted(range(len(members)), key=lambda i: (self.input_ids[slice(*members[i])], self.ids[first + i]))
            cursor = members[0][0]
            spans = []
            for i in order:
                piece = self.input_ids[slice(*members[i])]
                tokens[cursor : cursor + len(piece)] = piece
                spans.append((cursor, cursor + len(piece)))
                names.append(self.ids[first + i])
                links.append(self.links[first + i] if self.links else ())
                cursor += len(piece)
            sets.append(tuple(spans))
            first += len(members)
        return Layout(tuple(tokens), tuple(sets), tuple(names), tuple(links) if self.links else ())


def _group_spans(spans: Sequence[Span] | Sequence[Sequence[Span]]) -> tuple[tuple[Span, ...], ...]:
    """Spans as sets: touching ones together, or as the caller grouped them."""
    try:
        pairs = [hasattr(item[0], "__index__") for item in spans]
        if not any(pairs):
            return tuple(tuple(_read_span(pair) for pair in item) for item in spans)
        sets: list[list[Span]] = []
        for span in map(_read_span, spans):
            if sets and sets[-1][-1][1] == span[0]:
                sets[-1].append(span)
            else:
                sets.append([span])
        return tuple(tuple(members) for members in sets)
    except (TypeError, ValueError, IndexError) as error:
        raise InvalidLayout(f"spans must be (start, end) pairs, or lists of such pairs, got {spans!r}") from error


def _read_span(pair: object) -> Span:
    if not isinstance(pair, Iterable):
        raise TypeError("a span has two ends")
    start, end = (operator.index(value) for value in pair)
    return start, end


def _check_spans(tokens: tuple[int, ...], spans: tuple[Span, ...]) -> None:
    n = len(tokens)
    if n == 0:
        raise InvalidLayout("got no token ids")
    for number, (start, end) in enumerate(spans, 1):
        if not 0 <= start <= end <= n:
            raise InvalidLayout(f"segment {number} spans ({start}, {end}), outside of the {n} token ids")
        if start == end:
            raise InvalidLayout(f"segment {number} is empty: it spans ({start}, {end})")
    for number, ((_, end), (start, _)) in enumerate(itertools.pairwise(spans), 1):
        if start < end:
            raise InvalidLayout(
                f"segments {number} and {number + 1} overlap or are out of storage order: "
                f"one ends at {end}, the next starts at {start}"
            )
    if spans and spans[0][0] == 0:
        raise InvalidLayout("the prefix is empty: the first segment starts at 0; at least 1 token must come before it")
    if spans and spans[-1][1] == n:
        raise InvalidLayout(
            f"the suffix is empty: the last segment ends at {n}, the last of {n} token ids; "
            "at least 1 token must follow it, or the result would depend on which segment is stored last"
        )
