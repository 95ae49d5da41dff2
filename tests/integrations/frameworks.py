"""What the three frameworks' classes have in common, in one shape, so that one contract holds them all to it.

A framework makes documents of its own, runs our classes as its users do, and tells text, id, metadata and score.
"""

import asyncio
import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Seen:
    """A document as a test looks at it; `id` is None where the framework made it up."""

    text: str
    id: str | None = None
    page: int | None = None
    score: float | None = None


class Framework(ABC):
    """One of them."""

    @abstractmethod
    def make(self, documents: Sequence[Seen]) -> list[Any]:
        """The framework's documents."""

    @abstractmethod
    def look(self, document: Any) -> Seen:
        """The other way round."""

    @abstractmethod
    def reranker(self, model: object, **options: object) -> Any:
        """Our reranker; `most` is the framework's top_n or top_k."""

    @abstractmethod
    def rerank(self, reranker: Any, query: str, documents: list[Any], *, in_loop: bool = False) -> list[Any]:
        """Ranks; from inside of an event loop where that is asked for."""

    @abstractmethod
    def reorder(self, documents: list[Any], query: str | None = None, **options: object) -> list[Any]:
        """Our reorderer's result."""

    @abstractmethod
    def answer(
        self, model: object, query: str, documents: list[Any], *, in_loop: bool = False, **options: object
    ) -> tuple[str, Mapping[str, Any]]:
        """The answer, and what it tells of itself."""

    @abstractmethod
    def written(self, component: Any) -> str:
        """The component as a configuration holds it."""

    @abstractmethod
    def read(self, component: Any, text: str) -> Any:
        """A component of the same class from that."""


class LangChain(Framework):
    def __init__(self) -> None:
        from fairpos.integrations import langchain

        self.ours = langchain

    def make(self, documents):
        from langchain_core.documents import Document

        def of(seen):
            metadata = {"page": seen.page} | ({} if seen.score is None else {"relevance_score": seen.score})
            return Document(page_content=seen.text, id=seen.id, metadata=metadata)

        return [of(seen) for seen in documents]

    def look(self, document):
        metadata = document.metadata
        return Seen(document.page_content, document.id, metadata["page"], metadata.get("relevance_score"))

    def reranker(self, model, *, most=None, **options):
        return self.ours.FairposReranker(model=model, top_n=most, **options)

    def rerank(self, reranker, query, documents, *, in_loop=False):
        if in_loop:
            return list(asyncio.run(reranker.acompress_documents(documents, query)))
        return list(reranker.compress_documents(documents, query))

    def reorder(self, documents, query=None, **options):
        more = {} if query is None else {"query": query}
        return list(self.ours.FairposReorder(**options).transform_documents(documents, **more))

    def answer(self, model, query, documents, *, in_loop=False, **options):
        chat = self.ours.FairposChat(model=model, **options)
        if in_loop:
            message = asyncio.run(chat.ainvoke(query, documents=documents))
        else:
            message = chat.invoke(query, documents=documents)
        return message.text, message.response_metadata["fairpos"]

    def written(self, component):
        return component.model_dump_json()

    def read(self, component, text):
        return type(component).model_validate_json(text)


class LlamaIndex(Framework):
    def __init__(self) -> None:
        with warnings.catch_warnings():  # of its own making
            warnings.simplefilter("ignore")
            from fairpos.integrations import llama_index

        self.ours = llama_index

    def make(self, documents):
        from llama_index.core.schema import NodeWithScore, TextNode

        def of(seen):
            node = TextNode(
                text=seen.text, metadata={"page": seen.page}, excluded_llm_metadata_keys=["page"], id_=seen.id or ""
            )
            return NodeWithScore(node=node, score=seen.score)

        return [of(seen) for seen in documents]

    def look(self, document):
        return Seen(document.text, document.node_id or None, document.metadata["page"], document.score)

    def reranker(self, model, *, most=None, **options):
        return self.ours.FairposReranker(model=model, top_n=most, **options)

    def rerank(self, reranker, query, documents, *, in_loop=False):
        if in_loop:
            return asyncio.run(reranker.apostprocess_nodes(documents, query_str=query))
        return reranker.postprocess_nodes(documents, query_str=query)

    def reorder(self, documents, query=None, **options):
        return self.ours.FairposReorder(**options).postprocess_nodes(documents, query_str=query)

    def answer(self, model, query, documents, *, in_loop=False, **options):
        synthesizer = self.ours.FairposSynthesizer(model, **options)
        if in_loop:
            response = asyncio.run(synthesizer.asynthesize(query, documents))
        else:
            response = synthesizer.synthesize(query, documents)
        return response.response, response.metadata["fairpos"]

    def written(self, component):
        return component.to_json()

    def read(self, component, text):
        return type(component).from_json(text)


class Haystack(Framework):
    def __init__(self) -> None:
        os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
        with warnings.catch_warnings():  # of its own making
            warnings.simplefilter("ignore")
            pytest.importorskip("haystack")
            from fairpos.integrations import haystack

        self.ours = haystack
        self.pipelines: dict[Any, Any] = {}  # a component can be in one alone

    def make(self, documents):
        from haystack import Document

        return [
            Document(content=seen.text, id=seen.id or "", meta={"page": seen.page}, score=seen.score)
            for seen in documents
        ]

    def look(self, document):
        return Seen(document.content, document.id, document.meta["page"], document.score)

    def reranker(self, model, *, most=None, **options):
        return self.ours.FairposReranker(model, top_k=most, **options)

    def rerank(self, reranker, query, documents, *, in_loop=False):
        return self._run(reranker, in_loop, query=query, documents=documents)["documents"]

    def reorder(self, documents, query=None, **options):
        return self._run(self.ours.FairposReorder(**options), False, documents=documents, query=query)["documents"]

    def answer(self, model, query, documents, *, in_loop=False, **options):
        generator = self.ours.FairposGenerator(model, **options)
        [reply] = self._run(generator, in_loop, query=query, documents=documents)["replies"]
        return reply.text, reply.meta["fairpos"]

    def written(self, component):
        return json.dumps(component.to_dict())

    def read(self, component, text):
        return type(component).from_dict(json.loads(text))

    def _run(self, component, in_loop, **inputs):
        """In a pipeline of its own, as a user would."""
        from haystack import Pipeline

        if component not in self.pipelines:
            self.pipelines[component] = Pipeline()
            self.pipelines[component].add_component("it", component)
        pipeline = self.pipelines[component]
        if in_loop:
            return asyncio.run(pipeline.run_async({"it": inputs}))["it"]
        return pipeline.run({"it": inputs})["it"]


FRAMEWORKS: dict[str, type[Framework]] = {"langchain": LangChain, "llama_index": LlamaIndex, "haystack": Haystack}
