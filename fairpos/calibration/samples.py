"""Calibration data: questions with segments, of which one holds the answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fairpos.calibration.profile import fingerprint_of
from fairpos.errors import InvalidRequest
from fairpos.files.records import Json, Lines, Record, segments_of, text_of
from fairpos.types import Request, Segment, Task, as_segments


@dataclass(frozen=True, slots=True)
class Sample:
    """One calibration question.

    Attributes:
        id: Of its record.
        query: The question.
        segments: As many as the profile has slots.
        gold: Id of the segment that holds the answer; None: not known.
        answers: Accepted answers; the first is the one whose probability is measured.
    """

    id: str
    query: str
    segments: tuple[Segment, ...]
    gold: str | None = None
    answers: tuple[str, ...] = ()

    def views(self, task: Task) -> list[Request]:
        """All cyclic shifts: every segment stands once in every slot, so what they say cancels."""
        k = len(self.segments)
        request = Request(task, self.query, self.segments)
        return [request.reordered([(slot + shift) % k for slot in range(k)]) for shift in range(k)]

    @property
    def content(self) -> list[Json]:
        """All that a profile may depend on, as JSON."""
        return [self.query, [list(s.content) for s in self.segments], self.gold, list(self.answers)]


def samples_of(lines: Lines, count: int) -> list[Sample]:
    """Samples with `count` segments from records.

    Two forms of records: `{id, query, passages: [{id, title?, text}], gold?, answers?}`, of which the gold passage and
    the first others are taken; and `{id, pairs: [[key, value], ...]}`, which is cut into lists of `count` pairs, each
    asked for the value of its first key. Records with too few segments are left out.

    Args:
        lines: What was read from a file.
        count: Number of segments, at least 2.

    Raises:
        InvalidRequest: a line can't be used, or no record has enough segments.
    """
    if count < 2:
        raise InvalidRequest(f"a profile needs at least 2 segments, got {count}")
    for bad in lines.bad:
        raise InvalidRequest(f"line {bad.line}: {bad.reason}")
    found = []
    for number, record in lines.records:
        try:
            found += _pairs(record, count) if "pairs" in record else _passages(record, count)
        except InvalidRequest as error:
            raise InvalidRequest(f"line {number}: {error}") from None
    if not found:
        raise InvalidRequest(f"none of the {len(lines.records)} records has {count} segments")
    return found


def chosen(samples: Sequence[Sample], limit: int, seed: int) -> list[Sample]:
    """At most `limit` of them, drawn with the seed, in their own order."""
    if len(samples) <= limit:
        return list(samples)
    return [samples[i] for i in sorted(random.Random(seed).sample(range(len(samples)), limit))]


def fingerprint(samples: Sequence[Sample]) -> str:
    """12 hexadecimal digits of all that a profile may depend on."""
    return fingerprint_of([sample.content for sample in samples])


def _passages(record: Record, count: int) -> list[Sample]:
    id, query = text_of(record, "id"), text_of(record, "query")
    segments = as_segments(segments_of(record, "passages"))
    gold = _gold(record)
    if gold is not None and gold not in {segment.id for segment in segments}:
        raise InvalidRequest(f"gold {gold!r} is not the id of a passage")
    if len(segments) < count:
        return []
    others = [segment.id for segment in segments if segment.id != gold]
    kept = {gold, *others[: count - 1]} if gold is not None else set(others[:count])
    shown = tuple(segment for segment in segments if segment.id in kept)
    return [Sample(id, query, shown, gold, _answers(record))]


def _gold(record: Record) -> str | None:
    """The id of the gold passage; the first one where a list is given."""
    value = record.get("gold")
    if isinstance(value, list) and value:
        value = value[0]
    if value is None:
        return None
    return text_of({"gold": value}, "gold")


def _answers(record: Record) -> tuple[str, ...]:
    value = record.get("answers", record.get("answer", []))
    items = value if isinstance(value, list) else [value]
    return tuple(text_of({"answers": item}, "answers") for item in items)


def _pairs(record: Record, count: int) -> list[Sample]:
    id, pairs = text_of(record, "id"), record["pairs"]
    if not isinstance(pairs, list):
        raise InvalidRequest("pairs must be a list of [key, value]")
    texts = []
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) and x for x in pair)):
            raise InvalidRequest(f"pairs must be a list of [key, value], got {pair!r}")
        texts.append((str(pair[0]), str(pair[1])))
    return [
        Sample(
            f"{id}/{start // count}",
            query=texts[start][0],
            segments=tuple(Segment(id=key, text=f'"{key}": "{value}"') for key, value in texts[start : start + count]),
            gold=texts[start][0],
            answers=(texts[start][1],),
        )
        for start in range(0, len(texts) - count + 1, count)
    ]
