"""Likelihood: the mean log-probability of the query's tokens after each passage alone."""

import pytest
import torch

from fairpos import FairModel, Segment
from fairpos.backends.base import Reply
from fairpos.errors import UnsupportedBackend
from fairpos.prompts import render
from fairpos.rankers.likelihood import LIKELIHOOD
from fairpos.testing.subjects import QUERY, SEGMENTS, ToldBackend, request_for, wordy_backend
from fairpos.testing.tiny import tiny_backend


def test_scores_are_means_over_the_querys_tokens():
    by_text = {"a": (-6.0, 3), "b": (-4.0, 4), "c": (-9.0, 3)}

    def reply(call):
        assert call.replies == (" who?",)
        log_prob, tokens = by_text[call.prompt.request.segments[0].text]
        return Reply(log_probs=(log_prob,), tokens=(tokens,))

    found = FairModel(ToldBackend(reply)).rank("who? ", [Segment(id=id, text=id) for id in "cab"], ranker="likelihood")
    assert found.scores == {"a": -2.0, "b": -1.0, "c": -3.0}
    assert found.ranking == ("b", "a", "c")
    assert found.usage.calls == 3


def test_on_a_real_model_it_is_one_forward_pass_over_passage_and_query():
    """Against the model itself: log-softmax of its logits at the query's tokens."""
    backend = tiny_backend()
    found = FairModel(backend).rank(QUERY, SEGMENTS, ranker="likelihood")
    for segment in SEGMENTS:
        prompt = render(request_for("rank", [segment]), LIKELIHOOD)
        layout = backend.layout(prompt)
        query = backend.tokenizer(f" {QUERY}", add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*layout.input_ids, *query]])
        with torch.inference_mode():
            log_probs = backend.model(ids).logits[0].log_softmax(-1)
        start = len(layout.input_ids) - 1
        expected = sum(float(log_probs[start + i, token]) for i, token in enumerate(query)) / len(query)
        assert found.scores[segment.id] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "reply", [Reply(log_probs=(-1.0,)), Reply("partial", log_probs=(-1.0,), tokens=(1,), bounded=(True,))]
)
def test_what_isnt_known_isnt_ranked(reply):
    found = FairModel(ToldBackend(lambda call: reply)).rank(QUERY, SEGMENTS, ranker="likelihood")
    assert (found.ranking, found.scores) == ((), {})
    assert found.status != "ok"


def test_a_model_without_probabilities_is_refused():
    with pytest.raises(UnsupportedBackend, match="'likelihood' needs a backend that can score"):
        FairModel(wordy_backend()).rank(QUERY, SEGMENTS, ranker="likelihood")
