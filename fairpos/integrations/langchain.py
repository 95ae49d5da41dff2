"""LangChain 1.x: a reranker, a reorderer and a chat model that takes documents. Needs `fairpos[langchain]`.

Documents keep their id, metadata and class; equal texts stay apart. See `fairpos.integrations` for what is behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairpos.backends.base import Decoding
from fairpos.errors import InvalidRequest
from fairpos.extras import missing_extra
from fairpos.integrations.documents import finite_score
from fairpos.integrations.models import Model, written_name
from fairpos.integrations.work import Answer, Answering
from fairpos.model import FairModel
from fairpos.types import Segment, Turn

try:
    from langchain_core.callbacks import CallbackManagerForLLMRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from pydantic import ConfigDict, field_serializer, model_validator

    from fairpos.integrations.fields import ReorderingFields, RerankingFields
except ImportError as error:
    raise missing_extra("this needs LangChain", "langchain", error) from error

_SCORE = "relevance_score"  # where LangChain's rerankers put it
_ROLES = {"system": "system", "human": "user", "ai": "assistant"}


class FairposReranker(RerankingFields, BaseDocumentCompressor):
    """Ranks retrieved documents with a model, without the order of the list having a say.

    `metadata["relevance_score"]` is in [0, 1] and strictly decreases along the result; it is no probability. A document
    that the model didn't rank comes last, with None. `acompress_documents` works in a thread.

    COST: by default 5 calls of the model for each query; batched on a local model, at once on an endpoint.
    HURTS: long lists that don't fit into the model's context are refused; `windows` reads them piece by piece.

    Attributes:
        model: A FairModel, or what `fairpos.load` takes, or an endpoint's address: "http://host:8000/v1#model".
        methods: In text form; all of `fairpos methods` for the task "rank".
        ranker: How one view is asked (docs/ranking.md). "auto": by log-probabilities where the model gives them, else
            by a list that it writes.
        top_n: How many documents to return; None: all.
        on_failure: Where the model gives no ranking: "raise" NoResult, or "keep" the documents as they came and log it.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be (pydantic shows the last two as its
            ValidationError).
    """

    model_config = ConfigDict(frozen=True)

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
    ) -> Sequence[Document]:
        """Copies of the documents, best first.

        Raises:
            NoResult: the model gave no ranking.
        """
        found = self._reranking.rank(query, documents, _segment_of)
        return list(documents) if found is None else [_with_score(each.document, each.score) for each in found]


class FairposReorder(ReorderingFields, BaseDocumentTransformer):
    """Puts documents in the order in which a model should be shown them; the last step before a prompt.

    The scores are those in `metadata["relevance_score"]` where all documents have one; else the first document counts
    as the most relevant. `transform_documents(documents, query="...")` for methods that read the query.

    COST: none, but for methods whose relevance asks a model.
    HURTS: where a model reads best isn't always at the ends: measure (`fairpos advise`, `fairpos calibrate attn_rank`).

    Attributes:
        methods: Order-free ones of the input level: "edges", "descending", "ascending", "attn_rank", ...
        model: For methods that look at a model or have a profile of it.
    """

    model_config = ConfigDict(frozen=True)

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:
        """The same documents in another order.

        Args:
            documents: See the class.
            kwargs: `query`, for methods that read it.
        """
        return self._reordering.reorder(documents, _segment_of, kwargs.get("query"))


class FairposChat(BaseChatModel):
    """A chat model that is asked about documents: `chat.invoke("Who wrote Emma?", documents=retriever.invoke(...))`.

    The last message is the question, earlier ones are its history. `response_metadata["fairpos"]` says what was done:
    methods, order and orders (document ids as shown), calls, status, failed, notes. `ainvoke` and `abatch` work in
    threads; a stream comes in one piece. Tools and structured output are refused.

    COST: by default 5 orders vote on every token of a local model, or on whole answers of an endpoint.
    HURTS: an endpoint's 5 whole answers rarely agree word for word when they are long.

    Attributes:
        model: A FairModel, or what `fairpos.load` takes, or an endpoint's address: "http://host:8000/v1#model".
        methods: In text form; all of `fairpos methods` for the task "answer".
        max_tokens: New tokens, at the most.
        temperature: 0 is greedy.
        seed: Of the sampling; a temperature above 0 needs one.
        stop: Texts at which the answer ends; those of a call replace them.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    model: str | FairModel
    methods: str = "permutation:views=5"
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_options(self) -> FairposChat:
        self._answering(self.stop)
        if isinstance(self.model, FairModel) and self.cache is None:
            self.cache = False  # nothing in a cache's key would tell it from another model of that name
        return self

    @field_serializer("model")
    def _write_model(self, model: Model) -> str:
        return written_name(model)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Written and read by LangChain's `dumps` and `loads`; keys come from the environment and are in neither."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `loads` finds it."""
        return __name__.split(".")

    @property
    def _llm_type(self) -> str:
        return "fairpos"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        name = self.model.backend.name if isinstance(self.model, FairModel) else self.model
        options = {each: getattr(self, each) for each in ("methods", "max_tokens", "temperature", "seed", "stop")}
        return {"model": name, **options}

    def _answering(self, stop: Sequence[str]) -> Answering:
        return Answering(
            self.model,
            self.methods,
            Decoding(max_new_tokens=self.max_tokens, temperature=self.temperature, seed=self.seed, stop=tuple(stop)),
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._answer_to(messages, stop, **kwargs)
        message = AIMessage(
            content=answer.text, response_metadata=self._told_of(answer), usage_metadata=_usage_of(answer)
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        """One piece: several orders vote on it, or it comes from an endpoint whole."""
        answer = self._answer_to(messages, stop, **kwargs)
        message = AIMessageChunk(
            content=answer.text,
            response_metadata=self._told_of(answer),
            usage_metadata=_usage_of(answer),
            chunk_position="last",
        )
        chunk = ChatGenerationChunk(message=message)
        if run_manager is not None:
            run_manager.on_llm_new_token(answer.text, chunk=chunk)
        yield chunk

    def _answer_to(
        self,
        messages: list[BaseMessage],
        stop: Sequence[str] | None,
        documents: Sequence[Document] | None = None,
        **others: object,
    ) -> Answer:
        if others:
            raise InvalidRequest(f"a call takes documents and stop; got {', '.join(sorted(others))}")
        *before, last = messages
        if last.type != "human":
            raise InvalidRequest(f"the last message must be the user's, got {last.type!r}")
        history = [Turn(_role_of(message), _text_of(message)) for message in before]
        return self._answering(stop or self.stop).answer(_text_of(last), documents or [], _segment_of, history)

    def _told_of(self, answer: Answer) -> dict[str, object]:
        return {
            "model_name": self._identifying_params["model"],
            "finish_reason": "length" if answer.is_cut_off else "stop",
            "fairpos": answer.told,
        }


def _usage_of(answer: Answer) -> UsageMetadata:
    usage = answer.output.usage
    read = usage.prompt_tokens + usage.cached_prompt_tokens
    new = usage.completion_tokens + usage.cached_completion_tokens
    return UsageMetadata(input_tokens=read, output_tokens=new, total_tokens=read + new)


def _segment_of(document: Document) -> Segment:
    if not isinstance(document, Document):
        raise InvalidRequest(f"documents must be LangChain's Document, got {type(document).__name__}")
    return Segment(
        id=document.id or "",
        text=document.page_content,
        score=finite_score(document.metadata.get(_SCORE)),
        metadata={name: value for name, value in document.metadata.items() if name != _SCORE},
    )


def _with_score(document: Document, score: float | None) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, _SCORE: score}})


def _role_of(message: BaseMessage) -> str:
    if message.type not in _ROLES:
        raise InvalidRequest(f"a message must be of {', '.join(_ROLES)}; got one of {message.type!r}")
    return _ROLES[message.type]


def _text_of(message: BaseMessage) -> str:
    """The text of a message.

    Raises:
        InvalidRequest: it holds something else than text.
    """
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for block in blocks:
        if isinstance(block, dict) and block.get("type") != "text":
            raise InvalidRequest(f"a message must be text alone; got a block of type {block.get('type')!r}")
    return message.text
