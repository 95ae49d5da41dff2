"""Answers cite by id, checked against what was shown; the order shown plays no part."""

import dataclasses
import itertools
import json

import pytest

from fairpos import FairModel, Segment, Template
from fairpos.backends.base import Generate, Reply
from fairpos.files.template import find_template
from fairpos.prompts import CITED, render
from fairpos.types import Request, Usage
from tests.command_line import run_here
from tests.fake_endpoint import FakeEndpoint, Text

PASSAGES = [
    Segment(id="loom", text="Jacquard's loom was steered by cards."),
    Segment(id="engine", text="Babbage designed the engine."),
    Segment(id="program", text="Lovelace wrote the first program."),
]
NUMBERED = Template("", "({label}) {text}\n", "{query}")


class Citing:
    """Names the passage that speaks of Lovelace as it was called there, and one that nobody showed."""

    name = "citing"
    capabilities = frozenset({"generate", "score"})

    def run(self, calls):
        return [self._reply_to(call) for call in calls]

    def _reply_to(self, call):
        assert isinstance(call, Generate)
        shown = zip(call.prompt.names, call.prompt.request.segments, strict=True)
        named = [name for (name, _), segment in shown if "Lovelace" in segment.text]
        return Reply(text=f"Lovelace [{named[0]}], not [z9]." if named else "Nobody.", usage=Usage(1, 1, 1))


@pytest.mark.parametrize("methods", ["none", "permutation:views=3", "descending"])
@pytest.mark.parametrize("template", [CITED, NUMBERED], ids=["names", "numbers"])
def test_the_same_citations_for_every_order(template, methods):
    found = set()
    for order in itertools.permutations(PASSAGES):
        output = FairModel(Citing()).answer("Who wrote it?", order, methods, template=template)
        [citation] = output.citations
        assert output.text[citation.start : citation.end] == citation.text
        found.add((citation.id, output.unknown_citations))
        if methods != "none":
            assert not any("views gave this answer" in note for note in output.notes)  # numbers don't split the vote
    assert found == {("program", ("z9",))}


def test_names_tell_no_position():
    """Texts without ids are named by their content; an id of the caller's own is shown as it is."""
    texts = [segment.text for segment in PASSAGES]
    outputs = [FairModel(Citing()).answer("Who?", order, template=CITED) for order in itertools.permutations(texts)]
    assert len({output.text for output in outputs}) == 1
    cited = [dict(zip(output.views[0].order, order, strict=True))[output.citations[0].id]
             for output, order in zip(outputs, itertools.permutations(texts), strict=True)]  # fmt: skip
    assert set(cited) == {texts[2]}
    given = render(Request("answer", "q", (Segment(id=" 7 \n x", text="t"),)), CITED)
    assert given.segments == ("[7 x] t\n\n",)


def test_what_was_left_out_is_not_cited():
    long = [dataclasses.replace(segment, score=float(number)) for number, segment in enumerate(PASSAGES[::-1])]
    output = FairModel(Citing()).answer("Who?", long, template=CITED, fit="keep:context=110", max_new_tokens=8)
    assert "program" in output.left_out
    assert output.citations == ()


def test_citations_of_groups_lead_back_to_the_segments():
    outputs = [
        FairModel(Citing()).answer("Who?", order, template=CITED, fit="groups:context=120", max_new_tokens=8)
        for order in itertools.permutations(PASSAGES)
    ]
    assert {tuple(citation.id for citation in output.citations) for output in outputs} == {("program",)}
    assert len({output.text for output in outputs}) == 1
    assert "round 2 group" in outputs[0].text


def test_without_names_there_are_no_citations():
    class Bracketing(Citing):
        def _reply_to(self, call):
            return Reply(text="Lovelace [3] [loom].", usage=Usage(1, 1, 1))

    output = FairModel(Bracketing()).answer("Who?", PASSAGES)
    assert (output.citations, output.unknown_citations) == ((), ())


def test_on_the_command_line_and_by_name(tmp_path):
    assert find_template("cited", "answer") is CITED
    passages = [{"id": s.id, "text": s.text} for s in PASSAGES]
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "r", "query": "Who?", "passages": passages}))
    with FakeEndpoint(lambda body, nth: Text("Ada [program] [nobody9]")) as endpoint:
        out = tmp_path / "out.jsonl"
        model = f"openai:{endpoint.url}#m"
        run_here("answer", str(tmp_path / "in.jsonl"), "--model", model, "--template", "cited", "-o", str(out))
        line = json.loads(out.read_text())
        assert line["citations"] == [{"id": "program", "start": 4, "end": 13, "text": "[program]"}]
        assert line["unknown_citations"] == ["nobody9"]
