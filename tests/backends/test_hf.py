"""The local backend: transformers' own generation, batches, shared prefills, and what it refuses."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.generation.streamers import BaseStreamer

import fairpos
from fairpos import Decoding, Layout, Request, Template
from fairpos.backends.base import Score
from fairpos.backends.hf import HFBackend
from fairpos.errors import InvalidComposition, InvalidLayout, InvalidOption, NonFiniteLogits, TooLong, UnsupportedModel
from fairpos.methods.pine import Pine
from fairpos.methods.set_based import SetBased
from fairpos.passages import as_segments
from fairpos.prompts import render
from tests.attention.test_seam import same, state
from tests.prompts_in_tokens import random_layout
from tests.tiny_models import TINY, tiny_model

METHODS = [None, SetBased(), Pine()]


@pytest.fixture
def backend(tokenizer):
    return HFBackend(tiny_model("llama", torch.float32), tokenizer)


def backend_of(architecture, tokenizer, dtype=torch.float64):
    return HFBackend(tiny_model(architecture, dtype), tokenizer)


@pytest.mark.parametrize("architecture", TINY)
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_different_prompts_equals_each_alone(method, architecture, tokenizer):
    # Padded batches of an eager Gemma 2 in float64 are NaN in transformers itself; the plain model is run in float32.
    backend = backend_of(architecture, tokenizer, torch.float64 if method else torch.float32)
    layouts = [random_layout(i, lengths) for i, lengths in enumerate([(9, 5, 7, 6), (11,), (3, 14, 8)])]
    together = backend.logits(layouts, method)
    for layout, row in zip(layouts, together, strict=True):
        assert (backend.logits([layout], method)[0] - row).abs().max() < (1e-9 if method else 1e-4)
    decoding = Decoding(max_new_tokens=12)
    new = backend.generate(layouts, method, decoding)
    assert new == [backend.generate([layout], method, decoding)[0] for layout in layouts]


@pytest.mark.parametrize("architecture", TINY)
@pytest.mark.parametrize("method", METHODS)
def test_decoding_with_the_cache_equals_a_prefill_with_the_tokens_appended(method, architecture, tokenizer):
    backend = backend_of(architecture, tokenizer)
    layout = random_layout(1)
    new = backend.generate([layout], method, Decoding(max_new_tokens=16))[0]
    assert len(new) == 16
    for n in (1, 7, 15):
        longer = Layout.of([*layout.input_ids, *new[:n]], layout.spans)
        assert int(backend.logits([longer], method)[0].argmax()) == new[n]


@pytest.mark.parametrize("method", METHODS)
def test_replies_are_scored_as_prefills_would(method, tokenizer):
    backend = backend_of("gemma3", tokenizer)
    layout = random_layout(2)
    replies = [(5,), (5, 9), (5, 9, 2), (5, 9, 4), (7, 1, 1, 3)]
    [(log_probs, greedy)] = backend.score([layout], [replies], method)
    for reply, found, is_greedy in zip(replies, log_probs, greedy, strict=True):
        total, best = 0.0, True
        for i, token in enumerate(reply):
            longer = Layout.of([*layout.input_ids, *reply[:i]], layout.spans)
            row = torch.log_softmax(backend.logits([longer], method)[0], dim=-1)
            total += float(row[token])
            best = best and int(row.argmax()) == token
        assert found == pytest.approx(total, abs=1e-9)
        assert is_greedy == best


@pytest.mark.parametrize("method", METHODS)
def test_prompts_that_share_their_segments_are_read_once_and_score_the_same(method, smollm2):
    template = Template("Facts:\n", "{text}\n", "{query}\nAnswer:", chat=False)
    passages = as_segments(["Ada wrote it.", "Babbage built half of it.", "It was never finished."])
    queries = ("Who wrote it?", "Who built it, and when?", "Why?")
    prompts = [render(Request("answer", query, passages), template) for query in queries]
    for replies in ((" A", " B"), (" Ada Lovelace", " Babbage")):
        calls = [Score(prompt, replies, method) for prompt in prompts]
        alone = [smollm2.backend.run([call])[0] for call in calls]
        for one, other in zip(smollm2.backend.run(calls), alone, strict=True):
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-3)
            assert one.greedy == other.greedy


class Ban(LogitsProcessor):
    def __init__(self, token):
        self.token = token

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.token] = -torch.inf
        return scores


class AfterThree(StoppingCriteria):
    def __init__(self, start):
        self.start = start

    def __call__(self, input_ids, scores, **kwargs):
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= self.start + 3)


class Collect(BaseStreamer):
    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.ended = True


@pytest.mark.parametrize("method", ["set_based", "pine", "none"])
def test_transformers_own_processors_criteria_and_streamers_work(method, tokenizer):
    fair = fairpos.wrap(tiny_model("llama", torch.float32), tokenizer)
    layout = random_layout(3)
    plain = fair.generate_ids(layout.input_ids, layout.spans, method)
    banned = Decoding(logits_processor=LogitsProcessorList([Ban(plain[0])]))
    assert plain[0] not in fair.generate_ids(layout.input_ids, layout.spans, method, decoding=banned)
    stop = Decoding(stopping_criteria=StoppingCriteriaList([AfterThree(len(layout))]))
    assert fair.generate_ids(layout.input_ids, layout.spans, method, decoding=stop) == plain[:3]
    streamer = Collect()
    assert fair.generate_ids(layout.input_ids, layout.spans, method, decoding=Decoding(streamer=streamer)) == plain
    assert streamer.tokens[len(layout) :] == plain
    assert streamer.ended
    config = GenerationConfig(repetition_penalty=8.0, do_sample=False)
    penalised = Decoding(generation_config=config)
    assert fair.generate_ids(layout.input_ids, layout.spans, method, decoding=penalised) != plain


def test_sampling_leaves_torchs_generator_as_it_was(backend):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    backend.generate([random_layout(0)], None, Decoding(temperature=1.0, seed=5))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_end_of_text_ends_an_answer(tokenizer):
    backend = backend_of("llama", tokenizer, torch.float32)
    layout = random_layout(4)
    new = backend.generate([layout], Pine(), Decoding(max_new_tokens=16))[0]
    end = new[5]
    backend.model.generation_config.eos_token_id = end
    assert backend.generate([layout], Pine(), Decoding(max_new_tokens=16))[0] == new[: new.index(end)]


@pytest.mark.parametrize("method", METHODS)
def test_a_prompt_beyond_the_context_is_refused(method, backend):
    layout = random_layout(0, (120, 120))
    with pytest.raises(TooLong, match=r"got a prompt of 250 tokens and up to 16 new ones; the model's context is 256"):
        backend.generate([layout], method, Decoding(max_new_tokens=16))
    assert backend.logits([layout], method).shape == (1, 160)


@pytest.mark.parametrize("method", METHODS)
def test_logits_that_are_no_numbers_are_refused_and_the_model_is_as_before(method, backend):
    model = backend.model
    with torch.no_grad():
        kept = model.lm_head.weight[3].clone()
        model.lm_head.weight[3] = torch.nan
    before = state(model)[:2]
    with pytest.raises(NonFiniteLogits, match="NaN"):
        backend.logits([random_layout(0)], method)
    with pytest.raises(NonFiniteLogits, match="NaN"):
        backend.generate([random_layout(0)], method, Decoding(max_new_tokens=4))
    assert state(model)[:2] == before
    with torch.no_grad():
        model.lm_head.weight[3] = kept
    assert torch.isfinite(backend.logits([random_layout(0)], method)).all()


def test_an_encoder_decoder_is_refused(tokenizer):
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(UnsupportedModel, match="T5ForConditionalGeneration is an encoder-decoder"):
        fairpos.wrap(T5ForConditionalGeneration(config), tokenizer)


def test_pine_takes_one_set_and_one_forward_pass(backend):
    fair = fairpos.wrap(backend.model, backend.tokenizer)
    before = state(fair.model)
    with pytest.raises(InvalidLayout, match="one set of segments that touch each other; got 2 sets"):
        fair.next_token_logits(range(20), [(2, 5), (7, 9)], "pine")
    chunked = Decoding(generation_config=GenerationConfig(prefill_chunk_size=8, do_sample=False))
    layout = random_layout(0)
    with pytest.raises(InvalidLayout, match="one forward pass"):
        fair.generate_ids(layout.input_ids, layout.spans, "pine", decoding=chunked)
    whole = fair.generate_ids(layout.input_ids, layout.spans, "set_based")
    assert fair.generate_ids(layout.input_ids, layout.spans, "set_based", decoding=chunked) == whole
    assert same(before, state(fair.model))


def test_prompts_in_tokens_take_attention_methods_only(backend):
    fair = fairpos.wrap(backend.model, backend.tokenizer)
    with pytest.raises(InvalidComposition, match="'permutation' acts on the output"):
        fair.next_token_logits(range(9), [(2, 5)], "permutation")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_new_tokens": 0}, "at least 1, got 0"),
        ({"temperature": 11.0, "seed": 1}, r"in \[0, 10\], got 11"),
        ({"top_p": 0.0}, r"in \(0, 1\], got 0"),
        ({"temperature": 1.0}, "needs a seed"),
    ],
)
def test_decoding_that_cannot_be_used(fields, words):
    with pytest.raises(InvalidOption, match=words):
        Decoding(**fields)


def test_a_model_without_rotary_positions_is_asked_plainly_and_refuses_attention_methods(tokenizer):
    """Bloom's config names no length limit either."""
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2)).eval()
    fair = fairpos.wrap(model, tokenizer)
    ids, spans = list(range(3, 20)), [(2, 6), (6, 10)]
    with pytest.raises(UnsupportedModel, match="BloomForCausalLM has no rotary position embedding"):
        fair.next_token_logits(ids, spans, "pine")
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(fair.next_token_logits(ids, spans), expected)


@pytest.mark.parametrize("architecture", TINY)
@pytest.mark.parametrize(("prefix", "reads"), [(30, [30, 4 * 24]), (4, [4 * 28])])
def test_views_read_a_long_common_start_once(architecture, prefix, reads, tokenizer):
    backend = backend_of(architecture, tokenizer, torch.float32)
    base = random_layout(3, (5, 7, 4), prefix=prefix, suffix=8)
    head, tail = base.input_ids[:prefix], base.input_ids[base.suffix_start :]
    parts = [base.input_ids[slice(*span)] for span in base.spans]
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    views = [Layout.of([*head, *(t for i in order for t in parts[i]), *tail], base.spans) for order in orders]
    labels = [[5], [9], [60]]
    alone = [backend.score([view], [labels])[0] for view in views]
    assert backend.pads_exactly()  # found out by reading, once
    seen = []
    hook = backend.model.get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].numel()))
    try:
        together = backend.score(views, [labels] * len(views))
    finally:
        hook.remove()
    assert seen == reads
    for (log_probs, greedy), (expected, sure) in zip(together, alone, strict=True):
        assert log_probs == pytest.approx(expected, abs=1e-4)
        assert greedy == sure
