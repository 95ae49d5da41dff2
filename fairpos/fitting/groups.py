"""Ask about groups that fit, then about what came of them: a map and a reduction, both free of the order shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.work import Work, together
from fairpos.fitting.base import Asked, Fit, register
from fairpos.fitting.lengths import Lengths
from fairpos.outputs import folded
from fairpos.plans.packing import in_groups
from fairpos.replies.citations import read_citations
from fairpos.types import Output, Request, Segment, Task


@register
@dataclass(frozen=True)
class Groups(Fit):
    """Reads all segments in groups that fit, each under the methods; then what came of the groups, until one is left.

    For an answer, the groups' answers are the passages of the next round, under the same question; for a verdict or a
    choice the groups' winners go on (all that are level, where several are). Groups are cut from the order of the
    contents (chunks of one `group` side by side) and shown in it, so that the result is the same for every order shown
    even with methods="none". `Output.views` has the calls of all rounds; in later ones of an answer they show
    "round 2 group 1" and so on.

    COST: with n segments at most n groups in the first round and half as many in each later one: fewer than 2 n + log2
    n times what the methods cost for one request, mostly far less (2 * all tokens / context, and one more). Options
    that are level go on together and may take more rounds, at most n.
    HURTS: what has to be put together from passages of two groups is put together from two short answers; a group
    without the answer may well make one up, which the last round then reads. Look at it on your own data.
    """

    name: ClassVar[str] = "groups"
    summary: ClassVar[str] = "reads all in groups that fit, then what came of the groups"
    tasks: ClassVar[frozenset[Task]] = frozenset({"answer", "choose", "judge"})
    in_one: ClassVar[bool] = False
    instead: ClassVar[str] = ": methods rank long lists by parts, for example windows+permutation or blitz+permutation"

    def work(
        self, requests: Sequence[Request], asked: Asked, progress: Callable[[int, int], None] | None
    ) -> Work[list[Output]]:
        """Requests side by side; what fits is asked as it is."""
        lengths = asked.lengths(requests, self.context)
        works = [
            asked.start([request])
            if len(request.segments) < 2 or lengths.needed(request) <= lengths.context
            else _ask_in_rounds(request, asked, lengths, _parts_of(_with_groups_together(request), lengths))
            for request in requests
        ]
        return _one_each(together(works, progress))


def _one_each(work: Work[list[list[Output]]]) -> Work[list[Output]]:
    outputs = yield from work
    return [output for [output] in outputs]


def _ask_in_rounds(request: Request, asked: Asked, lengths: Lengths, parts: Sequence[Request]) -> Work[list[Output]]:
    """One request, from its first groups on.

    Raises:
        TooLong: what came of the groups is too long to be read two by two.
    """
    standing, outputs, notes = _with_groups_together(request), list[Output](), list[str]()
    names: dict[str, list[str]] = {}  # of an answer: what may be cited in the next round
    rounds = 0
    while True:
        rounds += 1
        asks = [part for part in parts if request.task == "answer" or len(part.segments) > 1]
        found = yield from asked.start(asks)
        found = [_cited_through(output, names) for output in found]
        names = _names_of_round(request, found, rounds + 1)
        outputs += found
        notes += _notes_of_round(rounds, standing, parts, found)
        if request.task == "answer":
            after = _answers_as_segments(standing, found, rounds + 1)
        else:
            after = _winners(standing, parts, found)
        if len(after.segments) < 2 or len(after.segments) == len(standing.segments):
            return [_ended(request, after, outputs, notes, found)]
        standing = after
        needed = lengths.needed(standing)
        if needed <= lengths.context:
            break
        parts = _parts_of(standing, lengths)
        if sum(len(part.segments) == 1 for part in parts) > 1:
            raise lengths.refusal(standing, needed)
    [last] = yield from asked.start([standing])
    last = _cited_through(last, names)
    return [folded(replace(last, notes=(*notes, *last.notes)), [*outputs, last])]


def _with_groups_together(request: Request) -> Request:
    """The request in the order of its contents, the members of a group side by side in the order given."""
    rank = {id: place for place, id in enumerate(request.canonical().ids)}
    first: dict[str, int] = {}
    for segment in request.segments:
        if segment.group is not None:
            first[segment.group] = min(first.get(segment.group, len(rank)), rank[segment.id])
    places = [
        (rank[segment.id], 0) if segment.group is None else (first[segment.group], i)
        for i, segment in enumerate(request.segments)
    ]
    return request.reordered(sorted(range(len(places)), key=places.__getitem__))


def _parts_of(standing: Request, lengths: Lengths) -> list[Request]:
    """Groups that fit, in the order that stands.

    Raises:
        TooLong: a segment doesn't fit alone.
    """
    sizes = lengths.sizes(standing)
    room = lengths.context - lengths.frame(standing)
    while True:
        parts = [standing.part(group) for group in in_groups(range(len(sizes)), sizes, room)]
        excess = max(lengths.needed(part) for part in parts) - lengths.context
        if excess <= 0:
            return parts
        for part in parts:
            if len(part.segments) == 1 and lengths.needed(part) > lengths.context:
                raise lengths.refusal(part, lengths.needed(part))
        room -= excess  # labels and counts took a little more than was reckoned


def _answers_as_segments(standing: Request, found: Sequence[Output], number: int) -> Request:
    """The next round of an answer: what the groups said, named by round and group."""
    answers = [output.text for output in found if output.text]
    segments = tuple(Segment(id=_group_name(number, place), text=text) for place, text in enumerate(answers, 1))
    return replace(standing, segments=segments, labels=None)


def _names_of_round(request: Request, found: Sequence[Output], number: int) -> dict[str, list[str]]:
    """What the next round's answers may cite: groups, which stand for what they cited, and that itself."""
    names: dict[str, list[str]] = {}
    own = {segment.id: segment.name for segment in request.segments}
    answers = [output for output in found if output.text]
    for place, output in enumerate(answers, 1):
        ids = list(dict.fromkeys(citation.id for citation in output.citations))
        if ids:
            names[_group_name(number, place)] = ids
        for id in ids:
            names.setdefault(own[id], [])
            names[own[id]] = sorted({*names[own[id]], id})
    return names


def _group_name(number: int, place: int) -> str:
    return f"round {number} group {place}"


def _cited_through(output: Output, names: Mapping[str, Sequence[str]]) -> Output:
    """An answer made from answers, its citations led back to the segments; the first round's are as they are."""
    if not names or not output.text or not (output.citations or output.unknown_citations):
        return output
    found = read_citations(output.text, names)
    return replace(output, citations=found.citations, unknown_citations=found.unknown)


def _winners(standing: Request, parts: Sequence[Request], found: Sequence[Output]) -> Request:
    """The next round of a verdict: who won a group, or was level with its best; of a group without a verdict all.

    Those that won alone come first, so that what is level meets them.
    """
    verdicts = iter(found)
    alone, level = set[str](), set[str]()
    for part in parts:
        output = next(verdicts) if len(part.segments) > 1 else None
        best = part.ids if output is None or not output.groups else output.groups[0]
        (alone if output is not None and len(best) == 1 else level).update(best)
    chosen = [i for i, id in enumerate(standing.ids) if id in alone | level]
    return standing.part(sorted(chosen, key=lambda i: standing.ids[i] not in alone))


def _notes_of_round(number: int, standing: Request, parts: Sequence[Request], found: Sequence[Output]) -> list[str]:
    """How many groups there were, what they said of themselves, and which gave nothing."""
    notes = [f"fit=groups: round {number} read {len(standing.segments)} in {len(parts)} groups"]
    lost = Counter(output.status for output in found if output.text is None and not output.ranking)
    if lost:
        why = ", ".join(f"{status} {count}" for status, count in sorted(lost.items()))
        notes.append(f"fit=groups: {lost.total()} of {len(found)} groups of round {number} gave nothing: {why}")
    return notes + list(dict.fromkeys(note for output in found for note in output.notes))


def _ended(
    request: Request, after: Request, outputs: Sequence[Output], notes: Sequence[str], found_last: Sequence[Output]
) -> Output:
    """The output where no further round can be asked: one is left, none is, or nothing tells them apart."""
    found = Output(request.task, notes=tuple(notes))
    if not after.segments:
        return folded(replace(found, status=outputs[0].status), outputs)
    if len(after.segments) == 1:
        [only] = after.segments
        if request.task == "answer":
            answer = next(output for output in found_last if output.text)
            return folded(replace(answer, notes=found.notes), outputs)
        return folded(replace(found, winner=only.id, ranking=(only.id,)), outputs)
    note = f"fit=groups: nothing tells {len(after.segments)} of them apart, and they don't fit together"
    return folded(replace(found, status="partial", notes=(*found.notes, note)), outputs)
