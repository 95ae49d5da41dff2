"""A chat's messages as one question with documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import documents
from .documents import Document
from .errors import ServiceError
from .replies import read_as
from .schemas.options import Options
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages as one question with documents.

    Attributes:
        last: Place of the last user message; -1: there is none.
        query: Its text, without document blocks.
        rest: Its content without document blocks.
        documents: From the field and from the blocks.
        options: The `fairpos` field.
    """

    last: int
    query: str
    rest: Any
    documents: list[Document]
    options: Options


def read_conversation(body: dict[str, Any], settings: Settings) -> Conversation:
    """Reads a chat's body.

    Raises:
        ServiceError: 422 options that don't fit, too many documents, or documents without a question.
        InvalidRequest: documents that are none.
    """
    options = read_as(Options, body.get("fairpos") or {}, "fairpos")
    found = documents.read_documents(body["documents"]) if body.get("documents") else []
    messages: list[Any] = body["messages"] if isinstance(body.get("messages"), list) else []
    last = next((i for i in reversed(range(len(messages))) if _is_user(messages[i])), -1)
    rest, query = None, ""
    if last >= 0:
        blocks, rest = documents.split_blocks(messages[last].get("content"), len(found) + 1)
        if blocks or found:
            found = [*found, *blocks]
            query = documents.text_of(rest)
    if len(found) > settings.max_documents:
        raise ServiceError(
            422,
            "too_many_documents",
            f"got {len(found)} documents; at most {settings.max_documents} are allowed",
            param="documents",
        )
    if found and last < 0:
        raise ServiceError(422, "invalid_request", "there are documents, but no user message", param="messages")
    return Conversation(last, query, rest, found, options)


def _is_user(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") == "user"
