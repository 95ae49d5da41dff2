"""The segment store: what is kept is what would be read, to the bit, in any order and any company."""

import pytest
import torch

import fairpos
from fairpos.attention.store import SegmentStore
from fairpos.errors import InvalidOption
from fairpos.methods.catalogue import parse
from tests.prompts_in_tokens import joined, orders
from tests.tiny_models import TINY, tiny_model

PIECES = [[5, 6, 7], [11, 12, 13, 14], [21, 22], [31, 32, 33, 34, 35], [41, 42, 43], [8, 9]]


def prompt(*numbers, suffix=(8, 9)):
    """A prompt of these segments."""
    return joined([PIECES[0], *(PIECES[i] for i in numbers), list(suffix)])


@pytest.mark.parametrize("method", ["set_based", "ape"])
@pytest.mark.parametrize("architecture", TINY)
def test_with_a_store_and_without_one_the_method_is_the_same(architecture, method, tokenizer):
    model = tiny_model(architecture, torch.float64)
    plain, kept = fairpos.wrap(model, tokenizer), fairpos.wrap(model, tokenizer, store=SegmentStore())
    for view in (prompt(1, 2, 3), prompt(4, 2), prompt(3, 1, suffix=(9, 9, 8))):
        logits = [fair.backend.logits([view], parse(method)[0]) for fair in (plain, kept)]
        torch.testing.assert_close(*logits, atol=1e-9, rtol=0)
        ids = [fair.generate_ids(view.input_ids, view.spans, method, max_new_tokens=6) for fair in (plain, kept)]
        assert ids[0] == ids[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reused_or_fresh_gives_the_same_bits(dtype, tokenizer):
    model = tiny_model("qwen3", dtype)
    fresh = fairpos.wrap(model, tokenizer, store=SegmentStore())
    expected = fresh.next_token_logits(prompt(1, 2, 3).input_ids, prompt(1, 2, 3).spans, "set_based")
    kept = fairpos.wrap(model, tokenizer, store=SegmentStore())
    kept.next_token_logits(prompt(3, 4).input_ids, prompt(3, 4).spans, "set_based")  # other company
    kept.next_token_logits(prompt(2, 1).input_ids, prompt(2, 1).spans, "set_based")
    for view in orders(prompt(1, 2, 3)):
        assert torch.equal(kept.next_token_logits(view.input_ids, view.spans, "set_based"), expected)
    assert kept.backend.store.statistics.misses == 5  # the prefix and four segments


def test_hits_are_counted_in_the_output(smollm2):
    fair = fairpos.wrap(smollm2.model, smollm2.tokenizer, store=SegmentStore())
    passages = [
        fairpos.Segment(id="rome", text="Rome lies on the Tiber."),
        fairpos.Segment(id="paris", text="Paris lies on the Seine."),
    ]
    first = fair.answer("Where is Rome?", passages, "set_based", max_new_tokens=4)
    second = fair.answer("Where is Paris?", passages[::-1], "set_based", max_new_tokens=4)
    assert first.usage.reused_tokens == 0
    assert 0 < second.usage.reused_tokens < second.usage.prompt_tokens
    assert fair.answer("Where is Rome?", passages, "set_based", max_new_tokens=4).text == first.text
    ranked = [fair.rank("Which is on the Seine?", order, "set_based") for order in (passages, passages[::-1])]
    assert ranked[0].scores == ranked[1].scores
    assert fair.answer("Where is Rome?", passages, "pine", max_new_tokens=4).usage.reused_tokens == 0


def test_the_least_recently_used_go_first(tokenizer):
    model = tiny_model("llama", torch.float32)
    probe = SegmentStore()
    fairpos.wrap(model, tokenizer, store=probe).next_token_logits(prompt(1).input_ids, prompt(1).spans, "set_based")
    per_token = probe.statistics.bytes_held / 7  # three of the prefix, four of the segment
    store = SegmentStore(int(per_token * 12))
    fair = fairpos.wrap(model, tokenizer, store=store)
    for numbers in ((1,), (2,), (1,), (3,)):
        fair.next_token_logits(prompt(*numbers).input_ids, prompt(*numbers).spans, "set_based")
    assert store.statistics.bytes_held <= store.budget_bytes
    assert store.statistics.evicted == 1
    assert store.held_tokens(prompt(2)) == 3  # the prefix alone: segment 2 was the least recently used
    assert store.held_tokens(prompt(1)) == 7
    with pytest.raises(InvalidOption, match="at least 1, got 0"):
        SegmentStore(0)


def test_prompts_of_several_sets_are_read_whole(tokenizer):
    fair = fairpos.wrap(tiny_model("llama", torch.float32), tokenizer, store=SegmentStore())
    ids = list(range(5, 25))
    fair.next_token_logits(ids, [(2, 5), (5, 8), (10, 12), (12, 15)], "set_based")
    assert fair.backend.store.statistics.misses == 0
