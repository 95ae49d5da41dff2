"""Calibration data: questions with segments, of which one holds the answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from fairpos.calibration.profile import fingerprint_of
from fairpos.errors import InvalidRequest
from fairpos.files.items import Item, pairs_of, passage_item
from fairpos.files.records import Json, Lines, Record, text_of
from fairpos.types import Request, Segment, Task


def cyclic_views(item: Item, task: Task) -> list[Request]:
    """All cyclic shifts: every segment stands once in every slot, so what they say cancels."""
    request = replace(item.request, task=task)
    k = len(request.segments)
    return [request.reordered([(slot + shift) % k for slot in range(k)]) for shift in range(k)]


def samples_of(lines: Lines, count: int) -> list[Item]:
    """Items with `count` segments from records.

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
            found += _cut_pairs(number, record, count) if "pairs" in record else _cut_passages(number, record, count)
        except InvalidRequest as error:
            raise InvalidRequest(f"line {number}: {error}") from None
    if not found:
        raise InvalidRequest(f"none of the {len(lines.records)} records has {count} segments")
    return found


def chosen(samples: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` of them, drawn with the seed, in their own order."""
    if len(samples) <= limit:
        return list(samples)
    return [samples[i] for i in sorted(random.Random(seed).sample(range(len(samples)), limit))]


def fingerprint(samples: Sequence[Item]) -> str:
    """12 hexadecimal digits of all that a profile may depend on."""
    return fingerprint_of([_content_of(sample) for sample in samples])


def _content_of(item: Item) -> list[Json]:
    return [item.request.query, [list(s.content) for s in item.request.segments], item.gold, list(item.accepted)]


def _cut_passages(line: int, record: Record, count: int) -> list[Item]:
    """The gold passage and the first others, so many; none where there are fewer."""
    item = passage_item(line, record, task="answer")
    if len(item.request.segments) < count:
        return []
    others = [id for id in item.request.ids if id != item.gold]
    kept = {item.gold, *others[: count - 1]} if item.gold is not None else set(others[:count])
    shown = tuple(segment for segment in item.request.segments if segment.id in kept)
    return [replace(item, request=replace(item.request, segments=shown))]


def _cut_pairs(line: int, record: Record, count: int) -> list[Item]:
    """Lists of so many pairs, each asked for the value of its first key."""
    id, pairs = text_of(record, "id"), pairs_of(record)
    items = []
    for start in range(0, len(pairs) - count + 1, count):
        shown = pairs[start : start + count]
        key, value = shown[0]
        segments = tuple(Segment(id=name, text=f'"{name}": "{told}"') for name, told in shown)
        items.append(Item(f"{id}/{start // count}", Request("answer", key, segments), key, (value,), line))
    return items
