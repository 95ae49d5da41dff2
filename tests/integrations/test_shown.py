"""What docs/integrations.md and examples/frameworks show is run, against the packages themselves."""

import gc
import os
import re
import runpy
import warnings
from pathlib import Path

import pytest

from fairpos import FairModel
from fairpos.integrations import models
from fairpos.testing.tiny import tiny_backend
from tests.fake_endpoint import FakeEndpoint, Text, in_turn
from tests.service.running import running
from tests.service.upstream import Scripted, completion

with warnings.catch_warnings():  # of their own making
    warnings.simplefilter("ignore")
    from langchain_openai import ChatOpenAI
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
CHAPTERS = dict(re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", PAGE, re.M | re.S))
NEEDS = {"LangChain": "langchain_core", "LlamaIndex": "llama_index", "Haystack": "haystack"}
EXAMPLES = {"rag_in_langchain": "langchain_core", "rag_in_llama_index": "llama_index", "rag_in_haystack": "haystack"}

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


def need(package: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(package)


@pytest.mark.parametrize("chapter", NEEDS)
def test_the_page(chapter, capsys, monkeypatch):
    """By a tiny model under the name on the page."""
    need(NEEDS[chapter])
    monkeypatch.setitem(models._opened, "smollm2", FairModel(tiny_backend()))
    exec(compile(CHAPTERS[chapter], "integrations.md", "exec"), {})
    said = capsys.readouterr().out
    assert "'methods': '" in said
    assert "'failed': {}" in said


def test_the_page_through_the_service(capsys):
    with (
        FakeEndpoint(in_turn(Text("[2] > [1]"))) as upstream,
        running(upstream=upstream.url, ranker="generate", rerank_methods="permutation:views=2") as service,
    ):
        code = CHAPTERS["Through the service"].replace("http://127.0.0.1:8000", service.url)
        exec(compile(code, "integrations.md", "exec"), {})
        gc.collect()  # the clients leave their sockets to the collector
    answered, ranked = capsys.readouterr().out.splitlines()
    assert answered.endswith(("garden,museum", "museum,garden"))
    assert "relevance_score" in ranked


def test_what_the_page_says_of_other_clients():
    """Streams and bound arguments of ChatOpenAI; what Haystack and LlamaIndex keep of a reply."""
    documents = [{"id": "a", "text": "Emma is by Austen"}, {"id": "b", "text": "Ulysses is by Joyce"}]
    extra = {"documents": documents, "fairpos": {"methods": "edges"}}
    with Scripted(completion) as upstream, running(upstream=upstream.url, ranker="generate") as service:
        base = service.url + "/v1"
        chat = ChatOpenAI(base_url=base, api_key="any", model="m", include_response_headers=True)
        first, *_ = chat.bind(extra_body=extra).stream("Who wrote Emma?")
        assert sorted(first.response_metadata["headers"]["x-fairpos-order"].split(",")) == ["a", "b"]
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("a", "b")]
        with pytest.raises(AssertionError) as caught:  # the model says "hello there", which ranks nothing: a 502
            TextEmbeddingInference(base_url=service.url, model_name="m").postprocess_nodes(nodes, query_str="q")
        assert str(caught.value) == ""
        need("haystack")
        from haystack.components.generators.chat import OpenAIChatGenerator
        from haystack.dataclasses import ChatMessage
        from haystack.utils import Secret

        generator = OpenAIChatGenerator(api_key=Secret.from_token("any"), api_base_url=base, model="m")
        asked = generator.run([ChatMessage.from_user("Who?")], generation_kwargs={"extra_body": extra})
        assert asked["replies"][0].text == "hello there"
        assert "fairpos" not in asked["replies"][0].meta
        gc.collect()


@pytest.mark.long
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_and_are_short(name, capsys, monkeypatch, smollm2):
    need(EXAMPLES[name])
    monkeypatch.setitem(models._opened, "smollm2", smollm2)
    path = ROOT / "examples" / "frameworks" / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 20
    runpy.run_path(str(path), run_name="__main__")
    one, other = capsys.readouterr().out.splitlines()
    assert one == other  # both orders of the documents
    assert one.startswith("The museum closes at six in the evening.")


def test_all_examples_and_chapters_are_run():
    assert {path.stem for path in (ROOT / "examples" / "frameworks").glob("rag_*.py")} == set(EXAMPLES)
    assert set(CHAPTERS) == {*NEEDS, "Through the service"}
