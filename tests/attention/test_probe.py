"""What is read is the model's own attention, on every architecture, and the model goes on as if nobody had looked."""

import numpy as np
import pytest
import torch

from fairpos.attention import probe
from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.probe import ProbeAttention, read
from fairpos.attention.reading import LayerHead, Reading
from fairpos.attention.seam import seam_of
from fairpos.errors import InvalidOption, TooLong
from fairpos.layout import Layout
from fairpos.passages import as_segments
from fairpos.prompts import render
from fairpos.types import Request
from tests.prompts_in_tokens import random_layout
from tests.tiny_models import TINY, plain_logits, tiny_model


def stock_attention(model, layout: Layout) -> torch.Tensor:
    """(layers, heads, N, N) as transformers itself returns it."""
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(torch.tensor([layout.input_ids]), output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation(own)
    return torch.cat(weights)


@pytest.mark.parametrize("architecture", TINY)
def test_what_is_read_is_the_stock_models_attention(architecture):
    model = tiny_model(architecture, torch.float32)
    layouts = [random_layout(1), random_layout(2, (5, 8, 6), suffix=9)]
    for layout, reading in zip(layouts, read(model, layouts), strict=True):
        whole = stock_attention(model, layout)
        segments = slice(layout.prefix_end, layout.suffix_start)
        expected = whole[:, :, layout.suffix_start :, segments].mean(dim=2).sum(dim=1)
        assert reading.lengths == tuple(end - start for start, end in layout.spans)
        np.testing.assert_allclose(reading.weights, expected.numpy(), atol=2e-5)


def test_chosen_heads_and_the_last_token_alone():
    model, layout = tiny_model("qwen2", torch.float32), random_layout(3)
    whole = stock_attention(model, layout)[..., layout.prefix_end : layout.suffix_start]
    [some] = read(model, [layout], heads=(1, 3))
    np.testing.assert_allclose(some.weights, whole[:, [1, 3], layout.suffix_start :].mean(2).sum(1), atol=1e-5)
    [last] = read(model, [layout], last_only=True)
    np.testing.assert_allclose(last.weights, whole[:, :, -1].sum(1), atol=1e-5)
    with pytest.raises(InvalidOption, match=r"heads must be in 0..*, got 99"):
        read(model, [layout], heads=(99,))


@pytest.mark.parametrize("architecture", TINY)
def test_heads_that_are_read_one_by_one_are_the_stock_models_and_later_layers_do_not_run(architecture):
    model, layout = tiny_model(architecture, torch.float32), random_layout(3)
    whole = stock_attention(model, layout)[:, :, layout.suffix_start :, layout.prefix_end : layout.suffix_start].mean(2)
    [every] = read(model, [layout], pairs="all")
    assert every.pairs == tuple(LayerHead(i, j) for i in range(whole.shape[0]) for j in range(whole.shape[1]))
    np.testing.assert_allclose(every.weights, whole.flatten(0, 1).numpy(), atol=2e-5)
    before = plain_logits(model, list(layout.input_ids))
    chosen = (LayerHead(1, 0), LayerHead(0, 3), LayerHead(0, 1))
    ran: list[int] = []
    hooks = [
        module.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, module in enumerate(model.base_model.layers)
    ]
    [some, again] = read(model, [layout, layout], pairs=chosen)
    for hook in hooks:
        hook.remove()
    assert some.pairs == (LayerHead(0, 1), LayerHead(0, 3), LayerHead(1, 0))
    np.testing.assert_allclose(some.weights, np.stack([whole[pair].numpy() for pair in some.pairs]), atol=2e-5)
    assert np.array_equal(some.weights, again.weights)
    assert max(ran) == 0  # layer 1 is left where it has attended
    assert torch.equal(plain_logits(model, list(layout.input_ids)), before)


def test_a_reply_is_scored_beside_chosen_heads_and_a_layer_that_is_not_there_is_refused():
    model, layout = tiny_model("llama", torch.float32), random_layout(3)
    [scored] = read(model, [layout], pairs=[LayerHead(0, 1)], replies=[(5, 17)])
    [plain] = read(model, [layout], replies=[(5, 17)])
    assert scored.log_prob == plain.log_prob
    with pytest.raises(InvalidOption, match=r"no layer 99"):
        read(model, [layout], pairs=[LayerHead(99, 0)])
    with pytest.raises(InvalidOption, match=r"heads must be in 0..*, got 99"):
        read(model, [layout], pairs=[LayerHead(0, 99)])


def test_questions_about_the_same_segments_share_their_prefill(monkeypatch):
    model = tiny_model("llama", torch.float32)
    one = random_layout(4)
    other = Layout((*one.input_ids[: one.suffix_start], 7, 8, 9), one.sets, one.ids)
    third = random_layout(5)
    alone = [read(model, [layout])[0] for layout in (one, third, other)]
    prefills = []
    original = ProbeAttention.prefill
    monkeypatch.setattr(
        ProbeAttention,
        "prefill",
        lambda self, layer, *rest: (prefills.append(layer.index), original(self, layer, *rest))[1],
    )
    together = read(model, [one, third, other])
    assert prefills.count(0) == 2
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a.weights, b.weights)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_logits_under_the_probe_are_the_models_own_and_a_whole_prompt_is_read_in_one_pass(architecture, monkeypatch):
    monkeypatch.setattr(probe, "_CHUNK", 100)  # several chunks
    model = tiny_model(architecture)
    layouts = [random_layout(6), random_layout(7, (5, 8, 6))]
    attention = ProbeAttention(Batch(layouts))
    with torch.no_grad(), seam_of(model).call(attention) as cache:
        mask = attention.batch.attention_mask()
        position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
        ids = attention.batch.input_ids(0)
        logits = model(ids, attention_mask=mask, position_ids=position_ids, **kept_in(cache), use_cache=True).logits
    for i, layout in enumerate(layouts):
        # float64 weights against a stock softmax in float32: equal but for its rounding.
        torch.testing.assert_close(logits[i, -1], plain_logits(model, list(layout.input_ids))[-1], atol=1e-6, rtol=0)
        np.testing.assert_allclose(attention.take(i), read(model, [layout])[0].weights, atol=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_reply_is_scored_in_the_same_pass_and_not_read(architecture):
    model, layout = tiny_model(architecture), random_layout(8)
    reply = (5, 17, 3)
    ids = list(layout.input_ids)
    logits = torch.log_softmax(plain_logits(model, [*ids, *reply]), dim=-1)
    expected = sum(float(logits[len(ids) - 1 + i, token]) for i, token in enumerate(reply))
    readings = read(model, [layout, layout], replies=[reply, reply[:1]])
    assert readings[0].log_prob == pytest.approx(expected, abs=1e-6)
    assert readings[1].log_prob == pytest.approx(float(logits[len(ids) - 1, 5]), abs=1e-6)
    [alone] = read(model, [layout])
    assert alone.log_prob is None
    assert all(np.array_equal(reading.weights, alone.weights) for reading in readings)


def test_sums_and_means_by_segment():
    reading = Reading(np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 2.0]], dtype=np.float32), (1, 3))
    assert reading.by_segment().tolist() == [[1.0, 9.0], [0.0, 2.0]]
    assert reading.by_segment(per_token=True).tolist() == [[1.0, 3.0], [0.0, 2 / 3]]


def test_through_the_backend(smollm2):
    request = Request("answer", "Which town?", as_segments(["The town is Bern.", "Milk is white."]))
    [reading] = smollm2.backend.read_attention([render(request)])
    assert reading.weights.shape == (30, sum(reading.lengths))
    assert (reading.weights >= 0).all()
    assert (reading.weights.sum(axis=1) < 9).all()  # nine heads, each of which also looks elsewhere
    with pytest.raises(TooLong):
        smollm2.backend.read_attention([render(Request("answer", "q", as_segments(["word " * 9000])))])


def test_the_revision_is_that_of_the_weights_whatever_the_dtype():
    from fairpos import wrap

    def revision(**options):
        return wrap(tiny_model("llama", **options), None).backend.revision

    assert revision(dtype=torch.float32) == revision(dtype=torch.bfloat16)
    assert revision(seed=1) != revision()
