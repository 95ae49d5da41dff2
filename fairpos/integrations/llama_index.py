"""LlamaIndex: postprocessors that rank and reorder, and a query engine's synthesizer. Needs `fairpos[llama-index]`.

Nodes keep their ids and metadata and are not changed; a model reads of them what LlamaIndex would show it
(`MetadataMode.LLM`). The async forms work in threads. See `fairpos.integrations` for what is behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fairpos.backends.base import Decoding
from fairpos.errors import InvalidRequest
from fairpos.extras import missing_extra
from fairpos.integrations.documents import finite_score
from fairpos.integrations.work import Answer, Answering
from fairpos.model import FairModel
from fairpos.types import Segment, Turn

try:
    from llama_index.core.base.response.schema import RESPONSE_TYPE
    from llama_index.core.llms import MockLLM
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.prompts.mixin import PromptDictType
    from llama_index.core.response_synthesizers import BaseSynthesizer
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, QueryType
    from llama_index.core.types import RESPONSE_TEXT_TYPE

    from fairpos.integrations.fields import ReorderingFields, RerankingFields
except ImportError as error:
    raise missing_extra("this needs LlamaIndex", "llama-index", error) from error


class FairposReranker(RerankingFields, BaseNodePostprocessor):
    """Ranks retrieved nodes with a model, without the order of the list having a say.

    `score` is in [0, 1] and strictly decreases along the result; it is no probability. A node that the model didn't
    rank comes last, with None.

    COST: by default 5 calls of the model for each query; batched on a local model, at once on an endpoint.
    HURTS: long lists that don't fit into the model's context are refused; `windows` reads them piece by piece.

    Attributes:
        model: A FairModel, or what `fairpos.load` takes, or an endpoint's address: "http://host:8000/v1#model".
        methods: In text form; all of `fairpos methods` for the task "rank".
        ranker: How one view is asked (docs/ranking.md). "auto": by log-probabilities where the model gives them, else
            by a list that it writes.
        top_n: How many nodes to return; None: all.
        on_failure: Where the model gives no ranking: "raise" NoResult, or "keep" the nodes as they came and log it.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be (pydantic shows the last two as its
            ValidationError).
    """

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex writes it."""
        return "FairposReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise InvalidRequest("ranking needs the query: postprocess_nodes(nodes, query_str=...)")
        found = self._reranking.rank(query_bundle.query_str, nodes, _segment_of)
        return list(nodes) if found is None else [NodeWithScore(node=r.document.node, score=r.score) for r in found]


class FairposReorder(ReorderingFields, BaseNodePostprocessor):
    """Puts nodes in the order in which a model should be shown them; the last postprocessor.

    Scores are the nodes' own where all have one; else the first node counts as the most relevant.

    COST: none, but for methods whose relevance asks a model.
    HURTS: where a model reads best isn't always at the ends: measure (`fairpos advise`, `fairpos calibrate attn_rank`).

    Attributes:
        methods: Order-free ones of the input level: "edges", "descending", "ascending", "attn_rank", ...
        model: For methods that look at a model or have a profile of it.
    """

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex writes it."""
        return "FairposReorder"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = None if query_bundle is None else query_bundle.query_str
        return self._reordering.reorder(nodes, _segment_of, query)


class FairposSynthesizer(BaseSynthesizer):
    """Answers a query from nodes: `RetrieverQueryEngine(retriever, FairposSynthesizer("smollm2"))`.

    `response.metadata["fairpos"]` says what was done: methods, order and orders (node ids as shown), calls, status,
    failed, notes. Nothing is split or refined: all nodes are in each prompt, and too many are refused. LlamaIndex's own
    `Settings.llm` is not used. A stream, structured output and several modalities are not offered.

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
        *,
        max_tokens: int = 256,
        system_prompt: str = "",
    ) -> None:
        super().__init__(llm=MockLLM())  # the base class looks for one with a key otherwise; it is never asked
        self._answering = Answering(model, methods, Decoding(max_new_tokens=max_tokens))
        self._history = [Turn("system", system_prompt)] if system_prompt else []

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        """Its prompt is fairpos's own."""

    def synthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """The response. Raises NoResult where the model gave none."""
        return super().synthesize(query, nodes, additional_source_nodes, shown=nodes, **response_kwargs)

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """The response. Raises NoResult where the model gave none."""
        return await super().asynthesize(query, nodes, additional_source_nodes, shown=nodes, **response_kwargs)

    def get_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        shown: Sequence[NodeWithScore] = (),
        **response_kwargs: Any,
    ) -> RESPONSE_TEXT_TYPE:
        """The answer from texts, or from nodes where they are at hand."""
        if response_kwargs:
            raise InvalidRequest(f"a synthesis takes no {', '.join(sorted(response_kwargs))}")
        if shown:
            return _Told(self._answering.answer(query_str, shown, _segment_of, self._history))
        return _Told(self._answering.answer(query_str, text_chunks, lambda text: Segment(text=text), self._history))

    async def aget_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        shown: Sequence[NodeWithScore] = (),
        **response_kwargs: Any,
    ) -> RESPONSE_TEXT_TYPE:
        """`get_response`, while the event loop goes on."""
        return await asyncio.to_thread(self.get_response, query_str, text_chunks, shown, **response_kwargs)

    def _prepare_response_output(
        self, response_str: RESPONSE_TEXT_TYPE | None, source_nodes: list[NodeWithScore]
    ) -> RESPONSE_TYPE:
        if not isinstance(response_str, _Told):
            return super()._prepare_response_output(response_str, source_nodes)
        response = super()._prepare_response_output(str(response_str), source_nodes)
        response.metadata = {**(response.metadata or {}), "fairpos": response_str.answer.told}
        return response


class _Told(str):
    """A text on its way through the base class, with how it was come by."""

    answer: Answer

    def __new__(cls, answer: Answer) -> _Told:
        told = super().__new__(cls, answer.text)
        told.answer = answer
        return told

    def __str__(self) -> str:
        return self.answer.text


def _segment_of(found: NodeWithScore) -> Segment:
    return Segment(
        id=found.node.node_id,
        text=found.node.get_content(metadata_mode=MetadataMode.LLM),
        score=finite_score(found.score),
        metadata=found.node.metadata,
    )
