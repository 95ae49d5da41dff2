"""Windows: long lists are ranked a piece at a time.

Sun et al., "Is ChatGPT Good at Search? Investigating Large Language Models as Re-Ranking Agents", arXiv 2304.09542: a
window slides from the back to the front, so that good segments rise. Unlike the published code: segments that a
window's ranking leaves out keep their order from before instead of the prompt's, a window without any ranking changes
nothing, a segment that no window ranked is not ranked, and disjoint windows with a final round are there as well, all
of which can be asked at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from fairpos.methods.base import Family, Method, Steps, register
from fairpos.methods.long_lists import Start, first_order
from fairpos.options import option
from fairpos.outputs import folded, with_groups
from fairpos.types import Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend

Rounds: TypeAlias = Generator[list[Request], list[Output], None]
Kind: TypeAlias = Literal["sliding", "disjoint"]


@register
@dataclass(frozen=True)
class Windows(Method):
    """Ranks long lists by windows; put the method against position bias inside: `windows+permutation`.

    It adds no order dependence of its own (unless start=input): with an order-free method inside, the result is the
    same for every input order.

    COST: sliding: one window after the other, (K - size) / stride + 1 of them. Disjoint: K / size windows at once, then
    rounds over their best. Requests run together in both.
    HURTS: what a window drops never comes back; one pass of sliding windows finds the best `size - stride` segments,
    the order below them stays rough. permutation+windows (the other way round) asks the same windows again and again.

    Attributes:
        size: Segments in a window, at least 2.
        stride: sliding: how far the window moves, 1 to size; disjoint: how many of a window reach the next round, less
            than size.
        kind: "sliding" or "disjoint".
        top: Rank the best so many once more in a last round; 0 for none, at most size.
        start: The order to begin with. "scores": by the segments' scores (a retriever's), "canonical": by content,
            "auto": scores where all segments have one, else canonical. "input": as it came in, which brings the input's
            order back into the result.
    """

    name: ClassVar[str] = "windows"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "ranks long lists a window at a time"
    source: ClassVar[str] = "RankGPT, arXiv 2304.09542"
    tasks: ClassVar[frozenset[Task]] = frozenset({"rank"})
    size: int = option(20, minimum=2)
    stride: int = option(10, minimum=1)
    kind: Kind = "sliding"
    top: int = option(0, minimum=0)
    start: Start = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.size if self.kind == "sliding" else self.size - 1
        self.require(1 <= self.stride <= most, "stride", f"1 to {most} with {self.kind} windows of {self.size}")
        self.require(self.top == 0 or 2 <= self.top <= self.size, "top", f"0 (off) or 2 to size ({self.size})")

    def most_shown(self, count: int) -> int:
        """A window, or the last round's."""
        return min(count, max(self.size, self.top))

    def steps(self, request: Request, backend: Backend) -> Steps:
        """Windows that don't need each other's results are asked together."""
        standing = _WindowStanding(request.reordered(first_order(request, self.start)))
        rounds = self._slide_window(standing) if self.kind == "sliding" else self._merge_windows(standing)
        yield from rounds
        if 0 < self.top < len(standing.order):
            best = standing.order[: self.top]
            standing.order[: self.top] = standing.ranked(best, (yield [standing.whole.part(best)])[0])
        return standing.output()

    def _slide_window(self, standing: _WindowStanding) -> Rounds:
        """One window after the other, from the back to the front."""
        order = standing.order
        start = max(0, len(order) - self.size)
        while True:
            window = order[start : start + self.size]
            [output] = yield [standing.whole.part(window)]
            order[start : start + self.size] = standing.ranked(window, output)
            if start == 0:
                return
            start = max(0, start - self.stride)

    def _merge_windows(self, standing: _WindowStanding) -> Rounds:
        """Windows side by side; the best of each meet in the next round."""
        order, dropped = standing.order, list[int]()
        while len(order) > self.size:
            # Dealt out like cards, so that every window gets its share of what stands high.
            count = -(-len(order) // self.size)
            windows = [order[w::count] for w in range(count)]
            outputs = yield [standing.whole.part(window) for window in windows]
            ranked = [standing.ranked(window, output) for window, output in zip(windows, outputs, strict=True)]
            # Every window loses at least one, so that the rounds come to an end.
            keep = [min(self.stride, max(1, len(window) - 1)) for window in ranked]
            order = _deal_out([window[:k] for window, k in zip(ranked, keep, strict=True)])
            dropped = _deal_out([window[k:] for window, k in zip(ranked, keep, strict=True)]) + dropped
        [output] = yield [standing.whole.part(order)]
        standing.order = standing.ranked(order, output) + dropped


class _WindowStanding:
    """How the segments stand while windows are asked: their order, which of them a window ranked, and which it tied.

    Segments go by their number in the order to begin with.
    """

    def __init__(self, whole: Request) -> None:
        self.whole = whole
        self.order = list(range(len(whole.segments)))
        self._outputs: list[Output] = []
        self._known: set[int] = set()
        self._tie_of: dict[int, int] = {}  # segment -> the tie that its last window found it in
        self._ties = 0

    def ranked(self, window: Sequence[int], output: Output) -> list[int]:
        """The window's segments as it ranked them; those that it leaves out follow in the order from before."""
        self._outputs.append(output)
        if not (output.status in ("ok", "partial") and output.ranking):
            return list(window)
        number = {self.whole.ids[i]: i for i in window}
        for i in window:
            self._tie_of.pop(i, None)
        for group in output.ties:
            self._ties += 1
            self._tie_of.update((number[id], self._ties) for id in group)
        ranked = [number[id] for id in output.ranking]
        self._known.update(ranked)
        return ranked + [i for i in window if i not in set(ranked)]

    def output(self) -> Output:
        """What some window ranked, in its order; what none did is unranked, and windows without a ranking are told."""
        lost = [output.status for output in self._outputs if not output.ranking]
        if len(lost) == len(self._outputs):
            return folded(Output(self.whole.task, status=lost[0]), self._outputs)
        notes = [note for output in self._outputs for note in output.notes]
        if lost:
            why = ", ".join(lost)
            notes.append(f"{len(lost)} of {len(self._outputs)} windows gave no ranking and changed nothing: {why}")
        order = [i for i in self.order if i in self._known]
        left = len(self.order) - len(order)
        if left:
            notes.append(f"{left} of {len(self.order)} segments were ranked by no window, and are unranked")
        # Neighbours are tied if the last window that ranked them says so.
        tied = itertools.groupby(order, lambda i: (self._tie_of.get(i), None if i in self._tie_of else i))
        groups = tuple(tuple(self.whole.ids[i] for i in members) for _, members in tied)
        # No scores: those of different windows can't be compared.
        output = Output(self.whole.task, status="partial" if left else "ok", notes=tuple(notes))
        return folded(with_groups(output, groups), self._outputs)


def _deal_out(piles: Sequence[Sequence[int]]) -> list[int]:
    """The first of every pile, then the second of every pile, and so on."""
    deepest = max(map(len, piles))
    return [pile[depth] for depth in range(deepest) for pile in piles if depth < len(pile)]
