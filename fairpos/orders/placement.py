"""Which segment goes into which slot: an order of relevance matched to an order of slots.

    ranking   ids, the most relevant first            ("c", "a", "b")
    slots     slot numbers, the best slot first       (0, 2, 1)
    shown     "c" into slot 0, "a" into 2, "b" into 1 ("c", "b", "a")

Pure functions: nothing here knows a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fairpos.errors import InvalidRequest
from fairpos.types import Segment


def by_relevance(scores: Mapping[str, float], segments: Sequence[Segment]) -> tuple[str, ...]:
    """Ids, the most relevant first; equal scores go by content, then id, so that the input order plays no part.

    Args:
        scores: A number for each segment's id, larger is better.
        segments: In any order.

    Raises:
        InvalidRequest: a segment has no score, or one that is no number.
    """
    for segment in segments:
        score = scores.get(segment.id)
        if score is None or math.isnan(score):
            raise InvalidRequest(f"segment {segment.id!r} needs a relevance, got {score}")
    ranked = sorted(segments, key=lambda segment: (-scores[segment.id], segment.content, segment.id))
    return tuple(segment.id for segment in ranked)


def ascending(count: int) -> tuple[int, ...]:
    """The last slot is the best one: (count - 1, ..., 0)."""
    return tuple(range(count))[::-1]


def descending(count: int) -> tuple[int, ...]:
    """The first slot is the best one: (0, ..., count - 1)."""
    return tuple(range(count))


def edges(count: int) -> tuple[int, ...]:
    """The first slot is the best one, then the last, the second, the one before the last, ...; the middle is worst."""
    return tuple(i // 2 if i % 2 == 0 else count - 1 - i // 2 for i in range(count))


def by_value(values: Sequence[float]) -> tuple[int, ...]:
    """Slots by a profile's values, the largest first; equal values go by slot, the earlier first."""
    return tuple(sorted(range(len(values)), key=lambda slot: (-values[slot], slot)))


def fitted(slots: Sequence[int], count: int) -> tuple[int, ...]:
    """An order of slots for another number of segments.

    Fewer segments than slots: the worst slots stay empty, which moves what stands behind them up. More segments: the
    worst slot is widened to hold the rest, so that good slots at either end stay at that end.

    Args:
        slots: A permutation of 0..n-1, the best first.
        count: Number of segments.

    Returns:
        A permutation of 0..count-1, the best first.
    """
    if sorted(slots) != list(range(len(slots))) or not slots:
        raise InvalidRequest(f"slots must be a permutation of 0..n-1 with n at least 1, got {list(slots)}")
    extra = count - len(slots)
    if extra <= 0:
        used = slots[:count]
        place = {slot: i for i, slot in enumerate(sorted(used))}
        return tuple(place[slot] for slot in used)
    worst = slots[-1]
    moved = [slot if slot <= worst else slot + extra for slot in slots]
    return (*moved, *range(worst + 1, worst + 1 + extra))


def place(
    ranking: Sequence[str],
    slots: Sequence[int],
    *,
    pinned: Mapping[str, int] | None = None,
    groups: Sequence[Sequence[str]] = (),
) -> tuple[str, ...]:
    """Puts the most relevant segment into the best slot, the next into the second best, and so on.

    Args:
        ranking: All ids, the most relevant first.
        slots: A permutation of 0..n-1, the best first; fitted where n is not the number of segments.
        pinned: Ids that have a place of their own, from 0; negative counts from the end. The others share what is left.
        groups: Ids that stay together in the order given. A group is as relevant as its best member and takes one place
            (also in the numbers of `pinned`, where any member stands for its group).

    Returns:
        Ids in the order in which they are to be shown.

    Raises:
        InvalidRequest: ids that repeat or are unknown, a place outside of the list, or one taken twice.
    """
    pinned = pinned or {}
    if len(set(ranking)) != len(ranking):
        raise InvalidRequest(f"ids must differ from each other, got {list(ranking)}")
    for id in [*pinned, *(id for group in groups for id in group)]:
        if id not in ranking:
            raise InvalidRequest(f"unknown segment id {id!r}; known: {', '.join(ranking)}")
    units = _join_groups(ranking, groups)
    fixed: dict[int, tuple[str, ...]] = {}
    for id, wanted in pinned.items():
        if not -len(units) <= wanted < len(units):
            raise InvalidRequest(
                f"segment {id!r} is pinned to place {wanted}; there are {len(units)} places, counted from 0 "
                "(or from -1 at the end)"
            )
        unit = next(unit for unit in units if id in unit)
        if fixed.setdefault(wanted % len(units), unit) != unit:
            raise InvalidRequest(f"two segments are pinned to place {wanted}, {id!r} is the second")
    if len(set(fixed.values())) != len(fixed):
        raise InvalidRequest(f"a group can't be pinned to two places; got {dict(pinned)}")
    free = (slot for slot in fitted(slots, len(units)) if slot not in fixed)
    rest = (unit for unit in units if unit not in fixed.values())
    shown = fixed | dict(zip(free, rest, strict=True))
    return tuple(id for slot in range(len(units)) for id in shown[slot])


def _join_groups(ranking: Sequence[str], groups: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Groups and single ids, in the order of their best member."""
    unit_of: dict[str, tuple[str, ...]] = {}
    for group in groups:
        for id in group:
            if id in unit_of:
                raise InvalidRequest(f"segment {id!r} is in two groups, or twice in one")
            unit_of[id] = tuple(group)
    return list(dict.fromkeys(unit_of.get(id, (id,)) for id in ranking))
