"""The request of OpenAI's Responses."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, JsonValue

from .base import Loose, Text
from .options import Options


class ResponsesRequest(Loose):
    """OpenAI's, with `documents` and `fairpos`."""

    model_config = ConfigDict(
        extra="allow",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "input": "Who wrote Emma?",
                    "documents": [{"id": "a", "text": "Emma is a novel by Jane Austen."}],
                    "max_output_tokens": 24,
                }
            ]
        },
    )

    model: str | None = None
    input: Text | list[dict[str, Any]]
    instructions: Text | None = None
    documents: list[str | dict[str, JsonValue]] | None = None
    fairpos: Options | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, description="0 where missing: greedy, so that it repeats.")
    top_p: float | None = Field(None, gt=0, le=1)
    text: dict[str, Any] | None = None
    include: list[str] | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    metadata: dict[str, str] | None = None
    store: bool | None = Field(None, description="Nothing is stored here, which the reply says.")
    stream: bool | None = False
