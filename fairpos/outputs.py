"""What methods and rankers do with outputs: order ids by score, fold the views of one request into one output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fairpos.types import Output, Usage


def by_score(scores: Mapping[str, float]) -> tuple[str, ...]:
    """Ids by score, largest first; ties by id, so that results repeat whatever the order shown."""
    return tuple(sorted(scores, key=lambda id: (-scores[id], id)))


def folded(output: Output, outputs: Sequence[Output]) -> Output:
    """The output with the cost and the records of all that it was made from."""
    return replace(
        output,
        usage=sum((o.usage for o in outputs), Usage()),
        views=tuple(view for o in outputs for view in o.views),
    )
