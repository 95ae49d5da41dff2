"""promptfoo's provider, by the contract of its own wrapper: JSON in, a mapping that is JSON out, no exception."""

import json
from pathlib import Path

import pytest
import yaml

from fairpos.integrations import promptfoo
from tests.service.running import tiny

EXAMPLE = Path(__file__).parents[2] / "examples" / "evaluation" / "promptfooconfig.yaml"
DOCUMENTS = [{"id": "garden", "text": "A garden."}, "It closes at six.", {"id": "tram", "text": "Tram 4."}]


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    fair = tiny()
    monkeypatch.setattr("fairpos.integrations.work.open_model", lambda _: fair)


def ask(documents=None, **config):
    """One call, its result as promptfoo writes it down."""
    variables = {"question": "When?"} | ({} if documents is None else {"documents": documents})
    said = promptfoo.call_api(
        "When?", {"id": "file://p.py", "config": {"max_tokens": 4, **config}}, {"vars": variables}
    )
    return json.loads(json.dumps(said))


def test_an_answer_is_the_same_for_every_order_and_says_how_it_came_about():
    said = ask(DOCUMENTS, methods="permutation:views=3")
    assert said["output"] == ask(DOCUMENTS[1:] + DOCUMENTS[:1], methods="permutation:views=3")["output"]
    assert said["metadata"]["fairpos"]["methods"] == "permutation:views=3"
    assert len(said["metadata"]["fairpos"]["orders"]) == 3
    tokens = said["tokenUsage"]
    assert tokens["total"] == tokens["prompt"] + tokens["completion"] > 0
    assert tokens["numRequests"] == 3


@pytest.mark.parametrize("documents", [None, []])
def test_without_documents_the_plain_model_answers(documents):
    assert ask(documents)["metadata"]["fairpos"]["methods"] == "none"


@pytest.mark.parametrize(
    ("documents", "config", "said"),
    [
        ("It closes at six.", {}, "disableVarExpansion"),
        ({"id": "a", "text": "b"}, {}, "disableVarExpansion"),
        ([{"id": "a"}], {}, "has no page_content, text, content"),
        ([" "], {}, "is empty"),
        (DOCUMENTS, {"method": "pine"}, "config has method; it may have model, methods, max_tokens, documents"),
        (DOCUMENTS, {"methods": "pin"}, "pine"),
        (DOCUMENTS, {"max_tokens": "4"}, "max_tokens must be a whole number, got '4'"),
        (DOCUMENTS, {"max_tokens": 0}, "InvalidOption"),
    ],
)
def test_a_mistake_is_an_error_in_the_table(documents, config, said):
    found = ask(documents, **config)
    assert set(found) == {"error"}
    assert said in found["error"]


def test_what_promptfoo_adds_to_the_configuration_is_taken():
    assert "output" in ask(DOCUMENTS, methods="none", basePath="/somewhere", workers=1)


def test_the_example_is_answered():
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert example["defaultTest"]["options"]["disableVarExpansion"]
    for provider in example["providers"]:
        assert (EXAMPLE.parent / provider["id"].removeprefix("file://")).is_file()
        for test in example["tests"]:
            assert "output" in promptfoo.call_api("When?", provider, {"vars": test["vars"]})
