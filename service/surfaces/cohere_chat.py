"""Cohere's chat, second version, with documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from ..choices import Choice, Piece, Told
from ..errors import ServiceError
from ..history import read_history
from ..replies import new_id, read_as, refuse_fields
from ..schemas.cohere_chat import CohereChatRequest
from ..schemas.options import Done, Options
from ..settings import Settings
from ..wanted import Sampling, Wanted, schema_of
from .base import Surface, named_event
from .cited import cohere_citations

_ROLES = {"user": "user", "assistant": "assistant", "system": "system"}
_REFUSED = ("tools", "tool_choice", "strict_tools", "thinking", "k", "frequency_penalty", "presence_penalty",
            "logprobs", "safety_mode", "priority", "raw_prompting")  # fmt: skip
_HARMLESS: dict[str, tuple[object, ...]] = {
    "thinking": ({"type": "disabled"},),
    "tool_choice": ("NONE",),
    "safety_mode": ("OFF", "NONE"),
}
_NO_CITATIONS = (None, "off", "OFF", "disabled", "DISABLED")


class CohereChat(Surface):
    """One request of POST /v2/chat."""

    @classmethod
    def read(cls, body: Mapping[str, Any], model: str, settings: Settings) -> Self:
        """See `Surface`."""
        read = read_as(CohereChatRequest, body)
        refuse_fields(body, _REFUSED, _HARMLESS, "this service")
        options = read.fairpos or Options()
        if (read.citation_options or {}).get("mode") not in _NO_CITATIONS:
            options = options.model_copy(update={"citations": True})
        history = read_history(read.messages, body, settings, field="messages", roles=_ROLES)
        wanted = Wanted(
            query=history.query,
            history=history.turns,
            documents=history.documents,
            options=options,
            sampling=Sampling(
                max_tokens=read.max_tokens,
                temperature=read.temperature or 0.0,
                top_p=read.p or 1.0,
                seed=read.seed,
                stop=tuple(read.stop_sequences or ()),
                schema=schema_of(read.response_format, "response_format"),
            ),
        )
        return cls(body, model, wanted)

    def whole(self, told: Told) -> dict[str, Any]:
        """See `Surface`."""
        [choice] = told.choices
        message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": choice.text}]}
        citations = cohere_citations(choice, self.wanted.documents)
        if citations:
            message["citations"] = citations
        return {
            "id": new_id("chat"),
            "finish_reason": _finish_of(choice),
            "message": message,
            "usage": _usage_of(told),
        }

    def begin(self, what: Done) -> Iterator[bytes]:
        """See `Surface`."""
        blank = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        yield named_event(
            {
                "type": "message-start",
                "id": new_id("chat"),
                "delta": {"message": blank},
                "fairpos": what.model_dump(),
            }
        )
        block = {"message": {"content": {"type": "text", "text": ""}}}
        yield named_event({"type": "content-start", "index": 0, "delta": block})

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """See `Surface`."""
        delta = {"message": {"content": {"text": piece.text}}}
        yield named_event({"type": "content-delta", "index": 0, "delta": delta})

    def end(self, told: Told) -> Iterator[bytes]:
        """See `Surface`."""
        yield named_event({"type": "content-end", "index": 0})
        for index, citation in enumerate(cohere_citations(told.choices[0], self.wanted.documents)):
            delta = {"message": {"citations": citation}}
            yield named_event({"type": "citation-start", "index": index, "delta": delta})
            yield named_event({"type": "citation-end", "index": index})
        last = {"finish_reason": _finish_of(told.choices[0]), "usage": _usage_of(told)}
        yield named_event({"type": "message-end", "delta": last, "fairpos": told.done.model_dump()})

    def failed(self, error: ServiceError) -> bytes:
        """See `Surface`."""
        delta = {"finish_reason": "ERROR", "error": error.message}
        return named_event({"type": "message-end", "delta": delta})


def _finish_of(choice: Choice) -> str:
    if choice.stopped_by:
        return "STOP_SEQUENCE"
    return "MAX_TOKENS" if choice.finish == "length" else "COMPLETE"


def _usage_of(told: Told) -> dict[str, Any]:
    tokens = {"input_tokens": told.usage.prompt_tokens, "output_tokens": told.usage.completion_tokens}
    return {"billed_units": tokens, "tokens": tokens}
