"""Documents in all the shapes in which clients hand them over, as the library's segments.

"text"                                              a string
{id?, title?, text, score?, metadata?}              vLLM, Hugging Face chat templates; `content` etc. for `text`
{id, data: "text" | {title?, text, ...}}            Cohere
{file_id, filename, score, text}                    OpenAI file search results
{type: "search_result", source, title, content}     Anthropic, a block of the message
{type: "document", source: {type: "text", data}}    Anthropic, a block of the message
{type: "document", document: {id, data}}            Cohere, a block of the message
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from fairpos.errors import InvalidRequest
from fairpos.types import Segment

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_TEXT_FIELDS = ("text", "content", "snippet", "page_content", "contents")
_UNREADABLE = ("image", "image_url", "images", "audio", "input_audio", "video", "video_url")


@dataclass(frozen=True, slots=True)
class Document:
    """A segment, and what it came as."""

    segment: Segment
    original: Json


def read_documents(items: object, *, first: int = 1, param: str = "documents") -> list[Document]:
    """Reads documents; those without an id get their number in the list.

    Raises:
        InvalidRequest: not a list, or an item that is no document.
    """
    if not isinstance(items, list):
        raise InvalidRequest(f"{param} must be a list, got {_type_name(items)}")
    try:
        json.dumps(items, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # infinite numbers, lone surrogates
        raise InvalidRequest(f"{param} can't be written as JSON: {error}") from None
    return with_distinct_ids([_read_document(item, number, param) for number, item in enumerate(items, first)])


def split_blocks(content: Json, first: int) -> tuple[list[Document], Json]:
    """Takes document blocks out of a message's content.

    Args:
        content: Text, or a list of blocks.
        first: Number of the first document found.

    Returns:
        The documents, and the content without them.
    """
    if not isinstance(content, list):
        return [], content
    documents: list[Document] = []
    rest: list[Json] = []
    for block in content:
        found = _document_of_block(block, first + len(documents)) if isinstance(block, dict) else None
        if found is None:
            rest.append(block)
        else:
            documents.append(found)
    return with_distinct_ids(documents), rest


def is_document(block: object) -> bool:
    """Whether a block of a message is a document whose text is in it."""
    return isinstance(block, dict) and _document_of_block(block, 1) is not None


def text_of(content: Json) -> str:
    """The text of a message's content.

    Raises:
        InvalidRequest: it is neither text nor a list of blocks.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part if isinstance(part, str) else str(part["text"])
            for part in content
            if isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))
        )
    raise InvalidRequest(f"a message's content must be text or a list of parts, got {_type_name(content)}")


def _read_document(item: object, number: int, param: str) -> Document:
    name = f"{param}[{number - 1}]"
    if isinstance(item, str):
        return Document(Segment(id=str(number), text=_valid_text(item, name), is_numbered=True), item)
    if not isinstance(item, dict):
        raise InvalidRequest(f"{name} must be text or an object, got {_type_name(item)}")
    block = _document_of_block(item, number)
    if block is not None:
        return block
    for field in _UNREADABLE:
        if item.get(field):
            raise InvalidRequest(f"{name} has {field!r}; documents are read as text")
    fields: Mapping[str, Json] = item
    data = item.get("data")
    if isinstance(data, str):
        fields = {**item, "text": data}
    elif isinstance(data, dict):
        fields = {**data, **{key: item[key] for key in ("id", "score") if key in item}}
    text = next((fields[key] for key in _TEXT_FIELDS if isinstance(fields.get(key), str)), None)
    if text is None and isinstance(data, dict) and data:
        # Cohere shows a document of any fields as its fields.
        text = "\n".join(f"{key}: {value}" for key, value in data.items() if key != "title")
    if not isinstance(text, str):
        raise InvalidRequest(f"{name} has no text; it may be under one of: {', '.join(_TEXT_FIELDS)}, data")
    title = fields.get("title") or fields.get("filename") or _metadata_title(fields)
    id = fields.get("id") if fields.get("id") is not None else fields.get("file_id")
    return Document(
        Segment(
            id=_readable_id(id, number, name),
            is_numbered=id is None or id == "",
            text=_valid_text(text, name),
            title=_valid_text(title, name) if isinstance(title, str) else None,
            score=_readable_score(fields.get("score"), name),
        ),
        item,
    )


def _document_of_block(block: Mapping[str, Json], number: int) -> Document | None:
    """An Anthropic block as a document; None if it is none, or one whose text isn't in the request."""
    kind, source = block.get("type"), block.get("source")
    content: Json = None
    id: Json = None
    if kind == "search_result":
        content, id = block.get("content"), source
    elif kind == "document" and isinstance(block.get("document"), dict):  # Cohere's
        return _read_document(block["document"], number, f"block {number}")
    elif kind == "document" and isinstance(source, dict):
        content = source.get("data") if source.get("type") == "text" else source.get("content")
    text = text_of(content) if isinstance(content, str | list) else ""
    if not text:
        return None
    title = block.get("title")
    name = f"block {number}"
    return Document(
        Segment(
            id=_readable_id(id, number, name),
            is_numbered=id is None or id == "",
            text=_valid_text(text, name),
            title=_valid_text(title, name) if isinstance(title, str) and title else None,
        ),
        dict(block),
    )


def with_distinct_ids(documents: Sequence[Document]) -> list[Document]:
    """Chunks of one source may share its name; later ones get a number behind it."""
    counts: dict[str, int] = {}
    named = []
    for document in documents:
        id = document.segment.id
        counts[id] = counts.get(id, 0) + 1
        shared = isinstance(document.original, dict) and (
            "file_id" in document.original or "source" in document.original
        )
        if counts[id] > 1 and shared:
            document = replace(document, segment=replace(document.segment, id=f"{id}#{counts[id]}"))
        named.append(document)
    return named


def _readable_id(value: Json, number: int, name: str) -> str:
    if value is None or value == "":
        return str(number)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidRequest(f"{name}: id must be text or a whole number, got {_type_name(value)}")
    id = _valid_text(str(value), name)
    if len(id) > 512:
        raise InvalidRequest(f"{name}: id has {len(id)} characters; at most 512 are allowed")
    return id


def _readable_score(value: Json, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"{name}: score must be a finite number, got {value!r}")
    return float(value)


def _metadata_title(fields: Mapping[str, Json]) -> Json:
    metadata = fields.get("metadata")
    return metadata.get("title") if isinstance(metadata, dict) else None


def _valid_text(text: str, name: str) -> str:
    """The text, which must be valid Unicode.

    Raises:
        InvalidRequest: it has half of a surrogate pair, which no tokenizer and no encoder takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{name}: the text has a lone surrogate at character {error.start}") from None
    return text


def _type_name(value: object) -> str:
    return "null" if value is None else type(value).__name__
