"""Voting while generating: its law, its invariance, and that it is transformers' own generation underneath."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessor, LogitsProcessorList

import fairpos
from fairpos.aggregate import entropy_weighted
from fairpos.backends.base import Ballot, Decoding
from fairpos.backends.hf import HFBackend
from fairpos.backends.voting import pooled
from fairpos.errors import InvalidComposition, InvalidOption
from fairpos.methods.placements import Placements
from tests.prompts_in_tokens import orders, random_layout
from tests.tiny_models import tiny_model

UNIFORM, ENTROPY = Ballot(), Ballot("entropy", 4.0)


def cycle(layout):
    """All rotations of the canonical layout."""
    base = layout.canonical()
    pieces = [base.input_ids[start:end] for start, end in base.spans]
    head, tail = base.input_ids[: base.prefix_end], base.input_ids[base.suffix_start :]
    views = []
    for shift in range(len(pieces)):
        turned = pieces[shift:] + pieces[:shift]
        ids, spans = list(head), []
        for piece in turned:
            spans.append((len(ids), len(ids) + len(piece)))
            ids += piece
        views.append(fairpos.Layout.of([*ids, *tail], spans))
    return views


def test_pooling_by_hand():
    views = torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log()
    geometric = [math.sqrt(0.8 * 0.5), math.sqrt(0.2 * 0.5)]
    expected = [x / sum(geometric) for x in geometric]
    assert pooled(views, UNIFORM).exp().tolist() == pytest.approx(expected)
    entropies = [-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)), math.log(2)]
    weights = [math.exp(-4 * h) for h in entropies]
    mean = (weights[0] * 0.8 + weights[1] * 0.5) / sum(weights)
    assert pooled(views, ENTROPY).exp().tolist() == pytest.approx([mean, 1 - mean])
    assert [math.exp(s) for s in entropy_weighted(views.tolist(), 2).scores] == pytest.approx([mean, 1 - mean])
    assert pooled(views, Ballot("entropy", 0.0)).exp().tolist() == pytest.approx([0.65, 0.35])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 6))
def test_the_uniform_vote_is_never_below_the_mean_over_orders(seed, length, tokenizer):
    backend = fairpos.wrap(tiny_model("llama", torch.float64), tokenizer).backend
    views = cycle(random_layout(seed, (5, 3, 6)))
    draw = torch.Generator().manual_seed(seed)
    reply = torch.randint(3, 50, (length,), generator=draw).tolist()
    each = [backend.score([view], [[reply]])[0][0][0] for view in views]
    assert backend.vote_score(views, reply) >= sum(each) / len(each) - 1e-9


@pytest.mark.parametrize("ballot", [UNIFORM, ENTROPY], ids=lambda b: b.weights)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_input_order_gives_the_same_tokens(dtype, ballot, tokenizer):
    backend = fairpos.wrap(tiny_model("qwen2", dtype), tokenizer).backend
    decoding = Decoding(max_new_tokens=12)
    found = {tuple(backend.vote(cycle(view), None, decoding, ballot)) for view in orders(random_layout(3))}
    assert len(found) == 1
    plain = {tuple(backend.generate([view], None, decoding)[0]) for view in orders(random_layout(3))}
    assert len(plain) > 1


def test_greedy_voting_takes_the_likeliest_token_of_the_pooled_distribution(tokenizer):
    backend = fairpos.wrap(tiny_model("llama", torch.float64), tokenizer).backend
    views = cycle(random_layout(1))
    ids = backend.vote(views, None, Decoding(max_new_tokens=5))
    reply = []
    for token in ids:
        longer = [fairpos.Layout.of([*view.input_ids, *reply], view.spans) for view in views]
        logits = backend.logits(longer).double()
        assert token == int(pooled(torch.log_softmax(logits, dim=-1), UNIFORM).argmax())
        reply.append(token)


class _Never(LogitsProcessor):
    """Forbids a token, and counts the rows that it sees."""

    def __init__(self, token):
        self.token, self.rows = token, set()

    def __call__(self, input_ids, scores):
        self.rows.add(len(scores))
        scores = scores.clone()
        scores[:, self.token] = -torch.inf
        return scores


class _Heard:
    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens.append(value.tolist())

    def end(self):
        self.ended = True


def test_processors_streamers_and_sampling_see_one_sequence(tokenizer):
    backend = fairpos.wrap(tiny_model("llama", torch.float32), tokenizer).backend
    views = cycle(random_layout(1))
    first = backend.vote(views, None, Decoding(max_new_tokens=6))
    never, heard = _Never(first[0]), _Heard()
    decoding = Decoding(max_new_tokens=6, logits_processor=LogitsProcessorList([never]), streamer=heard)
    other = backend.vote(views, None, decoding)
    assert first[0] not in other
    assert never.rows == {1}
    assert heard.ended
    assert [token for [token] in heard.tokens[1:]] == other
    sampled = [
        tuple(backend.vote(views, None, Decoding(max_new_tokens=6, temperature=2.0, seed=seed)))
        for seed in (1, 1, 2, 3)
    ]
    assert sampled[0] == sampled[1]
    assert len(set(sampled)) > 1


def test_beams_are_refused(tokenizer):
    from transformers import GenerationConfig

    backend = fairpos.wrap(tiny_model("llama", torch.float32), tokenizer).backend
    decoding = Decoding(generation_config=GenerationConfig(num_beams=2, max_new_tokens=3))
    with pytest.raises(InvalidOption, match="num_beams=2"):
        backend.vote(cycle(random_layout(1)), None, decoding)


def test_an_answer_by_permutation_costs_its_views_and_does_not_depend_on_the_input_order(smollm2):
    passages = ["Rome was founded in 753 BC.", "Paris lies on the Seine.", "Berlin lies on the Spree."]
    found = [
        smollm2.answer("Where does Paris lie?", order, "permutation:views=3", max_new_tokens=8)
        for order in (passages, passages[::-1])
    ]
    assert found[0].text == found[1].text
    assert found[0].usage.calls == 3
    assert [view.status for view in found[0].views] == ["cut_off"] * 3  # of an answer that is no fault
    with pytest.raises(InvalidComposition, match="name permutation once"):
        smollm2.answer("Where?", passages, "permutation:views=2+permutation:views=3")


def test_without_distributions_the_most_frequent_whole_answer_wins():
    from fairpos.backends.fake import FakeBackend
    from fairpos.model import FairModel

    fair = FairModel(FakeBackend(slot_bias=(5.0, 0.0, 0.0)))
    found = fair.answer("Which?", ["a", "b", "c"], "permutation:views=3")
    assert found.text in {"a", "b", "c"}
    assert found.usage.calls == 3
    assert found.notes == (
        "1 of 3 views gave this answer",
        "a tie: 2 other answers have as many views; one was drawn by the seed",
    )
    again = fair.answer("Which?", ["c", "a", "b"], "permutation:views=3")
    assert again.text == found.text


def test_the_answer_most_similar_to_the_others_wins():
    """No two of them are equal, so the most frequent would be any of them."""
    from fairpos.backends.fake import FakeBackend
    from fairpos.model import FairModel

    fair = FairModel(FakeBackend(slot_bias=(5.0, 0.0, 0.0)))  # says what stands first
    answers = ["Paris lies on the Seine.", "The city of Paris is on the river Seine.", "Bananas are yellow fruits."]
    found = fair.answer("Where does Paris lie?", answers, "permutation:views=3,aggregation=similar")
    assert found.text in answers[:2]
    assert found.notes == ("the most similar to the others of 3 answers",)
    again = fair.answer("Where does Paris lie?", answers[::-1], "permutation:views=3,aggregation=similar")
    assert again.text == found.text
    with pytest.raises(InvalidComposition, match="aggregation=similar is for answers; got the task 'rank'"):
        fair.rank("Where?", answers, "permutation:views=3,aggregation=similar")


def test_a_vote_in_tokens_needs_no_words(tokenizer):
    """Whoever asks in tokens may have no more of a tokenizer than its special tokens."""
    model, layout, decoding = tiny_model("llama"), random_layout(1), Decoding(max_new_tokens=3)
    special = SimpleNamespace(pad_token_id=0, eos_token_id=None)
    [tokens] = HFBackend(model, special).generate([layout], Placements(views=3), decoding)
    assert [tokens] == HFBackend(model, tokenizer).generate([layout], Placements(views=3), decoding)
