"""Citations of documents as annotations of a chat's message, in the shape of OpenAI's.

    {"type": "url_citation", "url_citation": {url, title, start_index, end_index}}             a document with a url
    {"type": "file_citation", "file_citation": {file_id, filename, start_index, end_index}}    any other

Indices are in characters of the message's content; end_index is the first one behind the marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairpos.prompts import Prompt
from fairpos.replies.citations import read_citations
from fairpos.types import Citation, Output

from .documents import Document


def annotations_of(content: str, output: Output, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """The citations of an output whose text is this content, but for white space around it."""
    moved = max(0, content.find(output.text or ""))
    return _annotations(output.citations, documents, moved)


def annotate_reply(reply: dict[str, Any], prompt: Prompt, documents: Sequence[Document]) -> list[str]:
    """Annotates the messages of an upstream's reply, in place; returns the names that were not shown."""
    names = _names_in(prompt)
    unknown: list[str] = []
    for choice in _choices_in(reply):
        message = choice.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(message, dict) and isinstance(content, str):
            unknown += _annotate(message, content, names, documents)
    return list(dict.fromkeys(unknown))


class StreamAnnotator:
    """Annotates an upstream's stream: a choice's citations come with the chunk that ends it, when all names are whole.

    Args:
        prompt: With the names that were shown.
        documents: Of the request.
    """

    def __init__(self, prompt: Prompt, documents: Sequence[Document]) -> None:
        self._names = _names_in(prompt)
        self._documents = documents
        self._texts: dict[int, str] = {}

    def annotate(self, chunk: dict[str, Any]) -> list[str] | None:
        """Annotates a chunk that ends a choice, in place; returns the names that were not shown. None: it ends none."""
        unknown: list[str] | None = None
        for choice in _choices_in(chunk):
            index, delta = choice.get("index"), choice.get("delta")
            index = index if isinstance(index, int) else 0
            delta = delta if isinstance(delta, dict) else {}
            content = delta.get("content")
            self._texts[index] = self._texts.get(index, "") + (content if isinstance(content, str) else "")
            if choice.get("finish_reason") is not None:
                found = _annotate(delta, self._texts.pop(index), self._names, self._documents)
                unknown = [*(unknown or []), *found]
                choice["delta"] = delta
        return unknown


def _names_in(prompt: Prompt) -> dict[str, list[str]]:
    """Whom each name in a prompt stands for."""
    names: dict[str, list[str]] = {}
    for name, id in prompt.names:
        names.setdefault(name, []).append(id)
    return names


def _choices_in(reply: dict[str, Any]) -> list[dict[str, Any]]:
    choices = reply.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _annotate(
    told: dict[str, Any], content: str, names: dict[str, list[str]], documents: Sequence[Document]
) -> Sequence[str]:
    """Adds the citations of a text to what is told of it; returns the names that were not shown."""
    found = read_citations(content, names)
    own = told.get("annotations")
    told["annotations"] = [*(own if isinstance(own, list) else []), *_annotations(found.citations, documents)]
    return found.unknown


def _annotations(citations: Sequence[Citation], documents: Sequence[Document], moved: int = 0) -> list[dict[str, Any]]:
    by_id = {document.segment.id: document for document in documents}
    found = []
    for citation in citations:
        document = by_id.get(citation.id)
        place = {"start_index": citation.start + moved, "end_index": citation.end + moved}
        title = (document.segment.title if document else None) or citation.id
        url = _url_of(document)
        if url:
            found.append({"type": "url_citation", "url_citation": {"url": url, "title": title, **place}})
        else:
            named = {"file_id": citation.id, "filename": title}
            found.append({"type": "file_citation", "file_citation": {**named, **place}})
    return found


def _url_of(document: Document | None) -> str:
    """Where a document says that it comes from: its own url, its metadata's, or a source that is one."""
    original = document.original if document is not None else None
    if not isinstance(original, dict):
        return ""
    metadata, data = original.get("metadata"), original.get("data")
    fields = [each for each in (original, data, metadata) if isinstance(each, dict)]
    values = [each.get(key) for each in fields for key in ("url", "source")]
    return next((value for value in values if isinstance(value, str) and value.startswith(("http://", "https://"))), "")
