"""Which calls run together on a local model: pure bookkeeping, no tensors.

generations   voted: each by itself; else those of one attention and one decoding, of like length
scores        those that differ only after their segments: one prefill for what they share; else of like length
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from fairpos.backends.base import AttentionOwner, Call, Decoding, Generate, Score
from fairpos.layout import Layout

AnyCall = TypeVar("AnyCall", bound=Call)


@dataclass(frozen=True, slots=True)
class Placed(Generic[AnyCall]):
    """A call, where its reply belongs, and its prompt in tokens."""

    place: int
    call: AnyCall
    layout: Layout


def alike_generations(calls: Sequence[Placed[Generate]]) -> list[list[Placed[Generate]]]:
    """Groups that can decode as one batch, voted ones aside."""
    return _groups(
        calls,
        lambda placed: (
            placed.call.attend,
            "by row" if placed.call.decoding.by_row else _decoding_key(placed.call.decoding),
            bool(placed.call.listing),
        ),
    )


def alike_scores(calls: Sequence[Placed[Score]]) -> list[list[Placed[Score]]]:
    """Groups whose prompts are the same up to the end of their segments, or wholly where the attention needs that."""

    def key(placed: Placed[Score]) -> Hashable:
        owner, layout = placed.call.attend, placed.layout
        end = len(layout) if owner and owner.needs_whole_prompt else layout.suffix_start
        return owner, layout.input_ids[:end], layout.sets, layout.ids, layout.links

    return _groups(calls, key)


def by_owner(calls: Sequence[Placed[AnyCall]]) -> list[list[Placed[AnyCall]]]:
    """Groups of one attention each."""
    return _groups(calls, lambda placed: (placed.call.attend,))


def of_like_length(calls: Sequence[Placed[AnyCall]], batch_tokens: int) -> Iterator[list[Placed[AnyCall]]]:
    """Batches of prompts of like length that have at most so many tokens with their padding; a longer prompt alone."""
    chosen: list[Placed[AnyCall]] = []
    for placed in sorted(calls, key=lambda placed: len(placed.layout)):
        if chosen and len(placed.layout) * (len(chosen) + 1) > batch_tokens:
            yield chosen
            chosen = []
        chosen.append(placed)
    if chosen:
        yield chosen


def in_turn(calls: Sequence[Placed[AnyCall]], most: int, batch_tokens: int) -> Iterator[list[Placed[AnyCall]]]:
    """Batches of at most so many prompts, and so many of their tokens; a longer prompt alone."""
    chosen: list[Placed[AnyCall]] = []
    for placed in calls:
        total = len(placed.layout) + sum(len(other.layout) for other in chosen)
        if chosen and (len(chosen) == most or total > batch_tokens):
            yield chosen
            chosen = []
        chosen.append(placed)
    if chosen:
        yield chosen


def owner_of(calls: Sequence[Placed[AnyCall]]) -> AttentionOwner | None:
    """The attention that a group has in common."""
    return calls[0].call.attend


def _groups(
    calls: Sequence[Placed[AnyCall]], key: Callable[[Placed[AnyCall]], Hashable]
) -> list[list[Placed[AnyCall]]]:
    groups: dict[Hashable, list[Placed[AnyCall]]] = defaultdict(list)
    for placed in calls:
        groups[key(placed)].append(placed)
    return list(groups.values())


def _decoding_key(decoding: Decoding) -> tuple[object, ...]:
    """Equal for decodings that can run as one batch; transformers' objects are told apart as objects."""
    values = (getattr(decoding, field.name) for field in fields(decoding))
    return tuple(v if v is None or isinstance(v, int | float) else id(v) for v in values)
