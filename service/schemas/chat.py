"""A chat completion's request."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, JsonValue

from .base import Loose
from .options import Options


class ChatRequest(Loose):
    """OpenAI's chat completion, with `documents` and `fairpos`; an upstream gets every other field as it is."""

    model_config = ConfigDict(
        extra="allow",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "messages": [{"role": "user", "content": "Who wrote the novel?"}],
                    "documents": [
                        {"id": "a", "title": "Emma", "text": "Emma is a novel by Jane Austen."},
                        {"id": "b", "title": "Ulysses", "text": "Ulysses is a novel by James Joyce."},
                    ],
                    "fairpos": {"methods": "none"},
                    "max_tokens": 24,
                }
            ]
        },
    )

    model: str | None = Field(None, description="One of /v1/models; the service's first one where missing.")
    messages: list[dict[str, Any]] = Field(description="OpenAI's messages; content may hold document blocks.")
    documents: list[str | dict[str, JsonValue]] | None = Field(
        None, description="Text, or {id?, title?, text, score?, metadata?}, or {id, data: {...}}."
    )
    fairpos: Options | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=10, description="0 where missing: greedy, so that it repeats.")
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    stop: str | list[str] | None = None
    n: int | None = Field(None, ge=1, description="Choices; on a local model at most 32.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = Field(
        None, description="text, json_object, or json_schema, which a local model is held to by a grammar."
    )
