"""Candidates as parallel branches: one pass gives what a pass for each gives, whatever the order."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

from fairpos import FairModel, Segment
from fairpos.backends import branches
from fairpos.backends.base import Reply, Score
from fairpos.backends.branches import score_in_branches
from fairpos.errors import TooLong
from fairpos.layout import Layout
from fairpos.prompts import render
from fairpos.rankers.candidates import CANDIDATES
from fairpos.testing.subjects import QUERY, SEGMENTS, ToldBackend, request_for
from fairpos.testing.tiny import tiny_backend
from tests.tiny_models import TINY, plain_logits, tiny_model


def separate_passes(model, prompt, replies):
    """Log-probability of each reply by a stock pass over the prompt and this reply alone."""
    found = []
    for reply in replies:
        log_probs = torch.log_softmax(plain_logits(model, [*prompt, *reply]), dim=-1)
        found.append(sum(float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(reply)))
    return found


def drawn(seed, count=6):
    draw = random.Random(seed)
    prompt = tuple(draw.randrange(3, 60) for _ in range(17))
    return prompt, [tuple(draw.randrange(3, 60) for _ in range(draw.randrange(1, 9))) for _ in range(count)]


@pytest.mark.parametrize("architecture", TINY)
def test_one_pass_equals_a_stock_pass_for_each_candidate(architecture):
    from fairpos.backends.hf import HFBackend

    model = tiny_model(architecture, torch.float32)
    backend = HFBackend(model, tiny_backend().tokenizer)
    prompt, replies = drawn(1)
    [found] = score_in_branches(backend, [Layout(prompt, ())], [replies], None)
    assert found.log_probs == pytest.approx(separate_passes(model, prompt, replies), abs=1e-4)
    assert found.greedy == backend.score([Layout(prompt, ())], [replies])[0][1]


def test_many_tokens_are_read_in_several_passes(monkeypatch):
    model = tiny_model("llama", torch.float32)
    monkeypatch.setattr(branches, "_MOST_TOKENS", 7)
    backend = tiny_backend()
    prompt, replies = drawn(2)
    backend = type(backend)(model, backend.tokenizer)
    [found] = score_in_branches(backend, [Layout(prompt, ())], [replies], None)
    assert found.log_probs == pytest.approx(separate_passes(model, prompt, replies), abs=1e-4)


def test_a_model_whose_attention_cannot_be_replaced_gives_the_same(monkeypatch):
    from fairpos.errors import UnsupportedModel

    backend, (prompt, replies) = tiny_backend(), drawn(3)
    [one_pass] = score_in_branches(backend, [Layout(prompt, ())], [replies], None)

    def refuse(model):
        raise UnsupportedModel("not this one")

    monkeypatch.setattr(branches, "seam_of", refuse)
    [one_by_one] = score_in_branches(backend, [Layout(prompt, ())], [replies], None)
    assert one_by_one.log_probs == pytest.approx(one_pass.log_probs, abs=1e-4)


def test_the_prompt_is_read_once_and_the_candidates_beside_it(monkeypatch):
    backend = tiny_backend()
    read = []
    forward = backend.model.forward
    monkeypatch.setattr(
        backend.model, "forward", lambda ids, **rest: (read.append(ids.shape[1]), forward(ids, **rest))[1]
    )
    request = replace(request_for("rank"), segments=(), labels=None)
    texts = tuple(f" {segment.text}" for segment in SEGMENTS)
    [reply] = backend.run([Score(render(request, CANDIDATES), texts, branched=True)])
    assert read == [len(backend.layout(render(request, CANDIDATES))) + sum(reply.tokens)]
    assert reply.usage.calls == 1


def test_scores_are_means_of_a_real_models_passes_less_what_a_candidate_has_by_itself():
    backend = tiny_backend()
    for own in ("kept", "subtracted"):
        found = FairModel(backend).rank(QUERY, SEGMENTS, ranker=f"candidates:own={own}")
        for segment in SEGMENTS:
            expected = 0.0
            for sign, query in ((1, QUERY), (-1, "N/A"))[: 1 if own == "kept" else 2]:
                prompt = render(replace(request_for("rank"), query=query, segments=(), labels=None), CANDIDATES)
                heading = f"{segment.title}: " if segment.title else ""
                tokens = backend.tokenizer(f" {heading}{segment.text}", add_special_tokens=False)["input_ids"]
                [total] = separate_passes(backend.model, backend.layout(prompt).input_ids, [tokens])
                expected += sign * total / len(tokens)
            assert found.scores[segment.id] == pytest.approx(expected, abs=1e-4)


def test_every_order_gives_the_same_to_the_bit():
    fair = FairModel(tiny_backend())
    outputs = [fair.rank(QUERY, list(order), ranker="candidates") for order in itertools.permutations(SEGMENTS)]
    assert all(output.scores == outputs[0].scores for output in outputs)
    assert all(output.ranking == outputs[0].ranking for output in outputs)


def test_a_candidate_that_is_likely_anyway_does_not_win():
    def reply(call):
        known = {" common": -10.0, " asked": -12.0}
        alone = {" common": -10.5, " asked": -20.0}
        table = alone if "N/A" in call.prompt.text else known
        return Reply(log_probs=tuple(table[text] for text in call.replies), tokens=(2,) * len(call.replies))

    segments = [Segment(id=text, text=text) for text in ("common", "asked")]
    fair = FairModel(ToldBackend(reply))
    assert fair.rank("q", segments, ranker="candidates").scores == {"asked": 4.0, "common": 0.25}
    assert fair.rank("q", segments, ranker="candidates:own=kept").ranking == ("common", "asked")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(log_probs=(-1.0, -2.0)),
        Reply("partial", log_probs=(-1.0, -2.0), tokens=(1, 1), bounded=(True, True)),
        Reply("timeout"),
    ],
)
def test_what_isnt_known_isnt_ranked(reply):
    found = FairModel(ToldBackend(lambda call: reply)).rank(QUERY, SEGMENTS[:2], ranker="candidates")
    assert (found.ranking, found.scores) == ((), {})
    assert found.status != "ok"


def test_what_is_known_is_ranked_and_the_rest_said_to_be_missing():
    reply = Reply("partial", log_probs=(-1.0, -2.0), tokens=(1, 1), bounded=(False, True))
    found = FairModel(ToldBackend(lambda call: reply)).rank(QUERY, SEGMENTS[:2], ranker="candidates:own=kept")
    assert len(found.ranking) == 1
    assert found.status == "partial"


def test_too_long_is_said():
    backend = tiny_backend()
    with pytest.raises(TooLong):
        score_in_branches(backend, [Layout((5,) * 4000, ())], [[(5,) * 200, (6,)]], None)
