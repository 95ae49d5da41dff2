"""Lines of a verdict file, and the games that a verdict is made of.

A verdict is `{id, winner, status, ids, scores, tie, views, usage, methods, judge, notes}` and, where the record had
them, `gold`, `correct`, `models`, `group`. `winner` is an answer's id or null: a tie where `status` is "ok", else no
verdict. Every view has its `order`, `status`, `winner`, `scores` and `text`, the judge's words; and, where it failed,
`detail`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairpos.errors import InvalidRequest
from fairpos.files.records import Json, Record, objects_of, optional_text, text_of
from fairpos.types import Usage

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ViewVerdict:
    """What came of one order.

    Attributes:
        order: Ids in the order shown.
        status: "ok", or why there is nothing.
        winner: An id; None: a tie, or nothing.
        scores: By id; -inf is the logarithm of probability 0, which is null in JSON.
        text: The judge's words; None where it gave a distribution.
        detail: What went wrong.
        extra: Further fields of the line, kept as they are.
    """

    order: tuple[str, ...]
    status: str
    winner: str | None = None
    scores: Scores = field(default_factory=dict)
    text: str | None = None
    detail: str = ""
    extra: Record = field(default_factory=dict)

    @property
    def is_decided(self) -> bool:
        """Whether it is a verdict: see `Verdict.is_decided`."""
        return _is_decided(self.status, self.winner, self.scores)

    @classmethod
    def from_record(cls, record: Record) -> ViewVerdict:
        """A view of a line.

        Raises:
            InvalidRequest: it is none.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(
            _ids_of(record, "order"),
            text_of(record, "status"),
            optional_text(record, "winner"),
            _scores_of(record.get("scores")),
            None if record.get("text") is None else str(record["text"]),
            str(record.get("detail") or ""),
            {key: value for key, value in record.items() if key not in known},
        )

    def to_record(self) -> Record:
        """The view as JSON."""
        return {
            "order": list(self.order),
            "status": self.status,
            "winner": self.winner,
            "scores": _finite_scores(self.scores),
            "text": self.text,
            **({"detail": self.detail} if self.detail else {}),
            **self.extra,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line of a verdict file.

    Attributes:
        id: Of the record.
        winner: An answer's id; None: a tie where `status` is "ok", else no verdict.
        status: "ok", "partial", or why there is no verdict.
        ids: Of the answers, in the record's order.
        scores, tie: As in `fairpos.types.Output`.
        views: What came of each order.
        usage: Calls and tokens.
        methods, judge: How it was found, and by whom.
        notes: What a reader should know.
        gold: Ids of the right answers, or "tie"; empty: not known.
        models: Who wrote which answer.
        group: The question that it belongs to: verdicts on one question are not independent.
        extra: Further fields of the line, kept as they are.
    """

    id: str
    winner: str | None
    status: str
    ids: tuple[str, ...]
    scores: Scores = field(default_factory=dict)
    tie: float | None = None
    views: tuple[ViewVerdict, ...] = ()
    usage: Usage = Usage()
    methods: str = ""
    judge: str = ""
    notes: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    extra: Record = field(default_factory=dict)

    @property
    def is_decided(self) -> bool:
        """Whether it is a verdict: a winner, or a tie. "partial" with scores is, where an endpoint lists few labels."""
        return _is_decided(self.status, self.winner, self.scores)

    @property
    def is_correct(self) -> bool | None:
        """Whether a gold answer won, or a tie was rightly found; None where there is no gold."""
        if not self.gold:
            return None
        if self.winner is None:
            return self.is_decided and not set(self.gold) & set(self.ids)
        return self.winner in self.gold

    @property
    def reason(self) -> str:
        """The status and, in brackets, what the first of the failed views says."""
        detail = next((view.detail for view in self.views if view.detail), "")
        return f"{self.status} ({detail})" if detail else self.status

    @classmethod
    def from_record(cls, record: Record) -> Verdict:
        """A verdict from its line.

        Raises:
            InvalidRequest: it is none; the message says why.
        """
        known = {f.name for f in dataclasses.fields(cls)} | {"correct"}
        models, notes, gold = record.get("models") or {}, record.get("notes") or [], record.get("gold")
        if not isinstance(models, dict) or not isinstance(notes, list):
            raise InvalidRequest(f"verdict {record.get('id')!r}: models must be an object and notes a list")
        return cls(
            id=text_of(record, "id"),
            winner=optional_text(record, "winner"),
            status=text_of(record, "status"),
            ids=_ids_of(record, "ids"),
            scores=_scores_of(record.get("scores")),
            tie=None if record.get("tie") is None else _number_of(record["tie"]),
            views=tuple(map(ViewVerdict.from_record, objects_of(record.get("views") or [], "views"))),
            usage=_usage_of(record.get("usage")),
            methods=str(record.get("methods") or ""),
            judge=str(record.get("judge") or ""),
            notes=tuple(map(str, notes)),
            gold=tuple(map(str, gold)) if isinstance(gold, list) else () if gold is None else (str(gold),),
            models={id: str(model) for id, model in models.items()},
            group=optional_text(record, "group"),
            extra={key: value for key, value in record.items() if key not in known},
        )

    def to_record(self) -> Record:
        """The line as JSON."""
        record: Record = {
            "id": self.id,
            "winner": self.winner,
            "status": self.status,
            "ids": list(self.ids),
            "scores": _finite_scores(self.scores),
            "tie": self.tie if self.tie is not None and math.isfinite(self.tie) else None,
            "views": [view.to_record() for view in self.views],
            "usage": dict(dataclasses.asdict(self.usage)),
            "methods": self.methods,
            "judge": self.judge,
            "notes": list(self.notes),
        }
        if self.gold:
            gold: Json = list(self.gold) if len(self.gold) > 1 else self.gold[0]
            record |= {"gold": gold, "correct": self.is_correct}
        if self.models:
            record["models"] = dict(self.models)
        if self.group is not None:
            record["group"] = self.group
        return record | self.extra


@dataclass(frozen=True, slots=True)
class PlayedGame:
    """One game of two answers, as tools that count games keep it.

    Attributes:
        winner: An answer's id; None: a tie.
        failed: No verdict came of it; `winner` says nothing then.
        evidence: The judge's words; where it gave a distribution, that.
    """

    winner: str | None
    failed: bool
    evidence: str

    @classmethod
    def of(cls, verdict: Verdict | ViewVerdict, evidence: ViewVerdict | None) -> PlayedGame:
        """The game that a verdict makes, with the evidence of a view."""
        failed = not verdict.is_decided
        return cls(None if failed else verdict.winner, failed, "" if evidence is None else _evidence_of(evidence))


def two_games(verdict: Verdict, first: str, second: str) -> tuple[PlayedGame, PlayedGame]:
    """A verdict on two answers as two games, the first one with `first` shown first.

    The games are those of the views, if "both or a tie" makes the verdict of them; otherwise (a mean over orders, a
    method that is free of order, one order only) both games carry the verdict itself, because the tools count games.
    """
    by_order = {view.order: view for view in reversed(verdict.views)}
    one, two = by_order.get((first, second)), by_order.get((second, first))
    if one is not None and two is not None:
        games = PlayedGame.of(one, one), PlayedGame.of(two, two)
        agreed = games[0].winner if games[0].winner == games[1].winner else None
        if verdict.is_decided and agreed == verdict.winner and not (games[0].failed or games[1].failed):
            return games
    shown = one or two or (verdict.views[0] if verdict.views else None)
    return PlayedGame.of(verdict, one or shown), PlayedGame.of(verdict, two or shown)


def models_of(record: Mapping[str, Json]) -> dict[str, str]:
    """Which model wrote which answer of a record: `model` of an answer, or `model_a` and `model_b`."""
    answers = record.get("answers")
    if not isinstance(answers, list):
        found = {slot: optional_text(record, f"model_{slot.lower()}") for slot in "AB"}
        return {slot: model for slot, model in found.items() if model is not None}
    return {
        str(answer.get("id") or number): text_of(answer, "model")
        for number, answer in enumerate(answers, 1)
        if isinstance(answer, dict) and answer.get("model") is not None
    }


def _is_decided(status: str, winner: str | None, scores: Scores) -> bool:
    return winner is not None or status == "ok" or (status == "partial" and bool(scores))


def _evidence_of(view: ViewVerdict) -> str:
    if view.text:
        return view.text
    return "log-probabilities: " + ", ".join(f"{id} {p}" for id, p in view.scores.items()) if view.scores else ""


def _finite_scores(scores: Scores) -> Record:
    """JSON has no infinity: null is the log of probability 0."""
    return {id: score if math.isfinite(score) else None for id, score in scores.items()}


def _scores_of(value: Json) -> Scores:
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"scores must be an object, got {value!r}")
    return {id: -math.inf if score is None else _number_of(score) for id, score in (value or {}).items()}


def _number_of(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"a score must be a number or null, got {value!r}")
    return float(value)


def _ids_of(record: Record, key: str) -> tuple[str, ...]:
    ids = record.get(key)
    if not isinstance(ids, list) or not all(isinstance(id, str | int) for id in ids):
        raise InvalidRequest(f"verdict {record.get('id')!r} has no list of ids in {key!r}, got {ids!r}")
    return tuple(map(str, ids))


def _usage_of(value: Json) -> Usage:
    counts: Sequence[tuple[str, Json]] = list(value.items()) if isinstance(value, dict) else []
    names = {f.name for f in dataclasses.fields(Usage)}
    return Usage(**{name: int(n) for name, n in counts if name in names and isinstance(n, int)})
