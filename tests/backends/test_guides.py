"""What follows a generation token by token: log-probabilities noted, text held to a schema."""

import itertools
import json
import math

import pytest
import torch

from fairpos.backends.base import Decoding, Generate
from fairpos.backends.grammar import GrammarGuide
from fairpos.backends.token_log_probs import TokenRecorder, prompt_log_probs
from fairpos.errors import InvalidOption, TooLong
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse
from fairpos.passages import as_segments
from fairpos.prompts import render
from fairpos.rankers.base import find_ranker
from fairpos.runner import run
from fairpos.types import Request
from tests.service.running import tiny

SCHEMA = {
    "type": "object",
    "properties": {"winner": {"enum": ["a", "b"]}, "sure": {"type": "boolean"}},
    "required": ["winner", "sure"],
    "additionalProperties": False,
}
SEGMENTS = as_segments(["one", "two", "three"])


@pytest.fixture(scope="module")
def backend():
    return tiny().backend


def answer(backend, methods, guides, segments=SEGMENTS):
    request = Request("answer", "Which?", tuple(segments))
    decoding = Decoding(40, guides=guides)
    [output] = run([request], parse(methods), backend, ranker=find_ranker("first_token"), decoding=decoding)
    return output


@pytest.mark.parametrize("methods", ["none", "set_based", "pine", "permutation:views=3", "placements:views=3"])
def test_every_order_gives_the_same_text_of_the_schema_with_the_same_log_probs(backend, methods):
    found = set()
    for order in itertools.permutations(SEGMENTS):
        recorder = TokenRecorder(1)
        output = answer(backend, methods, (recorder, GrammarGuide(backend, SCHEMA)), order)
        assert set(json.loads(output.text)) == {"winner", "sure"}
        found.add((output.text, tuple(recorder.tokens)))
    assert len(found) == 1 or methods == "none"


def test_a_text_ends_with_its_schema_though_the_model_never_ends(backend):
    output = answer(backend, "none", (GrammarGuide(backend, {"enum": [17]}),))
    assert output.text == "17"
    assert output.status == "ok"


@pytest.mark.parametrize(
    "schema", [{"type": "foo"}, {"type": "string", "pattern": "("}, {"contains": 3}, {"$ref": "http://x/y"}, [1]]
)
def test_a_schema_that_cannot_be_enforced_is_refused(backend, schema):
    with pytest.raises(InvalidOption, match="schema"):
        GrammarGuide(backend, schema)


def test_noted_log_probs_are_those_of_scoring(backend):
    prompt = render(Request("answer", "Which?", ()))
    recorder = TokenRecorder(2)
    [reply] = backend.run([Generate(prompt, Decoding(5, guides=(recorder,)))])
    assert [each.token for each in recorder.tokens] == [each.top[0][0] for each in recorder.tokens]  # it is greedy
    layout = backend.layout(prompt)
    [(log_probs, greedy)] = backend.score([layout], [[[each.token for each in recorder.tokens]]])
    assert greedy == (True,)
    assert math.fsum(each.log_prob for each in recorder.tokens) == pytest.approx(log_probs[0], abs=1e-4)
    assert reply.usage.completion_tokens == 5


def test_rows_of_one_batch_have_recorders_of_their_own(backend):
    calls, recorders = [], []
    for query in ("Which?", "Who was it?"):
        recorders.append(TokenRecorder())
        calls.append(Generate(render(Request("answer", query, ())), Decoding(4, guides=(recorders[-1],))))
    calls.append(Generate(calls[0].prompt, Decoding(4, stop=("zz",))))
    together = backend.run(calls)
    for call, recorder, reply in zip(calls, recorders, together, strict=False):
        assert backend.tokenizer.decode([each.token for each in recorder.tokens]) == reply.text
        [(log_probs, _)] = backend.score([backend.layout(call.prompt)], [[[each.token for each in recorder.tokens]]])
        assert math.fsum(each.log_prob for each in recorder.tokens) == pytest.approx(log_probs[0], abs=1e-4)


@pytest.mark.parametrize("length", [1, 2, 257, 700])
def test_a_prompts_log_probs_add_up_to_its_score(backend, length):
    tokens = [(7 * i) % 250 for i in range(length)]
    found = prompt_log_probs(backend, tokens, 1)
    assert [each.token for each in found] == tokens
    assert found[0].log_prob is None
    if length > 1:
        [(log_probs, _)] = backend.score([Layout.of(tokens[:1], [])], [[tokens[1:]]])
        assert math.fsum(each.log_prob for each in found[1:]) == pytest.approx(log_probs[0], rel=1e-4)
        logits = backend.logits([Layout.of(tokens[:-1], [])])[0]
        assert found[-1].top[0][0] == int(logits.argmax())
        assert found[-1].top[0][1] == pytest.approx(float(torch.log_softmax(logits, -1).max()), abs=1e-4)


def test_a_prompt_beyond_the_context_is_refused(backend):
    with pytest.raises(TooLong):
        prompt_log_probs(backend, [1] * 4097)
