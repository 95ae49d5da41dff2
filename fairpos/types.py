"""The vocabulary: what is asked, and what comes back. (`fairpos.layout` has a prompt in tokens.)

Everything is keyed by segment id. A position is a property of one view, never a name for a segment.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from fairpos import tables
from fairpos.errors import InvalidRequest
from fairpos.votes import Vote

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

Task: TypeAlias = Literal["answer", "rank", "judge", "choose"]
TASKS: tuple[Task, ...] = ("answer", "rank", "judge", "choose")

_COLUMNS = ("rank", "id", "score", "", "slots (* first)")

Groups: TypeAlias = tuple[tuple[str, ...], ...]  # ids, best group first; those of one group are tied
# What a backend can do. generate: text; score: log-probabilities of given replies; attention: methods may own it; vote:
# several prompts decode in step.
Capability: TypeAlias = Literal["generate", "score", "attention", "vote"]
Status: TypeAlias = Literal[
    "ok",
    "partial",
    "unparsable",
    "cut_off",
    "refused",
    "empty",
    "malformed",
    "http_error",
    "timeout",
    "cancelled",
    "invalid",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One item of a list: a passage, an answer to be judged, an option.

    Attributes:
        text: What the model reads.
        id: The caller's name for it; unique in a request. Empty: the library numbers it "1", "2", ...
        score: A relevance known beforehand (a retriever's score), larger is better.
        title: Shown before the text where the template has a place for it.
        group: Methods that reorder keep the segments of a group (chunks of one document) together, in the order given.
        pinned: Methods that reorder leave it at this place, from 0; -1 is the last. A group counts as one place.
        links: Ids of the segments that this one refers to (citations, hyperlinks); None: not known.
        metadata: Whatever else its owner knows of it. No model sees it and no result depends on it.
        is_numbered: Its id is its number in the list that was given, for want of another; no model is shown that.
    """

    text: str
    id: str = ""
    score: float | None = None
    title: str | None = None
    group: str | None = None
    pinned: int | None = None
    links: tuple[str, ...] | None = None
    metadata: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)
    is_numbered: bool = field(default=False, compare=False, repr=False)

    @property
    def content(self) -> tuple[str, str]:
        """What the model sees of this segment; the canonical order sorts by it."""
        return (self.title or "", self.text)

    @property
    def name(self) -> str:
        """What a template's {id} shows: the id, or where that is a mere number, 6 hexadecimal digits of the content.

        A number in the list would tell the model where the segment stood.
        """
        if self.is_numbered:
            return hashlib.sha256("\n".join(self.content).encode("utf-8", "surrogatepass")).hexdigest()[:6]
        return " ".join(self.id.split())


@dataclass(frozen=True, slots=True)
class Citation:
    """Where an answer names a segment.

    Attributes:
        id: The segment's.
        start, end: The marker in the answer's text, in characters; end exclusive.
        text: The marker as it was written.
    """

    id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier message of the conversation.

    Attributes:
        role: "system", "user", "assistant", or what else the model's chat template knows.
        content: Its text. Nobody vouches for it: control tokens in it are broken up like those in segments.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question about a list of segments. A VIEW is a request with the same segments in another order.

    Attributes:
        task: "answer" (free text), "rank" (all segments), "judge" (the best of several answers), "choose" (an option).
        query: The question, query or instruction.
        segments: In the order in which the model shall see them.
        labels: What each segment is called in the prompt ("A", "2"), aligned with `segments`. None: labels belong to
            the slots, so the first segment shown is always "A" or "1". Given: labels travel with their segments.
        query_twice: The query stands before and after the segments, not only where the template has it.
        history: Messages that come before this question: a system prompt, earlier turns.
    """

    task: Task
    query: str
    segments: tuple[Segment, ...]
    labels: tuple[str, ...] | None = None
    query_twice: bool = False
    history: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InvalidRequest(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if not self.query.strip():
            raise InvalidRequest("the query is empty; it needs text")
        if self.labels is not None and len(self.labels) != len(self.segments):
            raise InvalidRequest(f"got {len(self.labels)} labels for {len(self.segments)} segments")
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise InvalidRequest(f"labels must differ from each other, got {list(self.labels)}")

    @property
    def ids(self) -> tuple[str, ...]:
        """Segment ids in the order shown."""
        return tuple(segment.id for segment in self.segments)

    def reordered(self, order: Sequence[int]) -> Request:
        """The view that shows segment `order[0]` first, and so on; labels given to segments travel with them."""
        if sorted(order) != list(range(len(self.segments))):
            raise InvalidRequest(f"order must be a permutation of 0..{len(self.segments) - 1}, got {list(order)}")
        return self.part(order)

    def part(self, numbers: Sequence[int]) -> Request:
        """Some of its segments, in this order; labels given to segments travel with them."""
        labels = None if self.labels is None else tuple(self.labels[i] for i in numbers)
        return replace(self, segments=tuple(self.segments[i] for i in numbers), labels=labels)

    def canonical(self) -> Request:
        """The view in the order of the segments' contents (then ids), the same for every input order."""
        order = sorted(range(len(self.segments)), key=lambda i: (*self.segments[i].content, self.segments[i].id))
        return self.reordered(order)


@dataclass(frozen=True, slots=True)
class Usage:
    """What an output cost. Units: tokens and calls.

    `cached` calls cost nothing, and neither do their tokens, which are counted apart: the first three counts are of
    what was paid. `reused_tokens` are those prompt tokens whose keys and values a segment store had.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cached: int = 0
    reused_tokens: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0

    def as_cached(self) -> Usage:
        """The same where nothing of it is paid any more."""
        return Usage(
            cached=self.calls + self.cached,
            cached_prompt_tokens=self.prompt_tokens + self.cached_prompt_tokens,
            cached_completion_tokens=self.completion_tokens + self.cached_completion_tokens,
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
            self.cached + other.cached,
            self.reused_tokens + other.reused_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.cached_completion_tokens + other.cached_completion_tokens,
        )


def grouped(ranking: Sequence[str], ties: Sequence[Sequence[str]]) -> Groups:
    """A ranking as groups, best first: ids that are tied share a group, any other id is one alone.

    Args:
        ranking: Ids, best first.
        ties: Groups of at least 2 ids that stand side by side in the ranking.
    """
    group_of = {id: tuple(group) for group in ties for id in group}
    return tuple(dict.fromkeys(group_of.get(id, (id,)) for id in ranking))


def lone_winner(groups: Groups) -> str | None:
    """The id that stands above all others; None for a tie at the top, which is nobody's win, and for no ranking."""
    return groups[0][0] if groups and len(groups[0]) == 1 else None


@dataclass(frozen=True, slots=True)
class View:
    """The record of one call: which order the model saw, and what came of it.

    Attributes:
        order: Segment ids as shown.
        status: Of the call. "cut_off": the reply ends at the limit of its tokens, so that it is no vote; of an answer
            the text is kept.
        text: What the model wrote, without a thinking trace.
        scores: By segment id.
        ranking, ties: As in `Output`.
        detail: What went wrong, in words.
        mass: The probability that the reply is any of the labels, 0 to 1; None: the call asked for none.
        bounds: By segment id, where the log-probability is known to be no more than this; such an id has no score.
        key: Under which the response is cached; empty: nowhere.
        vote: What several orders said that voted inside of this call, or of which this view was the first; None: none
            did.
    """

    order: tuple[str, ...]
    status: Status = "ok"
    text: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    ranking: tuple[str, ...] = ()
    detail: str = ""
    ties: Groups = ()
    mass: float | None = None
    bounds: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    vote: Vote | None = None

    @property
    def winner(self) -> str | None:
        """The id that this call put above all others; None for a tie, or where it gave no ranking."""
        return lone_winner(grouped(self.ranking, self.ties))


@dataclass(frozen=True, slots=True)
class Output:
    """What was found, by segment id.

    Attributes:
        task: As in the request.
        text: The answer, for task "answer".
        ranking: Segment ids, best first. Ids that nothing tells apart stand side by side in canonical order, which
            repeats and is the same for every order shown, and are named in `ties`. What nothing ranked isn't in it.
        scores: Larger is better; log-probabilities where the backend gives a distribution.
        winner: The best segment's id; None for a tie, or where nothing could be parsed.
        tie: Score of "equally good" on the same scale; None where ties were not offered.
        status: "ok", or why there is no result.
        usage: Tokens and calls over all views.
        views: One record per call, in the order of the calls.
        notes: What a user should know of this output, in words.
        ties: Groups of ids that stand side by side in `ranking` and are equally good.
        resolution: Scores that differ by less than this are equal: the backend can't tell them apart.
        segments: What was asked about, in canonical order, with its metadata; filled in by `FairModel`. Outputs that
            differ in nothing else are equal.
        confidence: The probability, 0 to 1, that stands behind the result, where a method asked for it (`route`): of a
            text the geometric mean over its tokens, of a winner its share.
        citations: Segments that the answer names, where the template shows names ({id}, or {label}).
        unknown_citations: Names in the answer that were not shown.
        left_out: Ids that no prompt showed, because all didn't fit into the context (`fairpos.fitting`).
    """

    task: Task
    text: str | None = None
    ranking: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    winner: str | None = None
    tie: float | None = None
    status: Status = "ok"
    usage: Usage = field(default_factory=Usage)
    views: tuple[View, ...] = ()
    notes: tuple[str, ...] = ()
    ties: Groups = ()
    resolution: float = 0.0
    segments: tuple[Segment, ...] = field(default=(), compare=False, repr=False)
    confidence: float | None = None
    left_out: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    unknown_citations: tuple[str, ...] = ()

    @property
    def groups(self) -> Groups:
        """The ranking as groups, best first; ids of one group are tied."""
        return grouped(self.ranking, self.ties)

    @property
    def votes(self) -> tuple[Vote, ...]:
        """What orders said that voted inside of its calls; `permutation` and `placements` let them."""
        return tuple(view.vote for view in self.views if view.vote is not None)

    @property
    def agreement(self) -> float | None:
        """The smallest share of the orders that agreed on a token, in (0, 1]; None where none voted inside of a call.

        The nearer to 0, the likelier it is that another order alone would have given another result.
        """
        return min((vote.agreement for vote in self.votes), default=None)

    @property
    def ranked(self) -> tuple[Segment, ...]:
        """The segments in the order of the ranking, with text and metadata."""
        by_id = {segment.id: segment for segment in self.segments}
        return tuple(by_id[id] for id in self.ranking if id in by_id)

    def to_dict(self) -> dict[str, object]:
        """The output as JSON has it; scores that are not finite are None."""
        return {each.name: tables.json_ready(getattr(self, each.name)) for each in fields(self)}

    def to_frame(self) -> pd.DataFrame:
        """A row for each segment in each view.

        Columns: view (from 0), slot (from 1), id, score (in the view), is_view_winner, status (of the view), rank (from
        1, in the whole output; None: unranked), output_score, is_winner.

        Raises:
            MissingDependency: pandas isn't installed.
        """
        rank = {id: number for number, id in enumerate(self.ranking, 1)}
        rows = [
            {
                "view": number,
                "slot": slot,
                "id": id,
                "score": view.scores.get(id),
                "is_view_winner": view.winner == id,
                "status": view.status,
                "rank": rank.get(id),
                "output_score": self.scores.get(id),
                "is_winner": self.winner == id,
            }
            for number, view in enumerate(self.views)
            for slot, id in enumerate(view.order, 1)
        ]
        return tables.frame_of(rows)

    def __rich__(self) -> Table:
        """For a terminal: the segments, best first, and what came of them in each slot."""
        return tables.rich_table(self._table_title, _COLUMNS, self._table_rows, self._table_caption)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return tables.html_table(self._table_title, _COLUMNS, self._table_rows, self._table_caption)

    @property
    def _table_title(self) -> str:
        found = self.text if self.text is not None else self.winner
        return f"{self.task}: {found if found is not None else 'no winner'} ({self.status})"

    @property
    def _table_rows(self) -> list[list[str]]:
        """Rank, id, score, its bar, and the slots in which the segment was shown, starred where it came first."""
        finite = [score for score in self.scores.values() if math.isfinite(score)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        shown = dict.fromkeys((*self.ranking, *self.scores, *(segment.id for segment in self.segments)))
        rows = []
        for number, id in enumerate(shown, 1):
            score = self.scores.get(id)
            share = 0.0 if score is None else (score - low) / (high - low) if high > low else 1.0
            slots = [
                f"{view.order.index(id) + 1}{'*' * (view.winner == id)}" for view in self.views if id in view.order
            ]
            rank = str(number) if id in self.ranking else "-"
            rows.append([rank, id, "" if score is None else f"{score:.4g}", tables.bar(share), " ".join(slots)])
        return rows

    @property
    def _table_caption(self) -> str:
        """How many views put another segment first than the output does; and the notes."""
        winners = [view.winner for view in self.views if view.ranking]
        flips = sum(winner != self.winner for winner in winners)
        told = [f"{flips} of {len(winners)} views put another one first"] if len(winners) > 1 else []
        return "; ".join((*told, *self.notes))
