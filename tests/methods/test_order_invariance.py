"""Exact to the bit: all orders of 4 segments, every order-free attention method, float32 and bfloat16."""

import pytest
import torch
from transformers import GenerationConfig

import fairpos
from fairpos.attention.cache import kept_in
from fairpos.methods.catalogue import all_methods, parse
from tests.prompts_in_tokens import joined, orders, random_layout
from tests.tiny_models import TINY, tiny_model

ORDER_FREE = sorted(name for name, cls in all_methods().items() if cls.order_free and cls.family == "attention")
TEXTS = [
    "Ada wrote the first program.\n",
    "The analytical engine was never finished, though its parts were.\n",
    "Babbage drew it.\n",
    "Punched cards come from looms: Jacquard's loom read them.\n",
]
QUESTION = "Question: who drew the engine?\nAnswer:"


def facts(tokenizer):
    """A prompt of four segments in tokens."""
    return joined([tokenizer(text)["input_ids"] for text in ("Facts:\n", *TEXTS, QUESTION)])


def greedy(fair, views, method):
    """The different replies to these views: 8 tokens each, decoded side by side."""
    (name,) = parse(method)
    return set(map(tuple, fair.backend.generate(views, name, fairpos.Decoding(max_new_tokens=8))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", TINY)
@pytest.mark.parametrize("method", ORDER_FREE)
def test_all_orders_give_the_same_bits_on_tiny_models(method, architecture, dtype, tokenizer):
    fair = fairpos.wrap(tiny_model(architecture, dtype), tokenizer)
    views = orders(random_layout(5, (9, 5, 7, 5)))
    assert len(views) == 24
    if method not in ("set_based", "pine"):
        views = views[::5]  # they stand on set_based
    logits = [fair.next_token_logits(view.input_ids, view.spans, method) for view in views]
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    assert len(greedy(fair, views[:: len(views) // 3], method)) == 1
    plain = [fair.next_token_logits(view.input_ids, view.spans) for view in views[:2]]
    assert not torch.equal(*plain)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ORDER_FREE)
def test_orders_give_the_same_bits_on_smollm2(method, dtype, smollm2, smollm2_bfloat16):
    """Some of the 24 orders; benchmarks/invariance.py takes all."""
    fair = smollm2 if dtype == torch.float32 else smollm2_bfloat16
    views = orders(facts(fair.tokenizer))[::9]
    logits = [fair.next_token_logits(view.input_ids, view.spans, method) for view in views]
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    assert len(greedy(fair, views, method)) == 1


@pytest.mark.parametrize("method", ORDER_FREE)
def test_requests_give_the_same_output_in_every_input_order(method, smollm2):
    passages = [fairpos.Segment(id=name, text=text) for name, text in zip("abcd", TEXTS, strict=True)]
    shuffled = [passages[i] for i in (2, 0, 3, 1)]
    for ask in (smollm2.rank, smollm2.judge, smollm2.choose):
        assert ask("Who drew it?", passages, method).scores == ask("Who drew it?", shuffled, method).scores
    first, second = (smollm2.answer("Who drew it?", p, method, max_new_tokens=3) for p in (passages, shuffled))
    assert first.text == second.text


@pytest.mark.parametrize("method", ORDER_FREE)
def test_sampling_with_a_seed_is_the_same_in_every_order_and_differs_between_seeds(method, tokenizer):
    fair = fairpos.wrap(tiny_model("qwen2", torch.float32), tokenizer)
    views = orders(random_layout(6))[::5]

    def sample(view, seed):
        decoding = fairpos.Decoding(temperature=1.5, top_p=0.95, seed=seed)
        return tuple(fair.generate_ids(view.input_ids, view.spans, method, decoding=decoding))

    assert len({sample(view, 1) for view in views}) == 1
    assert len({sample(views[0], seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("method", [name for name in ORDER_FREE if all_methods()[name]().pooling is None])
def test_beams_and_several_sequences_are_the_same_in_every_order(method, tokenizer):
    fair = fairpos.wrap(tiny_model("llama", torch.float32), tokenizer)
    views = orders(random_layout(7))[::5]
    config = GenerationConfig(num_beams=3, num_return_sequences=2, max_new_tokens=12)
    found = []
    for view in views:
        with fair.attending(view.input_ids, view.spans, method) as (prompt, cache):
            found.append(fair.model.generate(prompt, **kept_in(cache), generation_config=config, pad_token_id=0))
    assert found[0].shape == (2, prompt.shape[1] + 12)  # graph_kv's prompt has copies of its own
    assert all(torch.equal(found[0], other) for other in found[1:])
