"""Rerank and score, as the clients of Cohere, Jina, Voyage, vLLM, Infinity and TEI know them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from .base import FilledText, Loose, Text, Usage
from .options import Done, Options


class RerankRequest(Loose):
    """The fields of Cohere, Jina, Voyage, vLLM, Infinity and TEI in one."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "query": "capital of France",
                    "documents": ["Berlin is in Germany.", "Paris is the capital of France."],
                    "top_n": 1,
                }
            ]
        },
    )

    model: str | None = None
    query: FilledText
    documents: list[Text | dict[str, JsonValue]] | dict[str, JsonValue] | None = Field(
        None, description="Texts, or objects with one of text, content, snippet, page_content; or `texts`."
    )
    texts: list[Text] | None = Field(None, description="TEI's name; the reply is then TEI's bare array.")
    top_n: int | None = Field(None, description="null or 0: all.")
    top_k: int | None = Field(None, description="Voyage's name for `top_n`.")
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    rank_fields: list[Text] | None = Field(None, description="Cohere's: the fields of an object that are its text.")
    max_tokens_per_doc: int | None = Field(None, ge=1, description="Cohere's: longer documents are cut off (local).")
    truncate_prompt_tokens: int | None = Field(None, ge=-1, description="vLLM's: of query and document (local).")
    truncate: bool | None = Field(None, description="TEI's: cut documents off so that all fit, where they don't.")
    truncation: bool | None = Field(None, description="Voyage's name for `truncate`.")
    max_chunks_per_doc: int | None = Field(None, description="Cohere's; a document is one piece here, so 1 at most.")
    fairpos: Options | None = None


class RerankResult(BaseModel):
    """One document."""

    index: int = Field(description="In the request.")
    relevance_score: float = Field(
        ge=0, le=1, description="Strictly decreasing in the returned order; for the order, not for thresholds."
    )
    raw_score: float | None = Field(None, description="The ranker's own score.")
    document: dict[str, str] | None = None


class VoyageResult(BaseModel):
    """One document, in Voyage's shape."""

    index: int
    relevance_score: float
    document: str | None = None


class RerankReply(BaseModel):
    """Cohere's, Jina's and Voyage's reply in one."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[RerankResult]
    data: list[VoyageResult] | None = Field(None, description="The same, where the request has Voyage's names.")
    usage: Usage
    meta: dict[str, Any]
    fairpos: Done


class TeiRank(BaseModel):
    """One text, in TEI's shape."""

    index: int
    score: float
    text: str | None = None


class ScoreRequest(Loose):
    """vLLM's score."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [{"model": "smollm2", "text_1": "Who wrote Emma?", "text_2": ["Emma is by Jane Austen."]}]
        },
    )

    model: str | None = None
    text_1: Text | list[Text] = Field(description="The query; or one for each text.")
    text_2: Text | list[Text] = Field(description="What is scored.")


class ScoreResult(BaseModel):
    """One text's score."""

    index: int
    object: Literal["score"] = "score"
    score: float = Field(ge=0, le=1)


class ScoreReply(BaseModel):
    """vLLM's reply."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ScoreResult]
    usage: Usage
