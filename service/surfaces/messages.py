"""Anthropic's Messages: text, `search_result` and `document` blocks as segments, streaming events."""

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
        _refuse_citations(read.messages)
        history = read_history(read.messages, body, settings, field="messages", roles=_ROLES)
        system = text_of_parts(read.system, ("text",), "system")
        told = (Turn("system", system), *history.turns) if system else history.turns
        wanted = Wanted(
            query=history.query,
            history=told,
            documents=history.documents,
            options=read.fairpos or Options(),
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
            **self._message,
            "content": [{"type": "text", "text": choice.text, "citations": None}],
            **_stop_of(choice),
            "usage": _usage_of(told),
        }

    def begin(self, what: Done) -> Iterator[bytes]:
        """See `Surface`. Tokens of the prompt are told at the end, where they are known."""
        blank: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = {**self._message, **blank, "usage": usage, "fairpos": what.model_dump()}
        yield named_event({"type": "message_start", "message": message})
        block = {"type": "text", "text": "", "citations": None}
        yield named_event({"type": "content_block_start", "index": 0, "content_block": block})

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """See `Surface`."""
        delta = {"type": "text_delta", "text": piece.text}
        yield named_event({"type": "content_block_delta", "index": 0, "delta": delta})

    def end(self, told: Told) -> Iterator[bytes]:
        """See `Surface`."""
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

    @property
    def _message(self) -> dict[str, Any]:
        return {"id": new_id("msg"), "type": "message", "role": "assistant", "model": self.model}


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


def _refuse_citations(messages: list[dict[str, Any]]) -> None:
    """Refuses citations where they are asked for.

    Raises:
        ServiceError: 422.
    """
    contents = [message.get("content") for message in messages]
    for block in (block for content in contents if isinstance(content, list) for block in content):
        wanted = block.get("citations") if isinstance(block, dict) else None
        if isinstance(wanted, dict) and wanted.get("enabled"):
            raise ServiceError(
                422, "unsupported_parameter", "citations can't be given here; leave them off", param="citations"
            )
