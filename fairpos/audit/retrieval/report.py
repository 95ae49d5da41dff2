"""The result of an audit of a retriever as JSON (docs/retrieval.md), and both files of its folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fairpos.audit.plots import COLOURS, Line, curve
from fairpos.audit.report import finite_record
from fairpos.audit.retrieval.audit import RetrievalAudit
from fairpos.audit.retrieval.figures import TEST_LEVEL, DepthBucket, RetrieverFigures, SpanBucket
from fairpos.audit.written import rendered_page, write_report_files

SCHEMA = 1
# Name, its row in the page, and how to read it.
FIGURES = (
    ("ndcg", "nDCG, documents as they are", ""),
    ("first", "first of all documents, as they are", ""),
    ("moved_ndcg", "nDCG, mean over the places of the answer", "What to expect where the place isn't known."),
    ("moved_first", "first of all documents, mean over places", ""),
    ("worst_place", "nDCG at the worst place", ""),
    ("start_minus_end", "answer at the start minus at the end", "Of nDCG; 0: the place doesn't count."),
    (
        "start_minus_middle",
        "answer at the start minus at the middle",
        "Of nDCG; the middle is all places but both ends.",
    ),
    ("end_minus_middle", "answer at the end minus at the middle", "Of nDCG."),
    (
        "start_preferred",
        "prefers the answer at the start",
        "How often the retriever's own score is higher with the answer first than with it last, minus how often it is "
        "lower: 0 is blind, 1 always. It shows a leaning that changes no rank yet.",
    ),
    ("psi", "PSI over places", "Share of the best place's nDCG that the worst one lacks; above 0 by chance too."),
)


def write_retrieval_report(audit: RetrievalAudit, folder: Path, version: str) -> None:
    """Writes report.json and report.html."""
    write_report_files(folder, retrieval_report(audit, version), retrieval_page(audit, version))


def retrieval_report(audit: RetrievalAudit, version: str) -> dict[str, object]:
    """The report as JSON values, without NaN or infinity.

    Args:
        audit: What was found.
        version: Of fairpos.
    """
    return {
        "schema": SCHEMA,
        "fairpos": version,
        "task": "retrieval",
        "retriever": audit.retriever,
        "data": {
            "file": audit.source.file,
            "sha256": audit.source.sha256,
            "items": len(audit.items),
            "documents": audit.documents,
            "unmoved": dict(audit.unmoved),
            "skipped": [asdict(bad) for bad in audit.skipped],
        },
        "places": audit.plan.places,
        "k": audit.plan.k,
        "seed": audit.plan.seed,
        "interval_level": 0.95,
        "test_level": TEST_LEVEL,
        "ways": [_way_report(way) for way in audit.ways],
        "advice": asdict(audit.advice),
        "gates": [gate.to_record() for gate in audit.gates],
    }


def retrieval_page(audit: RetrievalAudit, version: str) -> str:
    """The same as one HTML page that loads nothing."""
    return rendered_page(
        "retrieval/report.html.jinja",
        audit=audit,
        version=version,
        colours=COLOURS,
        by_place=_place_plot(audit),
        test_level=TEST_LEVEL,
        words=FIGURES,
    )


def _place_plot(audit: RetrievalAudit) -> str | None:
    """nDCG by the answer's place, a line a way; None where nothing was moved."""
    if not audit.whole.moved:
        return None
    return curve(
        [Line(way.name, way.by_place) for way in audit.ways],
        range(len(audit.whole.by_place)),
        title=f"nDCG@{audit.plan.k} by the place of the answer",
        x_title="place of the answer, from the first to the last",
        chance=None,
    )


def _way_report(way: RetrieverFigures) -> dict[str, object]:
    return {
        "name": way.name,
        "words": way.words,
        "items": way.items,
        "moved": way.moved,
        "figures": {name: finite_record(value) for name, value in way.figures.items()},
        "by_span": [_span_report(bucket) for bucket in way.by_span],
        "by_place": [{"place": i, **finite_record(value)} for i, value in enumerate(way.by_place)],
        "by_depth": [_depth_report(bucket) for bucket in way.by_depth],
        "tests": {name: asdict(test) for name, test in way.tests.items()},
        "biased": way.is_biased,
    }


def _span_report(bucket: SpanBucket) -> dict[str, object]:
    ndcg = None if bucket.ndcg is None else finite_record(bucket.ndcg)
    return {"low": bucket.low, "high": bucket.high, "items": bucket.items, "ndcg": ndcg}


def _depth_report(bucket: DepthBucket) -> dict[str, object]:
    against = None if bucket.against_start is None else finite_record(bucket.against_start)
    return {
        "low": bucket.low,
        "high": bucket.high,
        "items": bucket.items,
        "ndcg": finite_record(bucket.ndcg),
        "against_start": against,
    }
