"""The events of a streamed completion, as OpenAI's clients read them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from .replies import new_id

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
END = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """One event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


@dataclass(frozen=True, slots=True)
class ChatEvents:
    """The events of one reply.

    Attributes:
        model: What answers.
        with_usage: Whether the client wants the tokens at the end; every other event then says that it has none.
    """

    model: str
    with_usage: bool = False
    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))

    def chunk(
        self,
        delta: dict[str, Any],
        finish: str | None = None,
        *,
        index: int = 0,
        log_probs: dict[str, Any] | None = None,
        **more: object,
    ) -> bytes:
        """A piece of one choice."""
        choice = {"index": index, "delta": delta, "logprobs": log_probs, "finish_reason": finish}
        usage = {"usage": None} if self.with_usage else {}
        return event({**self._shared_fields, "choices": [choice], **usage, **more})

    def last(self, usage: dict[str, Any]) -> bytes:
        """What comes after the reply: its tokens, where they are wanted, and the end."""
        return (event({**self._shared_fields, "choices": [], "usage": usage}) if self.with_usage else b"") + END

    @property
    def _shared_fields(self) -> dict[str, object]:
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}


def wants_usage(body: dict[str, Any]) -> bool:
    """Whether a request's `stream_options` ask for the tokens."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))
