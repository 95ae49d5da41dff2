"""What an answer cites, in the shapes of other chats; places count documents as the client sent them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairpos.types import Citation

from ..choices import Choice
from ..documents import Document


def citations_in(choice: Choice) -> list[Citation]:
    """The citations, by id; their places are in the choice's text."""
    moved = max(0, choice.text.find(choice.output.text or ""))
    return [Citation(found.id, found.start + moved, found.end + moved, found.text) for found in choice.output.citations]


def cited_pieces(choice: Choice) -> list[tuple[str, list[Citation]]]:
    """The text in pieces that end behind a marker, each with what it cites; the last one may cite nothing."""
    pieces: list[tuple[str, list[Citation]]] = []
    place = 0
    for citation in citations_in(choice):
        if citation.end > place:
            pieces.append((choice.text[place : citation.end], []))
            place = citation.end
        pieces[-1][1].append(citation)  # of one marker with several names
    if place < len(choice.text) or not pieces:
        pieces.append((choice.text[place:], []))
    return pieces


def anthropic_citation(citation: Citation, documents: Sequence[Document]) -> dict[str, Any]:
    """One citation of the whole of a document, by its place among the request's search results or documents."""
    place = next(i for i, document in enumerate(documents) if document.segment.id == citation.id)
    document = documents[place]
    is_result = _is_search_result(document)
    index = sum(_is_search_result(other) == is_result for other in documents[:place])
    segment = document.segment
    if is_result:
        block = document.original
        assert isinstance(block, dict)
        content = block.get("content")
        return {
            "type": "search_result_location",
            "cited_text": segment.text,
            "source": str(block.get("source") or segment.id),
            "title": segment.title,
            "search_result_index": index,
            "start_block_index": 0,
            "end_block_index": len(content) if isinstance(content, list) else 1,
        }
    return {
        "type": "char_location",
        "cited_text": segment.text,
        "document_index": index,
        "document_title": segment.title,
        "file_id": None,
        "start_char_index": 0,
        "end_char_index": len(segment.text),
    }


def cohere_citations(choice: Choice, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """The citations, one for each marker, with the documents that it names."""
    by_id = {document.segment.id: document.segment for document in documents}
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for citation in citations_in(choice):
        segment = by_id[citation.id]
        shown = {"id": segment.id, "text": segment.text} | ({"title": segment.title} if segment.title else {})
        told = found.setdefault(
            (citation.start, citation.end),
            {"start": citation.start, "end": citation.end, "text": citation.text, "sources": [], "content_index": 0,
             "type": "TEXT_CONTENT"},
        )  # fmt: skip
        told["sources"].append({"type": "document", "id": segment.id, "document": shown})
    return list(found.values())


def _is_search_result(document: Document) -> bool:
    return isinstance(document.original, dict) and document.original.get("type") == "search_result"
