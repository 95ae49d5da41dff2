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
