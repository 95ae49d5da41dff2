"""Haystack alone: pipelines, written and read."""

import asyncio
import os
import warnings

import pytest

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidOption
from tests.fake_endpoint import FakeEndpoint, Text, in_turn

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
with warnings.catch_warnings():  # of its own making
    warnings.simplefilter("ignore")
    haystack = pytest.importorskip("haystack")
    from haystack.components.builders import AnswerBuilder

    from fairpos.integrations.haystack import FairposGenerator, FairposReorder, FairposReranker
    from fairpos.integrations.models import open_model

LONGEST = FairModel(FakeBackend(quality=lambda query, segment: float(len(segment.text))))
DOCUMENTS = [haystack.Document(content="b" * n, id=f"d{n}", meta={"n": n}) for n in (2, 5, 1, 4)]


def pipeline_of(reranker, reorder, generator):
    pipeline = haystack.Pipeline()
    for name, each in {"rank": reranker, "order": reorder, "answer": generator, "build": AnswerBuilder()}.items():
        pipeline.add_component(name, each)
    pipeline.connect("rank.documents", "order.documents")
    pipeline.connect("order.documents", "answer.documents")
    pipeline.connect("order.documents", "build.documents")
    pipeline.connect("answer.replies", "build.replies")
    return pipeline


def test_in_a_pipeline():
    pipeline = pipeline_of(FairposReranker(LONGEST), FairposReorder(), FairposGenerator(LONGEST))
    asked = {"rank": {"query": "q", "documents": DOCUMENTS}, "answer": {"query": "q"}, "build": {"query": "q"}}
    for found in (pipeline.run(asked), asyncio.run(pipeline.run_async(asked))):
        [answer] = found["build"]["answers"]
        assert answer.data == "bbbbb"
        assert [document.id for document in answer.documents] == ["d5", "d2", "d1", "d4"]
        assert answer.meta["finish_reason"] == "stop"
        assert answer.meta["usage"]["total_tokens"] > 0
        assert answer.meta["fairpos"]["methods"] == "permutation:views=5"


def test_a_written_pipeline_is_read_with_all_options():
    options = {"model": "http://host:8000/v1#m", "methods": "permutation:views=3"}
    pipeline = pipeline_of(
        FairposReranker(**options, ranker="generate", top_k=2, on_failure="keep"),
        FairposReorder("descending", "smollm2"),
        FairposGenerator(**options, max_tokens=9, system_prompt="Be brief."),
    )
    text = pipeline.dumps()
    again = haystack.Pipeline.loads(text, allowed_modules=["fairpos.*"])
    assert again.to_dict()["components"] == pipeline.to_dict()["components"]
    assert again.get_component("rank").to_dict()["init_parameters"] == {
        **options,
        "ranker": "generate",
        "top_k": 2,
        "on_failure": "keep",
    }
    assert again.get_component("order").to_dict()["init_parameters"] == {"methods": "descending", "model": "smollm2"}
    assert again.get_component("answer").to_dict()["init_parameters"] == {
        **options,
        "max_tokens": 9,
        "system_prompt": "Be brief.",
    }


def test_a_model_in_memory_is_not_written():
    for component in (FairposReranker(LONGEST), FairposReorder("edges", LONGEST), FairposGenerator(LONGEST)):
        with pytest.raises(InvalidOption, match="can't be written down"):
            component.to_dict()


def test_the_reply_and_its_prompt():
    with FakeEndpoint(in_turn(Text("Ada", finish_reason="length"))) as endpoint:
        generator = FairposGenerator(f"{endpoint.url}#m", "none", max_tokens=5, system_prompt="Be brief.")
        generator.warm_up()
        [reply] = generator.run("Who?", [haystack.Document(content="by Ada")])["replies"]
    assert endpoint.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Documents:\n\nDocument: by Ada\n\nWho?"},
    ]
    assert (reply.text, reply.meta["finish_reason"]) == ("Ada", "length")
    assert reply.meta["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_top_k_of_a_run_and_documents_that_are_no_text():
    reranker = FairposReranker(LONGEST, top_k=3)
    image = haystack.Document(id="image", blob=haystack.dataclasses.ByteStream(b"\x89"))
    found = reranker.run("q", [image, *DOCUMENTS], top_k=5)["documents"]
    assert [document.id for document in found] == ["d5", "d4", "d2", "d1", "image"]
    assert len(reranker.run("q", DOCUMENTS)["documents"]) == 3


def test_one_name_is_one_model():
    assert open_model("http://127.0.0.1:9/v1#m") is open_model("openai:http://127.0.0.1:9/v1#m")
