"""`python -m benchmarks.retrieval`: what it asks about is what it says, and the page has its figures."""

import json
from pathlib import Path

from benchmarks import retrieval

ROOT = Path(__file__).parents[2]


def test_no_document_holds_another_ones_answer():
    items = retrieval.long_documents()
    assert len(items) == 100
    assert {len(item.corpus) for item in items} == {50}
    for item in items:
        [(start, end)] = item.spans
        own = item.document.text[start:end]
        assert [own in segment.text for segment in item.corpus].count(True) == 1
        assert not any(own in rival.text for rival in item.rivals)
        assert 250 < len(item.document.text.split()) < 480
    assert [item.document.text for item in retrieval.long_documents()] == [item.document.text for item in items]


def test_the_page_has_the_figures_of_the_results():
    page = (ROOT / "docs" / "retrieval.md").read_text(encoding="utf-8")
    for audit in json.loads((ROOT / "benchmarks" / "results" / "retrieval.json").read_text(encoding="utf-8")):
        for way in audit["ways"]:
            mean = way["figures"]["moved_ndcg"]
            shown = f"{mean['estimate']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"
            assert any(
                row.startswith(f"| {audit['retriever']} | {way['name']} |") and shown in row
                for row in page.splitlines()
            )
