"""Keep the most relevant segments, as many as fit, and say which were left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.work import Work
from fairpos.fitting.base import Asked, Fit, register
from fairpos.fitting.lengths import Lengths
from fairpos.options import option
from fairpos.orders.placement import by_relevance
from fairpos.plans.packing import kept
from fairpos.relevance.base import AUTO, find_relevance, source_for
from fairpos.relevance.model_read import ModelRead
from fairpos.types import Output, Request, Task

_NAMED = 20  # ids that a note names; `Output.left_out` has all


@register
@dataclass(frozen=True)
class Keep(Fit):
    """Leaves out the least relevant segments until the rest fits; `Output.left_out` and a note name them.

    Segments are taken in the order of their relevance, equal ones by content; one that no longer fits is passed over,
    and a shorter one behind it may still be taken. What is kept stays in the order shown. Before that everything else
    happens: methods see the kept segments alone, and so do calibrations for a number of segments. A ranking of which
    something was left out is "partial".

    COST: prompts are counted twice; the relevance's own cost where something has to go.
    HURTS: what is left out can't be found, whatever it says: a question whose answer shares no word with it loses its
    passage under bm25. Leaving passages out also moves the others.

    Attributes:
        relevance: A source ("given", "bm25", "embedding", "icr", ...), or "auto": the scores given with the segments
            if all have one, else bm25. One that reads the model's attention reads all segments in one prompt, which
            has to fit.
    """

    name: ClassVar[str] = "keep"
    summary: ClassVar[str] = "leaves out the least relevant segments, and says which"
    tasks: ClassVar[frozenset[Task]] = frozenset({"answer", "rank", "choose"})
    instead: ClassVar[str] = ": an answer that nobody read can't be judged; fit='groups' reads all of them"
    relevance: str = option(AUTO, nature="relevance")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relevance != AUTO:
            find_relevance(self.relevance)

    def work(
        self, requests: Sequence[Request], asked: Asked, progress: Callable[[int, int], None] | None
    ) -> Work[list[Output]]:
        """What fits is asked as it is."""
        lengths = asked.lengths(requests, self.context)
        parts = [self._kept_part(request, lengths) for request in requests]
        return self._work_on_parts(requests, parts, asked.start(parts, progress), lengths)

    def _work_on_parts(
        self, requests: Sequence[Request], parts: Sequence[Request], work: Work[list[Output]], lengths: Lengths
    ) -> Work[list[Output]]:
        outputs = yield from work
        return [
            self._told(output, request, part, lengths)
            for output, request, part in zip(outputs, requests, parts, strict=True)
        ]

    def _kept_part(self, request: Request, lengths: Lengths) -> Request:
        """The request with as many segments as fit.

        Raises:
            TooLong: not even one does.
        """
        sizes = lengths.sizes(request)
        if not sizes or lengths.needed(lengths.largest(request, sizes)) <= lengths.context:
            return request
        number = {id: i for i, id in enumerate(request.ids)}
        scores = self._relevance_scores(request, lengths)
        order = [number[id] for id in by_relevance(scores, request.segments)]
        room = lengths.context - lengths.frame(request)
        chosen = list(kept(order, sizes, room, lengths.together(request)))
        while chosen:
            part = request.part(sorted(chosen))
            shown = lengths.largest(part, [sizes[i] for i in sorted(chosen)])
            if lengths.needed(shown) <= lengths.context:
                return part
            chosen.pop()  # labels and counts took a little more than was reckoned
        shortest = request.part([min(range(len(sizes)), key=sizes.__getitem__)])
        raise lengths.refusal(shortest, lengths.needed(shortest))

    def _relevance_scores(self, request: Request, lengths: Lengths) -> dict[str, float]:
        source = find_relevance(source_for(self.relevance, request.segments))
        if isinstance(source, ModelRead):
            source = source.on(lengths.backend)
        return source.scores(request.query, request.segments)

    def _told(self, output: Output, request: Request, part: Request, lengths: Lengths) -> Output:
        """The output with what was left out."""
        if len(part.segments) == len(request.segments):
            return output
        there = set(part.ids)
        left = tuple(id for id in request.canonical().ids if id not in there)
        named = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
        reckoned = "" if lengths.is_counted else ", lengths reckoned from bytes"
        note = (
            f"fit=keep: {len(part.segments)} of {len(request.segments)} fit into {lengths.context} tokens{reckoned}; "
            f"left out by {source_for(self.relevance, request.segments)}: {named}"
        )
        status = "partial" if output.task == "rank" and output.status == "ok" else output.status
        return replace(output, left_out=left, status=status, notes=(*output.notes, note))
