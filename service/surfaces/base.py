"""How a chat of any API is served: read, asked, and told in that API's own words, whole or as a stream.

    body -> Surface.read -> Wanted -> choices -> Surface.whole, or begin, piece, ..., end

A request without documents to an upstream whose path may pass goes there as it is. One with documents is asked by the
library, of a local model or of the upstream's chat completions.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from ..bodies import beside, check_lists, read_content, read_object
from ..chat_events import HEADERS
from ..choices import OpenStream, Piece, StreamEnd, Told, open_stream, whole_reply
from ..connection import Relay
from ..engine import Engine
from ..errors import ServiceError, as_service_error
from ..history import has_documents
from ..logs import log
from ..outcome import headers
from ..prefix import below_prefix
from ..routes.proxied import may_pass, model_of, pass_on
from ..schemas.options import Done
from ..settings import Settings
from ..sizing import check_messages
from ..state import State, asked_by, state_of
from ..wanted import Wanted, asks_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Surface(ABC):
    """One request of one API.

    Class attributes:
        messages_field: Where the body has its messages.

    Args:
        body: The request.
        model: The name of who answers.
        wanted: What the body asks for.

    Attributes:
        tokenizer: Of who answers, where that is a local model.
    """

    messages_field: ClassVar[str] = "messages"
    tokenizer: PreTrainedTokenizerBase | None = None

    def __init__(self, body: Mapping[str, Any], model: str, wanted: Wanted) -> None:
        self.body = body
        self.model = model
        self.wanted = wanted

    @classmethod
    @abstractmethod
    def read(cls, body: Mapping[str, Any], model: str, settings: Settings) -> Self:
        """Reads a body.

        Raises:
            ServiceError: 422; whatever can't be honoured is refused by its name.
        """

    @abstractmethod
    def whole(self, told: Told) -> dict[str, Any]:
        """The reply."""

    @abstractmethod
    def begin(self, what: Done) -> Iterator[bytes]:
        """The events before the text."""

    @abstractmethod
    def piece(self, piece: Piece) -> Iterator[bytes]:
        """The events of a piece of text."""

    @abstractmethod
    def end(self, told: Told) -> Iterator[bytes]:
        """The events after the text."""

    @abstractmethod
    def failed(self, error: ServiceError) -> bytes:
        """The event that ends a stream that fails."""


async def serve(request: Request, surface: type[Surface]) -> Response:
    """Answers a request of this API.

    Raises:
        ServiceError: see `Surface.read` and `choices`.
    """
    state = state_of(request)
    content = await read_content(request, state.settings)
    body = await read_object(content, state.settings)
    check_lists(body, state.settings)
    target, name = state.target(model_of(body))
    if isinstance(target, Engine):
        check_messages(body.get(surface.messages_field), target.limits, target.backend.context)
    elif may_pass(state, below_prefix(request.url.path, request.scope)) and not has_documents(
        body, surface.messages_field
    ):
        return await pass_on(request)
    read = await beside(len(content), lambda: surface.read(body, name, state.settings))
    return await _reply_of(request, state, asked_by(request, target, name), read)


async def _reply_of(request: Request, state: State, target: Any, surface: Surface) -> Response:
    if isinstance(target, Engine):
        surface.tokenizer = target.backend.tokenizer
    asks = await asks_of(surface.wanted, target, state.settings)
    if surface.body.get("stream"):
        opened = await open_stream(request, state, target, asks)
        chunks = _chunks_of(surface, opened)
        shown = {**HEADERS, **headers(opened.done)}
        return Relay(chunks, headers=shown, told_end=True, end_event=surface.failed)
    told = await whole_reply(request, state, target, asks)
    return JSONResponse({**surface.whole(told), "fairpos": told.done.model_dump()}, headers=headers(told.done))


async def _chunks_of(surface: Surface, opened: OpenStream) -> AsyncIterator[bytes]:
    """The stream's bytes; one that fails ends with an error event."""
    try:
        async with aclosing(opened.events) as events:
            for chunk in surface.begin(opened.done):
                yield chunk
            async for found in events:
                if isinstance(found, Piece) and (found.text or found.log_probs):
                    for chunk in surface.piece(found):
                        yield chunk
                elif isinstance(found, StreamEnd):
                    for chunk in surface.end(found.told):
                        yield chunk
    except Exception as error:
        log.warning("stream failed", extra={"error": type(error).__name__})
        yield surface.failed(as_service_error(error))


def named_event(value: Mapping[str, Any]) -> bytes:
    """One event, named by its type."""
    return f"event: {value['type']}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
