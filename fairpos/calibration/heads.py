"""Which heads look at what answers a question: few do, and the sum over all heads buries them.

Two ways to score a head on lists whose relevant segments are known. "ndcg" is how well the head alone ranks a list, the
measure for which it is wanted. Zhang et al., "Query-Focused Retrieval Heads" (QRHead), arXiv 2506.09944, take the
attention that the relevant segment gets, less that under an empty query; a head that looks everywhere a little more
scores well by that, and ranks nothing. "contrast" is CoRe (Tran et al., arXiv 2510.02219): the relevant segment's share
of exp(attention / temperature) among the hard negatives beside it.

Unlike both: lists are read in seeded orders in which the relevant segment takes every slot in turn, so that a head that
likes a place isn't taken for one that finds answers; tokens far below their segment's mean are dropped, as `icr` does.
The heads may be asked for in the first part of the layers alone, since what follows the last chosen one never runs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fairpos.attention.reading import LayerHead, Reading
from fairpos.backends.base import Backend, attention_reader
from fairpos.calibration.samples import chosen, fingerprint
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.items import Item
from fairpos.metrics.ndcg import ndcg
from fairpos.relevance.head_profile import HeadProfile
from fairpos.relevance.icr import kept_sum, read_both
from fairpos.types import Request

HeadMeasure: TypeAlias = Literal["ndcg", "contrast"]
Values: TypeAlias = NDArray[np.float64]

# CoRe keeps 8 of some thousand heads and does without the second half of the layers; so does the default here. On
# SmolLM2-135M (benchmarks/heads.py) 4 to 8 heads are best, and half of the layers find as much as all.
KEPT = 8
WITHIN = 0.5


def choose_heads(
    backend: Backend,
    items: Sequence[Item],
    *,
    keep: int = KEPT,
    measure: HeadMeasure = "ndcg",
    within: float = WITHIN,
    temperature: float = 0.01,
    lists: int = 100,
    sigmas: float = 2.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> HeadProfile:
    """Scores every head of every layer on lists of which the relevant segments are known, and keeps the best.

    COST: for each list what `icr` costs with all heads: a prefill and two short passes.

    Args:
        backend: A local model.
        items: Those without a known relevant segment, or with nothing else beside it, are left out.
        keep: How many heads, at least 1.
        measure: "ndcg" or "contrast".
        within: Heads are looked for in this first share of the layers (in the first layer at least), above 0 and at
            most 1.
        temperature: Of "contrast", above 0, in units of attention.
        lists: At most so many, drawn with the seed.
        sigmas: As in `icr`.
        seed: Of the orders, and of the choice of lists.
        progress: Called with (lists done, lists in all).

    Raises:
        UnsupportedBackend: an endpoint, whose attention can't be read.
        InvalidOption: a number out of range, or more heads than there are.
        InvalidRequest: no list can be used.
    """
    _refuse_options(keep, measure, within, temperature)
    read = read_lists(backend, items, lists=lists, sigmas=sigmas, seed=seed, progress=progress)
    return best_heads(backend, read, keep=keep, measure=measure, within=within, temperature=temperature)


@dataclass(frozen=True)
class ReadList:
    """One list as it was read.

    Attributes:
        item: Says which segments are relevant.
        request: Its segments in the order in which they were read.
        pairs: The model's heads.
        scores: What `icr` would score with each head alone, (heads, K).
    """

    item: Item
    request: Request
    pairs: tuple[LayerHead, ...]
    scores: Values


def read_lists(
    backend: Backend,
    items: Sequence[Item],
    *,
    lists: int = 100,
    sigmas: float = 2.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[ReadList]:
    """What every head scores on lists; arguments and errors as for `choose_heads`, at least 1 list."""
    reader = attention_reader(backend)
    usable = chosen([item for item in items if _is_contrasted(item)], lists, seed)
    if not usable:
        raise InvalidRequest(
            f"none of the {len(items)} records has a relevant segment (gold) and others beside it; heads are chosen by "
            "what sets the two apart"
        )
    draw = random.Random(seed)
    read = []
    for number, item in enumerate(usable):
        request = _with_gold_in(item, number, draw)
        asked, empty = read_both(reader, request, "all")
        read.append(ReadList(item, request, asked.pairs, scores_by_head(asked, empty, sigmas)))
        if progress is not None:
            progress(number + 1, len(usable))
    return read


def best_heads(
    backend: Backend,
    read: Sequence[ReadList],
    *,
    keep: int = KEPT,
    measure: HeadMeasure = "ndcg",
    within: float = WITHIN,
    temperature: float = 0.01,
) -> HeadProfile:
    """The heads that do best on lists of one model; arguments and errors as for `choose_heads`."""
    _refuse_options(keep, measure, within, temperature)
    pairs = read[0].pairs
    values = np.mean([head_values(each.scores, each.request, each.item, measure, temperature) for each in read], axis=0)
    rows = _best_rows(values, pairs, keep, within)
    part = "" if within == 1 else f" in the first {within:.0%} of the layers"
    how = "ndcg of each alone" if measure == "ndcg" else f"contrast to the others at temperature {temperature:g}"
    return HeadProfile(
        backend.name,
        str(getattr(backend, "revision", "")),
        tuple(pairs[row] for row in rows),
        tuple(float(values[row]) for row in rows),
        f"the best {keep} of {len(pairs)} heads{part}, by {how}",
        fingerprint([each.item for each in read]),
        len(read),
        _mean_ndcg(read, rows),
        _mean_ndcg(read, range(len(values))),
    )


def _best_rows(values: Values, pairs: Sequence[LayerHead], keep: int, within: float) -> list[int]:
    """The heads with the largest values (heads,) in the first share of the layers, best first.

    Raises:
        InvalidOption: there are fewer.
    """
    layers = 1 + max(pair.layer for pair in pairs)
    last = max(1, math.floor(within * layers + 1e-9))  # .7 of 10 layers is 7
    allowed = [row for row, pair in enumerate(pairs) if pair.layer < last]
    if keep > len(allowed):
        raise InvalidOption(f"keep must be in 1..{len(allowed)}, the heads that there are, got {keep}")
    return sorted(allowed, key=lambda row: (-values[row], pairs[row]))[:keep]


def _mean_ndcg(read: Sequence[ReadList], rows: Sequence[int]) -> float:
    """Of all lists, ranked by these heads together."""
    return float(np.mean([ranked_ndcg(each.scores[rows].sum(axis=0), each.request, each.item) for each in read]))


def scores_by_head(asked: Reading, empty: Reading, sigmas: float) -> Values:
    """What `icr` would score with each head alone, (heads, K).

    Args:
        asked: Read under the query, a row a head.
        empty: The same under an empty query.
        sigmas: See `kept_sum`.
    """
    tokens = asked.weights.astype(np.float64) - empty.weights.astype(np.float64)
    pieces = np.split(tokens, np.cumsum(asked.lengths)[:-1], axis=1)
    return np.array([[kept_sum(row, sigmas) for row in piece] for piece in pieces]).T


def head_values(scores: Values, request: Request, item: Item, measure: HeadMeasure, temperature: float) -> Values:
    """How good each head is on one list, (heads,), between 0 and 1.

    Args:
        scores: (heads, K), in the order of the request's segments.
        request: As it was read.
        item: Says which segments are relevant.
        measure, temperature: See `choose_heads`.
    """
    if measure == "ndcg":
        return np.array([ranked_ndcg(row, request, item) for row in scores])
    relevant = np.array([id in item.relevant for id in request.ids])
    shares = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(shares[:, relevant].sum(axis=1) / shares.sum(axis=1))


def ranked_ndcg(scores: Values, request: Request, item: Item) -> float:
    """nDCG of a list ranked by scores (K,). Of level ones the relevant stand last: a head without a say finds none."""
    relevant = set(item.relevant)
    ranked = sorted(zip(-scores, request.ids, strict=True), key=lambda pair: (pair[0], pair[1] in relevant))
    return ndcg([id for _, id in ranked], dict.fromkeys(relevant & set(request.ids), 1.0))


def _refuse_options(keep: int, measure: str, within: float, temperature: float) -> None:
    if keep < 1:
        raise InvalidOption(f"keep must be at least 1, got {keep}")
    if measure not in get_args(HeadMeasure):
        raise InvalidOption(f"measure must be one of {', '.join(get_args(HeadMeasure))}, got {measure!r}")
    if not 0 < within <= 1:
        raise InvalidOption(f"within must be in (0, 1], got {within}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise InvalidOption(f"temperature must be a number above 0, got {temperature}")


def _is_contrasted(item: Item) -> bool:
    ids = set(item.request.ids)
    return bool(ids & set(item.relevant)) and bool(ids - set(item.relevant))


def _with_gold_in(item: Item, number: int, draw: random.Random) -> Request:
    """The list in a random order, but for a relevant segment in the slot whose turn it is."""
    request = replace(item.request, task="answer").canonical()
    order = list(range(len(request.segments)))
    draw.shuffle(order)
    slot = number % len(order)
    at = next(place for place, index in enumerate(order) if request.ids[index] in item.relevant)
    order[slot], order[at] = order[at], order[slot]
    return request.reordered(order)
