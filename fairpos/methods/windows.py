"""Windows: long lists are ranked a piece at a time.

Sun et al., "Is ChatGPT Good at Search? Investigating Large Language Models as Re-Ranking Agents", arXiv 2304.09542: a
window slides from the back to the front, so that good segments rise. Unlike the published code: segments that a
window's ranking leaves out keep their order from before instead of the prompt's, a window without any ranking changes
nothing, and disjoint windows with a final round are there as well, all of which can be asked at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from fairpos.methods.base import Family, Method, Steps, register
from fairpos.options import option
from fairpos.outputs import folded
from fairpos.types import Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend

Kind: TypeAlias = Literal["sliding", "disjoint"]
Start: TypeAlias = Literal["auto", "scores", "canonical", "input"]


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

    def steps(self, request: Request, backend: Backend) -> Steps:
        """Windows that don't need each other's results are asked together."""
        whole = request.reordered(self._begin(request))
        order = list(range(len(request.segments)))  # numbers in `whole`
        asked: list[Output] = []
        if self.kind == "sliding":
            start = max(0, len(order) - self.size)
            while True:
                window = order[start : start + self.size]
                asked += yield [_part(whole, window)]
                order[start : start + self.size] = _ranked(whole, window, asked[-1])
                if start == 0:
                    break
                start = max(0, start - self.stride)
        else:
            dropped: list[int] = []
            while len(order) > self.size:
                # Dealt out like cards, so that every window gets its share of what stands high.
                count = -(-len(order) // self.size)
                windows = [order[w::count] for w in range(count)]
                outputs = yield [_part(whole, window) for window in windows]
                asked += outputs
                ranked = [_ranked(whole, window, output) for window, output in zip(windows, outputs, strict=True)]
                # Every window loses at least one, so that the rounds come to an end.
                keep = [min(self.stride, max(1, len(window) - 1)) for window in ranked]
                order = _dealt([window[:k] for window, k in zip(ranked, keep, strict=True)])
                dropped = _dealt([window[k:] for window, k in zip(ranked, keep, strict=True)]) + dropped
            asked += yield [_part(whole, order)]
            order = _ranked(whole, order, asked[-1]) + dropped
        if 0 < self.top < len(order):
            best = order[: self.top]
            asked += yield [_part(whole, best)]
            order[: self.top] = _ranked(whole, best, asked[-1])
        return folded(_output(whole, order, asked), asked)

    def _begin(self, request: Request) -> list[int]:
        """The first order, as numbers of the request's segments."""
        place = {id: i for i, id in enumerate(request.ids)}
        if self.start == "input":
            return list(place.values())
        canonical = [place[id] for id in request.canonical().ids]
        scores = [segment.score for segment in request.segments]
        known = all(score is not None for score in scores)
        if self.start == "canonical" or (self.start == "auto" and not known):
            return canonical
        # A segment without a score stands below all that have one; ties stay in canonical order.
        return sorted(canonical, key=lambda i: (scores[i] is None, -(scores[i] or 0.0)))


def _output(whole: Request, order: Sequence[int], asked: Sequence[Output]) -> Output:
    """The ranking; windows without one are told in the notes."""
    lost = [output.status for output in asked if not output.ranking]
    if len(lost) == len(asked):
        return Output(whole.task, status=lost[0])
    notes = [note for output in asked for note in output.notes]
    if lost:
        notes.append(f"{len(lost)} of {len(asked)} windows gave no ranking and changed nothing: {', '.join(lost)}")
    ids = whole.ids
    ranking = tuple(ids[i] for i in order)
    # No scores: those of different windows can't be compared.
    return Output(whole.task, ranking=ranking, winner=ranking[0], notes=tuple(notes))


def _part(whole: Request, numbers: Sequence[int]) -> Request:
    """The request with some of its segments; labels given to segments travel with them."""
    return replace(
        whole,
        segments=tuple(whole.segments[i] for i in numbers),
        labels=None if whole.labels is None else tuple(whole.labels[i] for i in numbers),
    )


def _ranked(whole: Request, window: Sequence[int], output: Output) -> list[int]:
    """The window's numbers as ranked; those that the ranking leaves out follow in the order from before."""
    ids = whole.ids
    number = {ids[i]: i for i in window}
    ranked = [number[id] for id in output.ranking] if output.status in ("ok", "partial") else []
    return ranked + [i for i in window if i not in ranked]


def _dealt(piles: Sequence[Sequence[int]]) -> list[int]:
    """The first of every pile, then the second of every pile, and so on."""
    deepest = max(map(len, piles))
    return [pile[depth] for depth in range(deepest) for pile in piles if depth < len(pile)]
