"""Judging and arranging."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from .base import FilledText, Loose, Text, Usage
from .options import Done, Options


class Answer(Loose):
    """An answer to be judged."""

    text: Text
    id: Text | int | None = None


class JudgeRequest(Loose):
    """Several answers to one instruction."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "instruction": "Name a prime number.",
                    "answers": [{"id": "x", "text": "7"}, {"id": "y", "text": "8"}],
                }
            ]
        },
    )

    model: str | None = None
    instruction: FilledText
    answers: list[Text | Answer] | None = Field(
        None, description="Or `response_a` and `response_b`. An empty answer is judged, as an empty one."
    )
    response_a: Text | None = None
    response_b: Text | None = None
    fairpos: Options | None = None


class JudgeReply(BaseModel):
    """The verdict."""

    id: str
    object: Literal["judge"] = "judge"
    model: str
    winner: str | None = Field(description="Null for a tie.")
    ranking: list[str]
    scores: dict[str, float]
    usage: Usage
    fairpos: Done


class ArrangeRequest(Loose):
    """Documents to be put in order, without an answer."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [{"query": "Who wrote it?", "documents": ["first text", {"id": "b", "text": "second text"}]}]
        },
    )

    model: str | None = None
    query: FilledText
    documents: list[str | dict[str, JsonValue]]
    fairpos: Options | None = None


class ArrangeReply(BaseModel):
    """The documents, as a model should be shown them."""

    id: str
    object: Literal["arrangement"] = "arrangement"
    model: str
    documents: list[JsonValue] = Field(description="As they came, in the new order (of the first view).")
    order: list[str] = Field(description="Ids in the new order.")
    indices: list[int] = Field(description="The place of each in the request.")
    fairpos: Done
