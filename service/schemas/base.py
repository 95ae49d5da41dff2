"""What all schemas are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict


def _valid_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"has a lone surrogate at character {error.start}; it must be valid Unicode") from None
    return value


def _filled_text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; it needs text")
    return value


Text = Annotated[str, AfterValidator(_valid_text)]
FilledText = Annotated[Text, AfterValidator(_filled_text)]


class Loose(BaseModel):
    """Clients send more than we know; it is ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())


class Strict(BaseModel):
    """Our own options: a misspelt one must not turn into a silently plain answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ErrorBody(BaseModel):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """An error as every client reads it."""

    type: Literal["error"] = "error"
    error: ErrorBody
    detail: str
    message: str
