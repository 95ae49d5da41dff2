"""What holds on a CPU holds on a CUDA device; skipped where there is none."""

import pytest
import torch

import fairpos
from fairpos import Decoding
from fairpos.attention.store import SegmentStore
from fairpos.backends.hf import HFBackend
from fairpos.methods.set_based import SetBased
from tests.methods.test_against_reference import CASES, LAYOUTS, STEPS, TOLERANCE, worst
from tests.methods.test_order_invariance import ORDER_FREE, facts, greedy
from tests.prompts_in_tokens import orders, random_layout
from tests.tiny_models import TINY, tiny_model

pytestmark = pytest.mark.gpu

AT_ONCE = ("set_based", "ape", "graph_kv", "pine")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def smollm2_cuda(request):
    return fairpos.load("smollm2", device="cuda", dtype=request.param)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("which", CASES)
def test_a_padded_batch_gives_the_reference_of_the_cpu(which, name, tokenizer):
    ours, here = CASES[which].ours, tiny_model(name)
    device = HFBackend(tiny_model(name).to("cuda"), tokenizer)
    logits = device.logits(LAYOUTS, ours).cpu()
    for row, layout in zip(logits, LAYOUTS, strict=True):
        assert worst(row, CASES[which].next_token_logits(here, list(layout.input_ids), list(layout.spans))) < TOLERANCE
    new = device.generate(LAYOUTS, ours, Decoding(max_new_tokens=STEPS))
    ids, spans = list(LAYOUTS[0].input_ids), list(LAYOUTS[0].spans)
    assert new[0] == CASES[which].generate_ids(here, ids, spans, STEPS)


@pytest.mark.parametrize("method", ORDER_FREE)
def test_all_orders_give_the_same_bits(method, smollm2_cuda):
    views = orders(facts(smollm2_cuda.tokenizer))
    logits = [smollm2_cuda.next_token_logits(view.input_ids, view.spans, method) for view in views]
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    assert len(greedy(smollm2_cuda, views, method)) == 1


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("which", AT_ONCE)
def test_segments_at_once_are_what_they_are_piece_by_piece(which, name, tokenizer):
    device = HFBackend(tiny_model(name).to("cuda"), tokenizer)
    logits = []
    for device.at_once in (None, False):
        logits.append(device.logits(LAYOUTS, CASES[which].ours))
    assert worst(*logits) < TOLERANCE
    assert not torch.equal(*logits)  # they are two computations


@pytest.mark.parametrize("which", AT_ONCE)
def test_no_layer_behind_the_first_waits_for_the_device(which, tokenizer):
    """The first one copies a prompt's tables."""
    local = HFBackend(tiny_model("llama", torch.float32).to("cuda"), tokenizer)
    expected = local.generate(LAYOUTS, CASES[which].ours, Decoding(max_new_tokens=STEPS))  # fills what is kept
    for layer in local.model.base_model.layers[1:]:
        layer.register_forward_pre_hook(lambda *_: torch.cuda.set_sync_debug_mode("error"))
        layer.register_forward_hook(lambda *_: torch.cuda.set_sync_debug_mode("default"), always_call=True)
    assert local.generate(LAYOUTS, CASES[which].ours, Decoding(max_new_tokens=STEPS)) == expected


def test_kept_and_fresh_segments_give_the_same_bits(tokenizer):
    model = tiny_model("llama", torch.float32).to("cuda")
    kept = HFBackend(model, tokenizer, store=SegmentStore())
    layout = random_layout(7, (9, 5, 7))
    fresh = kept.logits([layout], SetBased())
    assert torch.equal(kept.logits([layout], SetBased()), fresh)


def test_views_vote_on_the_device(smollm2_cuda):
    passages = ["Ada wrote the first program.", "Babbage drew the engine.", "Jacquard built a loom."]
    votes = [
        smollm2_cuda.answer("Who drew the engine?", each, methods="permutation:views=3", max_new_tokens=8).text
        for each in (passages, passages[::-1])
    ]
    assert votes[0] == votes[1] != ""
