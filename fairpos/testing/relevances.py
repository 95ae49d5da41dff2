"""The contract of sources of relevance: `check_relevance(MySource())` raises BrokenContract and tells every fault."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fairpos.relevance.base import Relevance, is_scored_alone
from fairpos.relevance.model_read import ModelRead
from fairpos.testing.contract import Contract, Fault, expect, expect_documented, expect_options_checked
from fairpos.testing.subjects import QUERY, SEGMENTS, all_orders, biased_backend, request_for
from fairpos.types import Segment

RELEVANCE_CONTRACT: Contract[Relevance] = Contract("the contract of relevances")


def relevance_faults(source: Relevance) -> tuple[Fault, ...]:
    """What is wrong with a source of relevance."""
    return RELEVANCE_CONTRACT.faults(source)


def check_relevance(source: Relevance) -> None:
    """Checks a source of relevance against the whole contract.

    Raises:
        BrokenContract: it has faults; the message lists them all.
    """
    RELEVANCE_CONTRACT.hold(source)


@RELEVANCE_CONTRACT.add
def says_what_it_is_costs_and_when_it_hurts(source: Relevance) -> None:
    """Name, summary; a docstring with COST, HURTS and every option."""
    expect_documented(type(source))


@RELEVANCE_CONTRACT.add
def refuses_options_out_of_range(source: Relevance) -> None:
    """In Python and in text form, with what was got and what is allowed."""
    expect_options_checked("relevance", source)


@RELEVANCE_CONTRACT.add
def scores_every_segment(source: Relevance) -> None:
    """A finite number for each id, and for nothing else, from one segment on; equal segments score alike."""
    twins = (*SEGMENTS[:2], replace(SEGMENTS[0], id="twin"))
    for segments in (SEGMENTS, twins, SEGMENTS[:1]):
        scores = _scores_of(source, segments)
        ids = sorted(segment.id for segment in segments)
        expect(sorted(scores) == ids, f"there must be scores of {ids}, got {sorted(scores)}")
        for id, score in scores.items():
            expect(isinstance(score, float) and math.isfinite(score), f"{id} must have a finite float, got {score!r}")


@RELEVANCE_CONTRACT.add
def is_free_of_order(source: Relevance) -> None:
    """The very same scores, to the bit, for all 24 orders of four segments."""
    first = _scores_of(source, SEGMENTS)
    for view in all_orders(request_for("rank")):
        found = _scores_of(source, view.segments)
        expect(found == first, f"order {view.ids} gives {found}, order {request_for('rank').ids} {first}")


@RELEVANCE_CONTRACT.add
def is_alone_where_it_says_so(source: Relevance) -> None:
    """With `alone`, each segment has the score that it has among others; an audit of retrievers relies on it."""
    if not is_scored_alone(source):
        return
    together = _scores_of(source, SEGMENTS)
    for segment in SEGMENTS:
        found = _scores_of(source, (segment,))[segment.id]
        same = math.isclose(found, together[segment.id], rel_tol=1e-4, abs_tol=1e-5)
        expect(same, f"{segment.id} alone has {found}, among others {together[segment.id]}: it isn't scored alone")


def _scores_of(source: Relevance, segments: Sequence[Segment]) -> dict[str, float]:
    bound = source.on(biased_backend("attention")) if isinstance(source, ModelRead) else source
    return bound.scores(QUERY, segments)
