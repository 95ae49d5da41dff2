"""Requests and replies as OpenAPI shows them. Fields that aren't named here are ignored, or handed on upstream."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from fairpos.prompts import Template


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


class Words(Strict):
    """How documents are put into words; placeholders {query}, {count}, {label}, {title}, {heading}, {text}."""

    instruction: Text = ""
    segment: Text = "{text}"
    question: Text = "{query}"

    def template(self) -> Template:
        """As the library wants it."""
        return Template(self.instruction, self.segment, self.question)


class Options(Strict):
    """The `fairpos` field of a request."""

    methods: Text | list[Text] | None = Field(
        None, description="`name:key=value,...`, joined by `+`, outermost first; see /v1/methods.", examples=["none"]
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Of everything random.")
    on_unsupported: Literal["error", "pass"] = Field(
        "error", description="What to do if the model can't do a method: a 422, or the plain model."
    )
    ranker: Text | None = Field(None, description="How one order is asked to rank.")
    template: Words | None = Field(None, description="How documents and question are put into words.")
    documents: Literal["inline", "pass"] = Field(
        "inline", description="For an upstream: write documents into the message, or hand the field on, reordered."
    )


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
    n: int | None = Field(None, ge=1)


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


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Done(BaseModel):
    """What the service did with the documents."""

    methods: str = Field(description="The methods that were applied.")
    order: list[str] | None = Field(None, description="Ids in the order shown, where there was one order.")
    orders: list[list[str]] = Field([], description="The order of each call.")
    calls: int = Field(0, description="Calls of the model.")
    profile: str | None = Field(None, description="The calibration that was used.")
    notes: list[str] = Field([], description="What a user should know of this reply.")


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


class Answer(Loose):
    """An answer to be judged."""

    text: FilledText
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
    answers: list[FilledText | Answer] | None = Field(None, description="Or `response_a` and `response_b`.")
    response_a: FilledText | None = None
    response_b: FilledText | None = None
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


class CalibrationRequest(Loose):
    """Records on which a model's slots are measured; its documents are put into words as in chat."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "count": 2,
                    "records": [
                        {
                            "id": "1",
                            "query": "Who wrote Emma?",
                            "passages": [{"id": "a", "text": "Emma is by Jane Austen."}, {"id": "b", "text": "Rome."}],
                            "gold": "a",
                        }
                    ],
                }
            ]
        },
    )

    model: str | None = None
    records: list[dict[str, JsonValue]] = Field(
        description="{id, query, passages, gold?, answers?}, or {id, pairs: [[key, value], ...]}."
    )
    count: int = Field(ge=2, le=100, description="Documents that a request will have.")
    signal: Literal["attention", "accuracy", "logprob"] = Field(
        "attention", description="Of a local model; accuracy and logprob of the known answer in each slot."
    )
    layers: Text = Field("auto", description="Of the attention: auto, u_shape, fit, all, a number, or a range 7-12.")
    probes: int = Field(20, ge=1, le=200, description="Prompts that are read, at most.")
    seed: int = Field(0, ge=0, le=2**32 - 1)


class Slot(BaseModel):
    """One slot's value with its 95 % interval."""

    value: float
    low: float
    high: float


class Calibration(BaseModel):
    """A stored profile."""

    id: str = Field(description="The file in the directory of profiles.")
    object: Literal["calibration"] = "calibration"
    model: str
    task: str
    count: int
    signal: str
    rule: str
    samples: int
    made: str
    template: str = Field(description="Fingerprint of the words that it holds for.")
    slots: list[Slot]


class CalibrationList(BaseModel):
    """All stored profiles."""

    object: Literal["list"] = "list"
    data: list[Calibration]


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str
    capabilities: list[str] = []


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class MethodCard(BaseModel):
    """One method."""

    name: str
    family: str
    summary: str
    source: str
    tasks: list[str]
    requires: list[str]
    order_free: bool
    options: dict[str, Any] = Field(description="Each option's default.")
    option_details: list[dict[str, Any]] = Field(description="Each option's type, range, nature and meaning.")
    description: str = Field("", description="What it does, costs, and when it hurts.")


class MethodList(BaseModel):
    """All methods."""

    object: Literal["list"] = "list"
    data: list[MethodCard]


class ErrorBody(BaseModel):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """An error as every client reads it."""

    error: ErrorBody
    detail: str
    message: str


# What routes read by themselves, so that limits come first and a body needs no content type.
BODIES: tuple[type[BaseModel], ...] = (
    ChatRequest,
    RerankRequest,
    ScoreRequest,
    JudgeRequest,
    ArrangeRequest,
    CalibrationRequest,
)
