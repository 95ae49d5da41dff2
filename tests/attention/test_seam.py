"""The identity attention is the unmodified model, state belongs to a call, and the model is left as it was."""

import threading

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.hooks import NAME
from fairpos.attention.layer import SegmentCache
from fairpos.attention.plain import PlainAttention
from fairpos.attention.seam import seam_of
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout
from tests.prompts_in_tokens import random_layout
from tests.tiny_models import TINY, plain_logits, tiny_model

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
LENGTHS = [(9, 5, 7, 6), (11,), (3, 14, 8)]


def plain(model, ids):
    if model.dtype == torch.float64:
        return plain_logits(model, ids)
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", TINY)
def test_identity_attention_equals_the_model_at_prefill_and_over_16_decoded_tokens(name, dtype):
    model = tiny_model(name, dtype)
    layouts = [random_layout(i, lengths) for i, lengths in enumerate(LENGTHS)]
    for prompts in (layouts[:1], layouts):
        batch = Batch(prompts)
        sequences = [list(layout.input_ids) for layout in prompts]
        with torch.no_grad(), seam_of(model).call(PlainAttention(batch)) as cache:
            logits = model(batch.input_ids(0), **kept_in(cache), use_cache=True).logits
            for row, layout in zip(logits, prompts, strict=True):
                expected = plain(model, list(layout.input_ids))
                assert (row[batch.pad(layout) :] - expected).abs().max() < TOLERANCE[dtype]
            for _ in range(16):
                new = logits[:, -1].argmax(dim=-1)
                for sequence, token in zip(sequences, new.tolist(), strict=True):
                    sequence.append(token)
                logits = model(new[:, None], **kept_in(cache), use_cache=True).logits
        for row, sequence in zip(logits, sequences, strict=True):
            assert (row[-1] - plain(model, sequence)[-1]).abs().max() < TOLERANCE[dtype]


def state(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return hooks, model.config._attn_implementation, torch.cat([p.flatten() for p in model.parameters()])


def same(before, after):
    return before[:2] == after[:2] and torch.equal(before[2], after[2])


class Failing(PlainAttention):
    def __call__(self, layer, q, k, v):
        if layer.index == 2:
            raise RuntimeError("in the middle")
        return super().__call__(layer, q, k, v)


@pytest.mark.parametrize("name", TINY)
def test_model_is_as_before_after_a_call_and_after_an_error_inside_of_one(name):
    model = tiny_model(name, torch.float32)
    before = state(model)
    batch = Batch([random_layout(0)])
    with torch.no_grad(), seam_of(model).call(PlainAttention(batch)) as cache:
        assert model.config._attn_implementation == NAME
        model(batch.input_ids(0), **kept_in(cache), use_cache=True)
    assert same(before, state(model))
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match="in the middle"),
        seam_of(model).call(Failing(batch)) as cache,
    ):
        model(batch.input_ids(0), **kept_in(cache), use_cache=True)
    assert same(before, state(model))
    expected = plain(tiny_model(name, torch.float32), list(batch.layouts[0].input_ids))
    assert torch.equal(plain(model, list(batch.layouts[0].input_ids)), expected)


class Zero(PlainAttention):
    """An attention that nobody could take for the model's own."""

    def __call__(self, layer, q, k, v):
        return torch.zeros_like(super().__call__(layer, q, k, v))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
def test_an_armed_model_is_plain_for_every_other_cache(name):
    model = tiny_model(name, torch.float32)
    ids = torch.tensor([random_layout(0).input_ids])
    with torch.no_grad():
        expected = model(ids, **kept_in(DynamicCache()), use_cache=True).logits
        with seam_of(model).call(Zero(Batch([random_layout(0)]))) as cache:
            ours = model(ids, **kept_in(cache), use_cache=True).logits
            beside = model(ids, **kept_in(DynamicCache()), use_cache=True).logits
    assert torch.equal(expected, beside)
    assert not torch.allclose(expected, ours)


def test_two_threads_with_different_attentions_on_one_model():
    model = tiny_model("llama", torch.float32)
    layouts = [random_layout(1), random_layout(2, (5, 5))]

    def run(attention_class, layout):
        batch = Batch([layout])
        with torch.no_grad(), seam_of(model).call(attention_class(batch)) as cache:
            return model.generate(
                batch.input_ids(0),
                attention_mask=batch.attention_mask(),
                **kept_in(cache),
                do_sample=False,
                max_new_tokens=24,
                output_scores=True,
                return_dict_in_generate=True,
                pad_token_id=0,
            ).scores

    alone = [run(PlainAttention, layouts[0]), run(Zero, layouts[1])]
    found: dict[int, tuple[torch.Tensor, ...]] = {}
    barrier = threading.Barrier(2)

    def work(i, kind):
        barrier.wait()
        found[i] = run(kind, layouts[i])

    for _ in range(3):
        threads = [threading.Thread(target=work, args=args) for args in ((0, PlainAttention), (1, Zero))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in (0, 1):
            assert all(torch.equal(a, b) for a, b in zip(alone[i], found[i], strict=True))


def in_another_thread(run):
    found = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    return found[0]


def test_plain_passes_of_other_threads_stay_plain_while_the_seam_is_proved():
    """At every layer of every pass of the proof, another thread runs the whole model."""
    model, ids, own = tiny_model("llama", torch.float32), list(random_layout(0).input_ids), threading.get_ident()
    expected, beside = plain(model, ids), []

    def run_beside(*_):
        if threading.get_ident() == own and len(beside) < 12:
            beside.append(in_another_thread(lambda: plain(model, ids)))

    model.model.layers[1].self_attn.register_forward_hook(run_beside)
    seam_of(model).verify()
    assert len(beside) > 6
    assert all(torch.equal(each, expected) for each in beside)


def test_a_plain_pass_may_begin_before_a_call_and_end_in_it_or_the_other_way_round():
    model, ids = tiny_model("llama", torch.float32), list(random_layout(0).input_ids)
    seam_of(model).verify()
    expected, main = plain(model, ids), threading.get_ident()
    reached, may_go_on, found = threading.Event(), threading.Event(), []

    def stop_halfway(*_):
        if threading.get_ident() != main:
            reached.set()
            assert may_go_on.wait(30)

    def start():
        reached.clear()
        may_go_on.clear()
        thread = threading.Thread(target=lambda: found.append(plain(model, ids)))
        thread.start()
        assert reached.wait(30)
        return thread

    model.model.layers[1].self_attn.register_forward_hook(stop_halfway)
    before = start()
    with seam_of(model).call(PlainAttention(Batch([random_layout(0)]))):
        may_go_on.set()
        before.join()
        within = start()
    may_go_on.set()
    within.join()
    assert len(found) == 2
    assert all(torch.equal(each, expected) for each in found)


def test_another_attention_set_in_the_middle_of_a_call_is_refused_and_stays():
    model, batch = tiny_model("llama", torch.float32), Batch([random_layout(0)])
    with seam_of(model).call(PlainAttention(batch)) as cache:
        model.set_attn_implementation("eager")
        with pytest.raises(UnsupportedModel, match="'eager' in the middle of a call"):
            model(batch.input_ids(0), **kept_in(cache), use_cache=True)
    assert model.config._attn_implementation == "eager"


def test_seam_is_one_per_model_and_does_not_keep_it_alive():
    model = tiny_model("llama", torch.float32)
    assert seam_of(model) is seam_of(model)
    seam = seam_of(model)
    del model
    with pytest.raises(AssertionError):
        _ = seam.model


SMALL = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
UNSUPPORTED = {
    "ALiBi": lambda: BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2)),
    "learned positions in a way of its own": lambda: OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(vocab_size=64, n_embd=16, n_layer=1, n_head=2)
    ),
    "encoder": lambda: BertLMHeadModel(BertConfig(**SMALL, intermediate_size=16, is_decoder=True)),
    "encoder-decoder": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_models_are_refused_with_the_reason_and_left_alone(kind):
    model = UNSUPPORTED[kind]().eval()
    before = state(model)
    with (
        pytest.raises(UnsupportedModel, match=type(model).__name__),
        seam_of(model).call(PlainAttention(Batch([random_layout(0)]))),
    ):
        pass
    assert same(before, state(model))


def test_rotary_scaling_that_changes_with_the_length_is_refused_beyond_it():
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    config = LlamaConfig(**SMALL, intermediate_size=16, max_position_embeddings=32, rope_parameters=rope)
    model = LlamaForCausalLM(config).eval()
    short = Batch([Layout(tuple(range(20)), ())])
    with seam_of(model).call(PlainAttention(short)) as cache:
        assert isinstance(cache, SegmentCache)
    long = Batch([Layout(tuple(range(33)), ())])
    with pytest.raises(UnsupportedModel, match="beyond 32 tokens"), seam_of(model).call(PlainAttention(long)):
        pass
