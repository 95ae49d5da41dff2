"""What came of one record, as it stands on a line of a result file.

`{id, ranking, ties, unranked, scores, status, calls, usage, notes}`, and `fallback` where the input order was taken for
want of a ranking. `ranking` is best first; `ties` names groups of it that are level. Every call has its `order`,
`status`, and what there is of `text`, `detail`, `mass`, `bounds` and `vote` (`fairpos.votes`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairpos.errors import InvalidRequest
from fairpos.files.records import Json, Record, objects_of
from fairpos.ranking.items import RankItem
from fairpos.types import Groups, Output, Usage, View, grouped

FALLBACK = "input order"


@dataclass(frozen=True, slots=True)
class RankResult:
    """One record's result.

    Attributes:
        id: The record's.
        ranking: Passage ids, best first; empty where no ranking came back.
        ties: Groups of ids that stand side by side in the ranking and are equally good.
        unranked: All other passage ids of the record.
        scores: By id, larger is better.
        status: "ok", "partial", or why there is no ranking.
        calls: A record for each call.
        usage: Tokens and calls.
        notes: What a user should know of it, in words.
        fallback: What stands in for a ranking; empty: nothing does.
    """

    id: str
    ranking: tuple[str, ...] = ()
    ties: Groups = ()
    unranked: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    status: str = "ok"
    calls: tuple[Record, ...] = ()
    usage: Usage = Usage()
    notes: tuple[str, ...] = ()
    fallback: str = ""

    @property
    def groups(self) -> Groups:
        """The ranking as groups, best first; ids of one group are tied."""
        return grouped(self.ranking, self.ties)

    @property
    def reason(self) -> str:
        """The status and, in brackets, what the first of the failed calls says."""
        details = [str(call["detail"]) for call in self.calls if call.get("detail")]
        return f"{self.status} ({details[0]})" if details else self.status

    def in_order_of(self, item: RankItem) -> RankResult:
        """The same with the item's own order for a ranking, which says so."""
        return dataclasses.replace(self, ranking=item.ids, unranked=(), fallback=FALLBACK)

    def to_record(self) -> dict[str, object]:
        """The line of a result file."""
        record: dict[str, object] = {
            "id": self.id,
            "ranking": list(self.ranking),
            "ties": [list(group) for group in self.ties],
            "unranked": list(self.unranked),
            "scores": {id: score if math.isfinite(score) else None for id, score in self.scores.items()},
            "status": self.status,
            "calls": list(self.calls),
            "usage": dataclasses.asdict(self.usage),
            "notes": list(self.notes),
        }
        return record | ({"fallback": self.fallback} if self.fallback else {})

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> RankResult:
        """A result from its line, also from one of version 0.1, which had no ties.

        Raises:
            InvalidRequest: it is no such line.
        """
        scores, usage = record.get("scores"), record.get("usage")
        if not isinstance(scores, dict) or not isinstance(usage, dict) or "id" not in record:
            raise InvalidRequest(f"a ranking's line needs id, ranking, scores and usage, got {sorted(record)}")
        ties = record.get("ties", [])
        return cls(
            id=str(record["id"]),
            ranking=_ids_of(record.get("ranking"), "ranking"),
            ties=tuple(_ids_of(group, "ties") for group in ties) if isinstance(ties, list) else (),
            unranked=_ids_of(record.get("unranked"), "unranked"),
            scores={id: float(str(score)) if score is not None else -math.inf for id, score in scores.items()},
            status=str(record.get("status")),
            calls=tuple(objects_of(record.get("calls"), "calls")),
            usage=Usage(**{name: int(str(count)) for name, count in usage.items()}),
            notes=_ids_of(record.get("notes", []), "notes"),
            fallback=str(record.get("fallback", "")),
        )


def result_of(item: RankItem, output: Output) -> RankResult:
    """What an output says of an item."""
    ranked = set(output.ranking)
    canonical = item.request.canonical().ids if item.request else ()
    return RankResult(
        id=item.id,
        ranking=output.ranking,
        ties=output.ties,
        unranked=tuple(id for id in (*canonical, *item.hidden) if id not in ranked),
        scores=output.scores,
        status=output.status,
        calls=tuple(map(_record_of_call, output.views)),
        usage=output.usage,
        notes=(*item.notes, *output.notes),
    )


def _record_of_call(view: View) -> Record:
    call: Record = {"order": list(view.order), "status": view.status}
    if view.text is not None:
        call["text"] = view.text
    if view.detail:
        call["detail"] = view.detail
    if view.mass is not None:
        call["mass"] = view.mass
    if view.bounds:
        call["bounds"] = dict(view.bounds)
    if view.vote is not None:
        call["vote"] = dataclasses.asdict(view.vote)
    return call


def _ids_of(value: Json, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name} must be a list, got {value!r}")
    return tuple(map(str, value))
