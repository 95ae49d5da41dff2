"""One output of an audit: an item, in one order, under one method; and the orders in which items are asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from fairpos.audit.tasks import AuditTask
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.files.records import Record
from fairpos.prompts import slot_labels
from fairpos.types import Output, Request
from fairpos.votes import Vote

# No reply came, or none that could be read: asking again may give one. Elsewhere the model has said what it says.
_WORTH_ASKING_AGAIN = frozenset({"http_error", "timeout", "malformed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Trial:
    """One output.

    Attributes:
        method: Text form.
        item: Id.
        order: Number of the order among the item's; `shown` has the ids.
        labels: Number of the labeling, where labels were crossed; None: the method's own labels.
        shown: Ids in the order given to the method.
        picked: The id that was named; None: a tie, or none.
        status: Of the output.
        score: 0 to 1; None where there is no gold.
        margin: Of two segments, the first id's score minus the second's (ids in the file's order); else None.
        ranking: Ids, best first, where there is one.
        gold_label: Index of the label of the gold segment in the prompt; None where several prompts were folded.
        text: The answer, where it is one.
        calls, prompt_tokens, completion_tokens, seconds: Cost, as if nothing had been remembered from other trials;
            seconds are the trial's part of its batch.
        detail: What went wrong, where something did.
        vote: What the orders said that voted inside of its calls, of the vote that they agree least on; None: none did.
    """

    method: str
    item: str
    order: int
    labels: int | None
    shown: tuple[str, ...]
    picked: str | None
    status: str
    score: float | None
    margin: float | None = None
    ranking: tuple[str, ...] = ()
    gold_label: int | None = None
    text: str | None = None
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    detail: str = ""
    vote: Vote | None = None

    @classmethod
    def of(cls, method: str, task: AuditTask, asked: Asked, output: Output, *, seconds: float) -> Trial:
        """What came of one view of an item."""
        item, view = asked.item, asked.view
        details = [each.detail for each in output.views if each.detail]
        return cls(
            method,
            item.id,
            asked.order,
            asked.labels,
            view.ids,
            task.picked(item, output),
            output.status,
            task.correct(item, output),
            _margin_of(item, output.scores),
            output.ranking,
            _gold_label(item, view, output),
            output.text,
            output.usage.calls + output.usage.cached,
            output.usage.prompt_tokens + output.usage.cached_prompt_tokens,
            output.usage.completion_tokens + output.usage.cached_completion_tokens,
            seconds,
            details[0] if details else "",
            min(output.votes, key=lambda vote: vote.agreement, default=None),
        )

    @property
    def slot(self) -> int | None:
        """The slot that was picked."""
        return self.shown.index(self.picked) if self.picked in self.shown else None

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return trial_key(self.method, self.item, self.order, self.labels)

    @property
    def is_lost(self) -> bool:
        """Whether nothing came of it: no verdict, no tie, no ranking, no text."""
        return self.status != "ok" and self.picked is None and not self.ranking and self.text is None

    @property
    def said(self) -> str | None:
        """What must stay when the order changes; an order without a verdict agrees with no other."""
        if self.picked is not None:
            return self.picked
        if self.status != "ok" and not self.ranking:
            return f"no verdict in order {self.order}"
        return None if self.text is None else f"text: {self.text.strip()}"

    @property
    def is_worth_asking_again(self) -> bool:
        """Whether the endpoint, and not the model, is why nothing came of it."""
        return self.is_lost and self.status in _WORTH_ASKING_AGAIN

    @property
    def reason(self) -> str:
        """Its status and, in brackets, what went wrong."""
        return f"{self.status} ({self.detail})" if self.detail else self.status

    def to_record(self) -> Record:
        """Its line in the journal."""
        return {"key": self.key, **asdict(self)}

    @classmethod
    def from_record(cls, record: Record) -> Trial:
        """A line of the journal.

        Raises:
            InvalidRequest: it is none.
        """
        names = {field.name for field in fields(cls)}
        values: dict[str, object] = {key: value for key, value in record.items() if key in names}
        for name in ("shown", "ranking"):
            value = values.get(name, [])
            if not isinstance(value, list):
                raise InvalidRequest(f"a trial's {name} must be a list of ids, got {value!r}")
            values[name] = tuple(map(str, value))
        vote = record.get("vote")
        if isinstance(vote, dict):
            values["vote"] = Vote.from_record(vote)
        try:
            return cls(**values)  # type: ignore[arg-type]
        except TypeError as error:
            raise InvalidRequest(f"not a trial of an audit: {error}") from None


@dataclass(frozen=True, slots=True)
class Asked:
    """One view of an item, before anything came of it: in which order and with which labeling it is shown."""

    item: Item
    order: int
    labels: int | None
    view: Request


def trial_key(method: str, item: str, order: int, labels: int | None) -> str:
    """The name of a trial in the journal."""
    return f"{method}|{item}|{order}|{labels}"


def anchor_of(item: Item) -> str:
    """The segment that visits the positions: the gold one; where there is none, or it is a tie, the file's first."""
    return item.gold if item.gold in item.request.ids else item.request.ids[0]


def gold_positions(k: int, count: int | None) -> list[int]:
    """Positions for the gold segment: all of k, or so many evenly spread ones, the first and the last among them.

    Raises:
        InvalidOption: fewer than 2, or more than k.
    """
    if count is None:
        return list(range(k))
    if not 2 <= count <= k:
        raise InvalidOption(f"orders must be in 2..{k} for {k} segments, got {count}")
    return sorted({round(i * (k - 1) / (count - 1)) for i in range(count)})


def views_of(item: Item, positions: Sequence[int]) -> list[Request]:
    """The item's request, rotated so that the gold segment (or the first) stands at each of the positions."""
    k = len(item.request.segments)
    anchor = item.request.ids.index(anchor_of(item))
    return [item.request.reordered([(anchor - position + i) % k for i in range(k)]) for position in positions]


def labelled(view: Request, labeling: int | None) -> Request:
    """The view with its labels turned by so many slots; None leaves them to the method."""
    if labeling is None:
        return view
    labels = slot_labels(view.task, len(view.segments))
    k = len(labels)
    return replace(view, labels=tuple(labels[(i + labeling) % k] for i in range(k)))


def _margin_of(item: Item, scores: Mapping[str, float]) -> float | None:
    ids = item.request.ids
    if len(ids) != 2 or not all(math.isfinite(scores.get(id, math.inf)) for id in ids):
        return None
    return scores[ids[0]] - scores[ids[1]]


def _gold_label(item: Item, view: Request, output: Output) -> int | None:
    if item.gold not in view.ids or len(output.views) != 1 or view.task == "answer":
        return None
    if view.labels is not None:
        names = sorted(view.labels, key=lambda label: (len(label), label))
        return names.index(view.labels[view.ids.index(item.gold)])
    order = output.views[0].order
    return order.index(item.gold) if item.gold in order else None
