"""The documents of a rerank request as texts, in the shapes of all its clients, shortened where one asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from .errors import ServiceError
from .schemas.rerank import RerankRequest

_TEXT_FIELDS = ("text", "content", "snippet", "page_content", "contents")
_ROOM_FOR_WORDS = 128  # tokens of the template around all documents
_ROOM_FOR_LABEL = 16  # tokens around each


class Tokenizer(Protocol):
    """What shortening needs of a local model."""

    def __call__(self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool) -> Mapping[str, list]:  # type: ignore[type-arg]
        """The text's tokens and where each lies in it."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What is to be ranked.

    Attributes:
        originals: In the client's order; empty where a document has no text.
        texts: The same, cut off where they are longer than they may be.
    """

    originals: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """What a user should know."""
        pairs = enumerate(zip(self.originals, self.texts, strict=True))
        shortened = [i for i, (original, text) in pairs if text != original]
        return [f"documents {shortened} were cut off"] if shortened else []


def read_texts(body: RerankRequest) -> list[str]:
    """The documents' texts.

    Raises:
        ServiceError: 422 there are none, or one that can't be read as text.
    """
    if body.texts is not None and body.documents is not None:
        raise ServiceError(422, "invalid_request", "got both documents and texts; one of them is enough", param="texts")
    if body.texts is not None:
        return list(body.texts)
    found: Sequence[JsonValue] | None
    if isinstance(body.documents, dict):  # vLLM's form for documents of several kinds
        content = body.documents.get("content")
        found = content if isinstance(content, list) else None
    else:
        found = body.documents
    if found is None:
        raise ServiceError(422, "invalid_request", "there are no documents (or texts)", param="documents")
    return [_text_of(item, place, body.rank_fields) for place, item in enumerate(found)]


def shorten(texts: Sequence[str], body: RerankRequest, tokenizer: Tokenizer | None, most_tokens: int) -> Texts:
    """Cuts texts off where the client asked for it.

    Args:
        texts: As they came.
        body: With the options.
        tokenizer: Of the local model; None: an upstream, whose tokens can't be counted.
        most_tokens: Of a prompt.

    Raises:
        ServiceError: 422 the client wants what an upstream's texts can't be held to.
    """
    limits = []
    if body.max_tokens_per_doc is not None:
        limits.append(body.max_tokens_per_doc)
    if body.truncate_prompt_tokens is not None and body.truncate_prompt_tokens > 0:
        limits.append(max(1, body.truncate_prompt_tokens - len(body.query) // 4))
    if limits and tokenizer is None:
        raise ServiceError(
            422, "unsupported_parameter", "max_tokens_per_doc and truncate_prompt_tokens need a local model's tokenizer"
        )
    if tokenizer is None:
        return Texts(tuple(texts), tuple(texts))
    if body.truncate or body.truncation or body.truncate_prompt_tokens == -1:
        room = most_tokens - _ROOM_FOR_WORDS - len(_tokens_of(body.query, tokenizer))
        limits.append(max(1, room // max(1, len(texts)) - _ROOM_FOR_LABEL))
    if not limits:
        return Texts(tuple(texts), tuple(texts))
    return Texts(tuple(texts), tuple(_first_tokens(text, min(limits), tokenizer) for text in texts))


def _first_tokens(text: str, count: int, tokenizer: Tokenizer) -> str:
    """The text up to the end of so many tokens."""
    if len(text) <= count:  # a token has at least one character
        return text
    ends = _tokens_of(text, tokenizer)
    return text if len(ends) <= count else text[: ends[count - 1]]


def _tokens_of(text: str, tokenizer: Tokenizer) -> list[int]:
    """Where each token of a text ends."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [end for _, end in found["offset_mapping"]]


def _text_of(item: JsonValue, place: int, rank_fields: Sequence[str] | None) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        raise ServiceError(
            422, "invalid_request", f"documents.{place} must be text or an object", param=f"documents.{place}"
        )
    names = rank_fields or next(([name] for name in _TEXT_FIELDS if isinstance(item.get(name), str)), ())
    values = [(name, item[name]) for name in names if isinstance(item.get(name), str | int | float)]
    if not values:
        raise ServiceError(
            422,
            "invalid_request",
            f"documents.{place} has no text; it may be under one of: {', '.join(rank_fields or _TEXT_FIELDS)}",
            param=f"documents.{place}",
        )
    return str(values[0][1]) if len(values) == 1 else "\n".join(f"{name}: {value}" for name, value in values)
