"""A text completion's request."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from .base import Loose, Text


class CompletionRequest(Loose):
    """OpenAI's text completion, as lm-evaluation-harness and LlamaIndex send it."""

    model_config = ConfigDict(
        extra="allow",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={"examples": [{"model": "smollm2", "prompt": "Rome is", "max_tokens": 4}]},
    )

    model: str | None = None
    prompt: Text | list[Text] | list[int] | list[list[int]] = Field(
        description="Text or tokens, of one prompt or more."
    )
    max_tokens: int | None = Field(16, ge=0, description="0 only with `echo`.")
    temperature: float | None = Field(None, ge=0, le=10, description="0 where missing.")
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    n: int | None = Field(None, ge=1, description="Choices for each prompt; at most 32.")
    best_of: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    echo: bool | None = Field(None, description="The prompt stands before what is written, with its log-probabilities.")
    logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    add_special_tokens: bool = Field(True, description="vLLM's: of a prompt in text, those that it begins with.")
