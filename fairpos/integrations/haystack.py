"""Haystack 3: components that rank, reorder and answer. Needs `fairpos[haystack]`.

Documents keep their ids and meta and are not changed. Two with one id (of the same content and meta, mostly) both stay.
A pipeline is written and read with all options; a model in memory can't be written. Haystack reads a pipeline with
components of others only where it is told to: `Pipeline.loads(text, allowed_modules=["fairpos.*"])`. `run_async` of a
pipeline runs them in threads.
"""

from dataclasses import replace
from typing import Any

from fairpos.backends.base import Decoding
from fairpos.extras import missing_extra
from fairpos.integrations.documents import finite_score
from fairpos.integrations.models import Model, open_model, written_name
from fairpos.integrations.work import Answering, OnFailure, Reordering, Reranking
from fairpos.model import FairModel
from fairpos.types import Segment, Turn

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ChatMessage
except ImportError as error:
    raise missing_extra("this needs Haystack", "haystack", error) from error


@component
class FairposReranker:
    """Ranks documents with a model, without the order of the list having a say.

    `score` is in [0, 1] and strictly decreases along the result; it is no probability. A document that the model didn't
    rank comes last, with None.

    COST: by default 5 calls of the model for each query; batched on a local model, at once on an endpoint.
    HURTS: long lists that don't fit into the model's context are refused; `windows` reads them piece by piece.

    Args:
        model: A FairModel, or what `fairpos.load` takes, or an endpoint's address: "http://host:8000/v1#model".
        methods: In text form; all of `fairpos methods` for the task "rank".
        ranker: How one view is asked (docs/ranking.md). "auto": by log-probabilities where the model gives them, else
            by a list that it writes.
        top_k: How many documents to return; None: all.
        on_failure: Where the model gives no ranking: "raise" NoResult, or "keep" the documents as they came and log it.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be.
    """

    def __init__(
        self,
        model: str | FairModel,
        methods: str = "permutation:views=5",
        ranker: str = "auto",
        top_k: int | None = None,
        on_failure: OnFailure = "raise",
    ) -> None:
        self._reranking = Reranking(model, methods, ranker, on_failure, top_k)

    def to_dict(self) -> dict[str, Any]:
        """All options; InvalidOption for a model in memory."""
        own = self._reranking
        data: dict[str, Any] = default_to_dict(
            self,
            model=written_name(own.model),
            methods=own.methods,
            ranker=own.ranker,
            top_k=own.most,
            on_failure=own.on_failure,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FairposReranker":
        """The component with these options."""
        made: FairposReranker = default_from_dict(cls, data)
        return made

    def warm_up(self) -> None:
        """Loads the model."""
        open_model(self._reranking.model)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """Copies of the documents, best first.

        Args:
            query: What they are to be relevant to.
            documents: In any order.
            top_k: Instead of the component's own.

        Raises:
            NoResult: the model gave no ranking.
        """
        reranking = self._reranking if top_k is None else replace(self._reranking, most=top_k)
        found = reranking.rank(query, documents, _segment_of)
        kept = documents if found is None else [replace(each.document, score=each.score) for each in found]
        return {"documents": list(kept)}


@component
class FairposReorder:
    """Puts documents in the order in which a model should be shown them; the last step before a prompt.

    Scores are the documents' own where all have one; else the first document counts as the most relevant.

    COST: none, but for methods whose relevance asks a model.
    HURTS: where a model reads best isn't always at the ends: measure (`fairpos advise`, `fairpos calibrate attn_rank`).

    Args:
        methods: Order-free ones of the input level: "edges", "descending", "ascending", "attn_rank", ...
        model: For methods that look at a model or have a profile of it.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be.
    """

    def __init__(self, methods: str = "edges", model: str | FairModel | None = None) -> None:
        self._reordering = Reordering(methods, model)

    def to_dict(self) -> dict[str, Any]:
        """All options; InvalidOption for a model in memory."""
        model: Model | None = self._reordering.model
        name = None if model is None else written_name(model)
        data: dict[str, Any] = default_to_dict(self, methods=self._reordering.methods, model=name)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FairposReorder":
        """The component with these options."""
        made: FairposReorder = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document], query: str | None = None) -> dict[str, list[Document]]:
        """The same documents in another order.

        Args:
            documents: See the class.
            query: For methods that read it.
        """
        return {"documents": self._reordering.reorder(documents, _segment_of, query)}


@component
class FairposGenerator:
    """Answers a query from documents.

    `replies[0].meta["fairpos"]` says what was done: methods, order and orders (document ids as shown), calls, status,
    failed, notes; `usage` and `finish_reason` are where Haystack's generators have them. An AnswerBuilder takes the
    replies.

    COST: by default 5 orders vote on every token of a local model, or on whole answers of an endpoint.
    HURTS: an endpoint's 5 whole answers rarely agree word for word when they are long.

    Args:
        model: A FairModel, or what `fairpos.load` takes, or an endpoint's address: "http://host:8000/v1#model".
        methods: In text form; all of `fairpos methods` for the task "answer".
        max_tokens: New tokens, at the most.
        system_prompt: How to answer; empty: nothing is said.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be.
    """

    def __init__(
        self,
        model: str | FairModel,
        methods: str = "permutation:views=5",
        max_tokens: int = 256,
        system_prompt: str = "",
    ) -> None:
        self._answering = Answering(model, methods, Decoding(max_new_tokens=max_tokens))
        self.system_prompt = system_prompt

    def to_dict(self) -> dict[str, Any]:
        """All options; InvalidOption for a model in memory."""
        own = self._answering
        data: dict[str, Any] = default_to_dict(
            self,
            model=written_name(own.model),
            methods=own.methods,
            max_tokens=own.decoding.max_new_tokens,
            system_prompt=self.system_prompt,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FairposGenerator":
        """The component with these options."""
        made: FairposGenerator = default_from_dict(cls, data)
        return made

    def warm_up(self) -> None:
        """Loads the model."""
        open_model(self._answering.model)

    @component.output_types(replies=list[ChatMessage])
    def run(self, query: str, documents: list[Document]) -> dict[str, list[ChatMessage]]:
        """One reply.

        Args:
            query: The user's words.
            documents: In any order.

        Raises:
            NoResult: the model gave no answer.
        """
        history = [Turn("system", self.system_prompt)] if self.system_prompt else []
        answer = self._answering.answer(query, documents, _segment_of, history)
        usage = answer.output.usage
        read, new = usage.prompt_tokens, usage.completion_tokens
        meta = {
            "model": open_model(self._answering.model).backend.name,
            "finish_reason": "length" if answer.is_cut_off else "stop",
            "usage": {"prompt_tokens": read, "completion_tokens": new, "total_tokens": read + new},
            "fairpos": answer.told,
        }
        return {"replies": [ChatMessage.from_assistant(answer.text, meta=meta)]}


def _segment_of(document: Document) -> Segment:
    return Segment(
        id=document.id,
        text=document.content or "",
        score=finite_score(document.score),
        metadata=document.meta,
    )
