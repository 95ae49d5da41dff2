"""The request of Anthropic's Messages."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, JsonValue

from .base import Loose, Text
from .options import Options


class MessagesRequest(Loose):
    """Anthropic's, with `documents` and `fairpos`."""

    model_config = ConfigDict(
        extra="allow",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "max_tokens": 24,
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {
                                    "type": "search_result",
                                    "source": "emma",
                                    "title": "Emma",
                                    "content": [{"type": "text", "text": "Emma is a novel by Jane Austen."}],
                                },
                                {"type": "text", "text": "Who wrote Emma?"},
                            ],
                        }
                    ],
                }
            ]
        },
    )

    model: str | None = None
    max_tokens: int = Field(ge=1)
    messages: list[dict[str, Any]]
    system: Text | list[dict[str, Any]] | None = None
    documents: list[str | dict[str, JsonValue]] | None = None
    fairpos: Options | None = None
    temperature: float | None = Field(None, ge=0, le=1, description="0 where missing: greedy, so that it repeats.")
    top_p: float | None = Field(None, gt=0, le=1)
    stop_sequences: list[Text] | None = None
    stream: bool | None = False
    output_format: dict[str, Any] | None = Field(None, description="json_schema; also as output_config.format.")
    output_config: dict[str, Any] | None = None


class TokenCountRequest(MessagesRequest):
    """The same request, whose tokens are to be counted: nothing is written, so that `max_tokens` may be missing."""

    max_tokens: int = Field(1, ge=1)
