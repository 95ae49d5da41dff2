"""What methods and rankers do with outputs: rank by score, tell ties, fold the views of one request into one.

A tie is nobody's win. One rule for every task, ranker, method and backend: two scores are equal where they differ by
less than the resolution of the backend that gave them (`Reply.resolution`), and what is equal is tied.
"""

from __future__ import annotations

import math
import string
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from fairpos.types import Groups, Output, Request, Usage, lone_winner

# Sums of the very same numbers in another order differ by less, whatever the backend.
ROUNDING = 1e-9

Id = TypeVar("Id", bound=Hashable)


def level(one: float, other: float, resolution: float = 0.0) -> bool:
    """Whether two scores are equal, as far as the backend can tell.

    Args:
        one: A score.
        other: Another one on the same scale.
        resolution: Scores that differ by less are equal; 0: but for the rounding of sums.
    """
    return one == other or abs(one - other) < max(resolution, ROUNDING)


def score_groups(scores: Mapping[str, float], ids: Sequence[str], resolution: float = 0.0) -> Groups:
    """Ids by score, largest first; those whose score is level with the best of their group share it.

    Args:
        scores: By id.
        ids: Those to be ranked, in the order in which tied ones shall stand: the canonical one, which no order shown
            can sway.
        resolution: See `level`.
    """
    groups: list[list[str]] = []
    for id in sorted(ids, key=lambda id: -scores[id]):
        if groups and level(scores[groups[-1][0]], scores[id], resolution):
            groups[-1].append(id)
        else:
            groups.append([id])
    place = {id: i for i, id in enumerate(ids)}
    return tuple(tuple(sorted(group, key=place.__getitem__)) for group in groups)


def with_groups(output: Output, groups: Groups) -> Output:
    """The output with this ranking, its ties, and the winner that it has."""
    return replace(
        output,
        ranking=tuple(id for group in groups for id in group),
        ties=tuple(group for group in groups if len(group) > 1),
        winner=lone_winner(groups),
    )


def ranked_by_score(
    request: Request, scores: Mapping[str, float], resolution: float = 0.0, *, tie: float | None = None
) -> Output:
    """The output of scores: ranking, ties and winner by the one rule.

    Args:
        request: What was asked, in any order.
        scores: By id; segments without a score are not ranked.
        resolution: See `level`.
        tie: Score of "equally good" where that was offered: not below the best one, it leaves no winner.
    """
    groups = score_groups(scores, [id for id in request.canonical().ids if id in scores], resolution)
    output = with_groups(Output(request.task, scores=scores, tie=tie, resolution=resolution), groups)
    if tie is None or not groups:
        return output
    best = scores[groups[0][0]]
    return replace(output, winner=None) if tie > best or level(tie, best, resolution) else output


def folded(output: Output, outputs: Sequence[Output]) -> Output:
    """The output with the cost and the records of all that it was made from."""
    return replace(
        output,
        usage=sum((o.usage for o in outputs), Usage()),
        views=tuple(view for o in outputs for view in o.views),
    )


def has_all_scores(output: Output, ids: Collection[str]) -> bool:
    """Whether every segment has a score; some have none where an endpoint lists few labels."""
    return output.scores.keys() >= set(ids)


def shares_of(log_probs: Mapping[Id, float]) -> dict[Id, float]:
    """Log-probabilities as probabilities that sum to 1; equal ones where all are minus infinity."""
    top = max(log_probs.values())
    if top == -math.inf:
        return dict.fromkeys(log_probs, 1 / len(log_probs))
    weights = {id: math.exp(value - top) for id, value in log_probs.items()}
    total = math.fsum(weights.values())
    return {id: weight / total for id, weight in weights.items()}


def reason_of(status: str, outputs: Sequence[Output]) -> str:
    """Why outputs hold no result: the status and, in brackets, what the first failed call or the first note says."""
    details = [view.detail for output in outputs for view in output.views if view.detail]
    details += [note for output in outputs for note in output.notes]
    return f"{status} ({details[0]})" if details else status


def cited_text(output: Output) -> str:
    """An answer whose markers name segments by id, so that answers of two views that number them otherwise compare."""
    text = output.text or ""
    spans: dict[tuple[int, int], list[str]] = {}
    for citation in output.citations:
        spans.setdefault((citation.start, citation.end), []).append(citation.id)
    for (start, end), ids in sorted(spans.items(), reverse=True):
        text = f"{text[:start]}[{', '.join(ids)}]{text[end:]}"
    return text


def comparable_text(text: str) -> str:
    """A text as answers are compared: case, spaces and punctuation at the ends don't count."""
    return " ".join(text.casefold().split()).strip(string.punctuation + " ")


def descending_scores(ranking: Sequence[Id], left: Sequence[Id], raw: Mapping[Id, float]) -> dict[Id, float]:
    """Scores in [0, 1] that strictly decrease along the ranking, for whoever rebuilds the order from them.

    The share of each in the softmax of the raw scores, mixed with as much of an even descent (at most 1/1000) as keeps
    neighbours apart even in single precision. Without raw scores: the even descent alone.

    Args:
        ranking: Best first.
        left: What was not ranked; comes last.
        raw: The ranker's own scores.
    """
    order = [*ranking, *left]
    n = len(order)
    descent = [(n - place) / (n + 1) for place in range(n)]
    if not all(id in raw for id in ranking) or not ranking:
        return dict(zip(order, descent, strict=True))
    shares, ceiling = [], 1.0
    for share in shares_of({id: raw[id] for id in ranking}).values():
        ceiling = min(ceiling, share)  # an aggregate may rank against its scores; the order is what counts
        shares.append(ceiling)
    shares += [0.0] * len(left)
    mix = 1e-3
    return {id: (1 - mix) * share + mix * step for id, share, step in zip(order, shares, descent, strict=True)}
