"""What methods for long lists share: where they begin, parts of a request, and a plan that says which come next."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from fairpos.methods.base import Family, Method, Steps
from fairpos.outputs import folded, with_groups
from fairpos.plans.base import Places, Plan, Window, follow
from fairpos.types import Output, Request, Task

if TYPE_CHECKING:
    from fairpos.backends.base import Backend

Start: TypeAlias = Literal["auto", "scores", "canonical", "input"]


@dataclass(frozen=True)
class LongList(Method):
    """Base of methods that rank a long list by a plan (`fairpos.plans`); what stands inside ranks each window.

    Attributes:
        start: The order to begin with, which decides what meets first and nothing else. "scores": by the segments'
            scores (a retriever's), "canonical": by content, "auto": scores where all segments have one, else canonical.
            "input": as it came in, which brings the input's order back into the result.
    """

    family: ClassVar[Family] = "output"
    tasks: ClassVar[frozenset[Task]] = frozenset({"rank"})
    start: Start = "auto"

    def most_shown(self, count: int) -> int:
        """A window of the plan; methods without a `size` show all."""
        return min(count, getattr(self, "size", count))

    @abstractmethod
    def plan(self, count: int) -> Plan:
        """The plan for so many segments."""

    def steps(self, request: Request, backend: Backend) -> Steps:
        """The windows of a round are asked together."""
        whole = request.reordered(first_order(request, self.start))
        outputs: list[Output] = []

        def ask(windows: list[Window]) -> Generator[list[Request], list[Output], list[Places]]:
            found = yield [whole.part(window) for window in windows]
            outputs.extend(found)
            return [_places_of(whole, output) for output in found]

        places, rounds = yield from follow(self.plan(len(whole.segments)), ask)
        return _output_of(whole, places, outputs, f"{self.name}: {len(outputs)} windows, {rounds} rounds")


def first_order(request: Request, start: Start) -> list[int]:
    """The order to begin with, as numbers of the request's segments."""
    place = {id: i for i, id in enumerate(request.ids)}
    if start == "input":
        return list(place.values())
    canonical = [place[id] for id in request.canonical().ids]
    scores = [segment.score for segment in request.segments]
    known = all(score is not None for score in scores)
    if start == "canonical" or (start == "auto" and not known):
        return canonical
    # A segment without a score stands below all that have one; ties stay in canonical order.
    return sorted(canonical, key=lambda i: (scores[i] is None, -(scores[i] or 0.0)))


def _places_of(whole: Request, output: Output) -> Places:
    """A window's ranking by item number; empty where it gave none."""
    if output.status not in ("ok", "partial"):
        return ()
    number = {id: i for i, id in enumerate(whole.ids)}
    return tuple(tuple(number[id] for id in group) for group in output.groups)


def _output_of(whole: Request, places: Places, outputs: Sequence[Output], summary: str) -> Output:
    """What the plan found; no scores, since those of different windows can't be compared."""
    lost = Counter(output.status for output in outputs if not output.ranking)
    if not places:
        return folded(Output(whole.task, status=outputs[0].status, notes=(summary,)), outputs)
    notes = [summary, *(note for output in outputs for note in output.notes)]
    if lost:
        why = ", ".join(f"{status} {count}" for status, count in sorted(lost.items()))
        notes.append(f"{lost.total()} of {len(outputs)} windows gave no ranking: {why}")
    left = len(whole.segments) - sum(map(len, places))
    if left:
        notes.append(f"{left} of {len(whole.segments)} segments were ranked by no window, and are unranked")
    output = Output(whole.task, status="partial" if left else "ok", notes=tuple(notes))
    canonical = {id: i for i, id in enumerate(whole.canonical().ids)}
    groups = (sorted((whole.ids[item] for item in group), key=canonical.__getitem__) for group in places)
    return folded(with_groups(output, tuple(map(tuple, groups))), outputs)
