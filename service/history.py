"""The messages of a chat, of whichever API, as earlier turns, one question and documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fairpos.types import Turn

from .documents import Document, is_document, read_documents, split_blocks, with_distinct_ids
from .errors import ServiceError
from .settings import Settings


@dataclass(frozen=True, slots=True)
class History:
    """What was said: the last message is the user's, and is the question."""

    turns: tuple[Turn, ...]
    query: str
    documents: tuple[Document, ...]


def read_history(
    messages: object,
    body: Mapping[str, Any],
    settings: Settings,
    *,
    field: str,
    roles: Mapping[str, str],
    text_types: Collection[str] = ("text",),
) -> History:
    """Reads messages; documents are those of the body and the blocks of all user messages.

    Args:
        messages: `{role, content}` each, content being text or a list of blocks.
        body: For its `documents`.
        settings: For limits.
        field: What the messages are called there.
        roles: The roles that there may be, and what each is called in a chat template.
        text_types: Types of blocks that are text.

    Raises:
        ServiceError: 422 what can't be read is refused by its name; too many documents; the last one isn't the user's.
        InvalidRequest: documents that are none.
    """
    found = read_documents(body["documents"]) if body.get("documents") else []
    if not isinstance(messages, list):
        raise ServiceError(422, "invalid_request", f"{field} must be a list", param=field)
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        where = f"{field}.{place}"
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in roles:
            raise ServiceError(
                422,
                "unsupported_content",
                f"{where} has role {role!r}; it may be one of {', '.join(roles)}",
                param=where,
            )
        content = message.get("content")
        if roles[role] == "user":
            blocks, content = split_blocks(content, len(found) + 1)
            found += blocks
        text = text_of_parts(content, text_types, where)
        if turns and turns[-1].role == roles[role]:  # of two that follow each other, as their APIs do it
            turns[-1] = Turn(roles[role], "\n\n".join(filter(None, (turns[-1].content, text))))
        else:
            turns.append(Turn(roles[role], text))
    if len(found) > settings.max_documents:
        raise ServiceError(
            422, "too_many_documents", f"got {len(found)} documents; at most {settings.max_documents} are allowed"
        )
    if not turns or turns[-1].role != "user":
        raise ServiceError(422, "invalid_request", "the last message must be the user's", param=field)
    return History(tuple(turns[:-1]), turns[-1].content, tuple(with_distinct_ids(found)))


def text_of_parts(content: object, text_types: Collection[str], where: str) -> str:
    """The text of a message.

    Raises:
        ServiceError: 422 it has a part that isn't text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise ServiceError(422, "invalid_request", f"{where}.content must be text or a list of blocks", param=where)
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and kind in text_types and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise ServiceError(
                422,
                "unsupported_content",
                f"{where} has a block of type {kind!r}; only text can be read here",
                param=where,
            )
    return "\n".join(texts)


def has_documents(body: Mapping[str, Any], field: str) -> bool:
    """Whether a request has documents, in a field of their own or as blocks of its messages."""
    messages = body.get(field)
    contents = [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return bool(body.get("documents")) or any(map(is_document, blocks))
