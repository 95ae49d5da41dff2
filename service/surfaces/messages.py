"""Anthropic's Messages: text, `search_result` and `document` blocks as segments, citations, streaming events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from fairpos.types import Turn

from ..choices import Choice, Piece, Told
from ..errors import ServiceError
from ..history import read_history, text_of_parts
from ..replies import new_id, read_as, refuse_fields
from ..schemas.messages import MessagesRequest
from ..schemas.options import Done, Options
from ..settings import Settings
from ..wanted import Sampling, Wanted, schema_of
from .base import Surface, named_event
from .cited import anthropic_citation, cited_pieces

_ROLES = {"user": "user", "assistant": "assistant", "system": "system"}
_REFUSED = ("tools", "tool_choice", "thinking", "top_k", "container", "mcp_servers", "context_management")
_HARMLESS: dict[str, tuple[object, ...]] = {
    "thinking": ({"type": "disabled"},),
    "tool_choice": ({"type": "none"}, {"type": "auto"}),
}


class Messages(Surface):
    """One request of POST /v1/messages."""

    @classmethod
    def read(cls, body: Mapping[str, Any], model: str, settings: Settings) -> Self:
        """See `Surface`."""
        read = read_as(MessagesRequest, body)
        refuse_fields(body, _REFUSED, _HARMLESS, "this service")
        history = read_history(read.messages, body, settings, field="messages", roles=_ROLES)
        system = text_of_parts(read.system, ("text",), "system")
        told = (Turn("system", system), *history.turns) if system else history.turns
        options = read.fairpos or Options()
        if _wants_citations(read.messages):
            options = options.model_copy(update={"citations": True})
        wanted = Wanted(
            query=history.query,
            history=told,
            documents=history.documents,
            options=options,
            sampling=Sampling(
                max_tokens=read.max_tokens,
                temperature=read.temperature or 0.0,
                top_p=read.top_p or 1.0,
                stop=tuple(read.stop_sequences or ()),
                schema=_schema_of(read),
            ),
        )
        return cls(body, model, wanted)

    def whole(self, told: Told) -> dict[str, Any]:
        """See `Surface`."""
        [choice] = told.choices
        return {
            **self._message_head,
            "content": [
                {"type": "text", "text": text, "citations": citations or None}
                for text, citations in self._cited_texts(choice)
            ],
            **_stop_of(choice),
            "usage": _usage_of(told),
        }

    def begin(self, what: Done) -> Iterator[bytes]:
        """See `Surface`. Tokens of the prompt are told at the end, where they are known."""
        blank: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = {**self._message_head, **blank, "usage": usage, "fairpos": what.model_dump()}
        yield named_event({"type": "message_start", "message": message})
        if not self.wanted.options.citations:
            yield from self._block_events(0)

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """See `Surface`. Where citations are wanted the text waits: what a name means is known when it is whole."""
        if not self.wanted.options.citations:
            yield _delta_event(0, {"type": "text_delta", "text": piece.text})

    def end(self, told: Told) -> Iterator[bytes]:
        """See `Surface`."""
        if self.wanted.options.citations:
            for index, (text, citations) in enumerate(self._cited_texts(told.choices[0])):
                yield from self._block_events(index)
                yield _delta_event(index, {"type": "text_delta", "text": text})
                for citation in citations:
                    yield _delta_event(index, {"type": "citations_delta", "citation": citation})
                yield named_event({"type": "content_block_stop", "index": index})
        else:
            yield named_event({"type": "content_block_stop", "index": 0})
        yield named_event(
            {
                "type": "message_delta",
                "delta": _stop_of(told.choices[0]),
                "usage": _usage_of(told),
                "fairpos": told.done.model_dump(),
            }
        )
        yield named_event({"type": "message_stop"})

    def failed(self, error: ServiceError) -> bytes:
        """See `Surface`."""
        return named_event(error.body)

    def _cited_texts(self, choice: Choice) -> list[tuple[str, list[dict[str, Any]]]]:
        """The text in blocks, each with its citations."""
        documents = self.wanted.documents
        return [
            (text, [anthropic_citation(citation, documents) for citation in found])
            for text, found in cited_pieces(choice)
        ]

    def _block_events(self, index: int) -> Iterator[bytes]:
        block = {"type": "text", "text": "", "citations": None}
        yield named_event({"type": "content_block_start", "index": index, "content_block": block})

    @property
    def _message_head(self) -> dict[str, Any]:
        return {"id": new_id("msg"), "type": "message", "role": "assistant", "model": self.model}


def _delta_event(index: int, delta: Mapping[str, Any]) -> bytes:
    return named_event({"type": "content_block_delta", "index": index, "delta": delta})


def _stop_of(choice: Choice) -> dict[str, Any]:
    if choice.stopped_by:
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stopped_by}
    return {"stop_reason": "max_tokens" if choice.finish == "length" else "end_turn", "stop_sequence": None}


def _usage_of(told: Told) -> dict[str, Any]:
    return {"input_tokens": told.usage.prompt_tokens, "output_tokens": told.usage.completion_tokens}


def _schema_of(read: MessagesRequest) -> Mapping[str, object] | None:
    output = read.output_config or {}
    for name in output.keys() - {"format"}:
        if output[name] is not None:
            raise ServiceError(
                422, "unsupported_parameter", f"this service can't do output_config.{name}", param="output_config"
            )
    return schema_of(read.output_format or output.get("format"), "output_format")


def _wants_citations(messages: list[dict[str, Any]]) -> bool:
    """Whether a block asks for citations; the whole text then has them."""
    contents = [message.get("content") for message in messages]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    wanted = [block.get("citations") for block in blocks if isinstance(block, dict)]
    return any(isinstance(each, dict) and bool(each.get("enabled")) for each in wanted)
