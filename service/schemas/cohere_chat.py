"""The request of Cohere's chat."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, JsonValue

from .base import Loose, Text
from .options import Options


class CohereChatRequest(Loose):
    """Cohere's second version, with `fairpos`."""

    model_config = ConfigDict(
        extra="allow",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "messages": [{"role": "user", "content": "Who wrote Emma?"}],
                    "documents": [{"id": "a", "data": {"title": "Emma", "text": "Emma is a novel by Jane Austen."}}],
                    "max_tokens": 24,
                }
            ]
        },
    )

    model: str | None = None
    messages: list[dict[str, Any]]
    documents: list[str | dict[str, JsonValue]] | None = None
    fairpos: Options | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=1, description="0 where missing: greedy, so that it repeats.")
    p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**64)
    stop_sequences: list[Text] | None = None
    stream: bool | None = False
    response_format: dict[str, Any] | None = None
    citation_options: dict[str, Any] | None = None
