"""Each family of models against references that share nothing with the seam, beyond windows, chunks and first lengths.

`check_method` (of the sweep) compares logits with the dense reference and, for set_based, with the model's own
attention under a 4D mask; greedy tokens; a batch with single prompts; two orders to the bit.
"""

import pytest
import torch
import transformers

from benchmarks.architectures import METHODS, check_method, plain_tokens, stock_tokens
from fairpos.attention.cache import kept_in
from fairpos.attention.placements import PlacementsAttention, reordered
from fairpos.attention.probe import read
from fairpos.attention.seam import seam_of
from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse
from tests.architectures import plain_logits, random_prompt, small_config, small_model, with_random_weights
from tests.prompts_in_tokens import orders
from tests.reference import pine, rotor, set_based
from tests.tiny_models import with_exact_rotation

WINDOW = {"sliding_window": 11}  # prompts have 37 tokens
SHARED = WINDOW | {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2}
FAMILIES = {
    "smollm3": {},  # layers that don't rotate
    "cohere2": WINDOW,  # and a window in the others
    "phi": {},  # rotates a part of each head, which its modules cut out
    "gpt_oss": WINDOW,  # sinks
    "mimo_v2_flash": WINDOW,  # sinks, narrower values, a part of each head
    "deepseek_v3": {},  # latent attention
    "longcat_flash": {},  # two of them a layer
    "deepseek_v2": {},  # complex numbers
    "llama4_text": {"attention_chunk_size": 13},  # complex numbers, chunks, layers that don't rotate
    "gemma3n_text": SHARED,
    "gemma4_text": SHARED,
    "ministral3": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "llama_4_scaling_beta": 0.5,
            "original_max_position_embeddings": 16,
        }
    },
    "gptj": {},
    "qwen2_moe": WINDOW | {"use_sliding_window": True, "max_window_layers": 2},  # a window that only the mask knows
    "phimoe": WINDOW,
}
REFUSED = {
    ("llama4_text", "string"): "chunks of positions",
    ("llama4_text", "positional_hidden"): "number in the cache",
    ("gemma3n_text", "ms_poe"): "another layer's keys",
    ("gemma3n_text", "positional_hidden"): "another layer's keys",
    ("gemma4_text", "ms_poe"): "another layer's keys",
    ("gemma4_text", "positional_hidden"): "another layer's keys",
}
# Factors are float32 numbers by the model's own code, whatever its dtype.
ROUNDED = ("gptj", "deepseek_v2")


class Tokens:
    pad_token_id, eos_token_id = 0, None


def backend(name: str, dtype: torch.dtype = torch.float32) -> HFBackend:
    model = small_model(name, dtype=dtype, **FAMILIES[name])
    if dtype == torch.float64:
        model.set_experts_implementation("eager")  # the fused one has no float64
        with_exact_rotation(model)
    return HFBackend(model, Tokens())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_is_right_or_refused_with_its_reason(name):
    local = backend(name)
    for text, (reference, options) in {**METHODS, "rotor": (rotor, {})}.items():
        [method] = parse(text)
        if (name, method.name) in REFUSED:
            with pytest.raises(UnsupportedModel, match=REFUSED[name, method.name]):
                local.logits([Layout.of(*random_prompt())], method)
        else:
            assert check_method(local.model, local, method, reference, options) == "right", text


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ROUNDED])
def test_references_agree_in_float64(name):
    local, layout = backend(name, torch.float64), Layout.of(*random_prompt()).canonical()
    for text, reference in (("set_based", set_based), ("pine", pine), ("rotor", rotor)):
        ours = local.logits([layout], parse(text)[0])[0]
        theirs = reference.next_token_logits(local.model, list(layout.input_ids), list(layout.spans))
        assert (ours - theirs).norm() < 1e-9 * theirs.norm(), text


@pytest.mark.parametrize("name", ["gpt_oss", "deepseek_v3", "llama4_text", "gemma4_text", "cohere2"])
def test_all_orders_give_the_same_bits_in_bfloat16(name):
    local = backend(name, torch.bfloat16)
    views = orders(Layout.of(*random_prompt()))
    for text in ("set_based", "pine"):
        [method] = parse(text)
        logits = [local.logits([view], method)[0] for view in views[::4]]
        assert all(torch.equal(logits[0], other) for other in logits[1:]), text


def test_layers_without_keys_of_their_own_are_read_below_the_head_too():
    """The decoder alone would cut masks for them: that is how placements and readings of the attention call it."""
    model, layout, order = backend("gemma4_text").model, Layout.of(*random_prompt()), (2, 0, 3, 1)
    attention = PlacementsAttention(layout, [order], [[order]])
    with torch.no_grad(), seam_of(model).call(attention) as cache:
        attention.begin(model, cache)
        suffix = torch.tensor([layout.input_ids[layout.suffix_start :]])
        found = model(suffix, **kept_in(cache), use_cache=True).logits[0, -1]
    expected = plain_logits(model, list(reordered(layout, order).input_ids))[-1]
    assert (found - expected).norm() < 1e-4 * expected.norm()
    [reading] = read(model, [layout])
    assert reading.weights.shape == (4, layout.suffix_start - layout.prefix_end)


IMAGE_TEXT = {
    "Gemma3": {},
    "Mistral3": {},
    "Qwen2_5_VL": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}},
    "Qwen3VL": {},
    "InternVL": {},
    "Llava": {},
}


@pytest.mark.parametrize("name", IMAGE_TEXT)
def test_text_prompts_of_image_text_models(name):
    config = small_config(getattr(transformers, f"{name}Config").model_type, text_options=IMAGE_TEXT[name])
    kind = getattr(transformers, f"{name}ForConditionalGeneration")
    model = with_random_weights(kind._from_config(config), 0).eval()
    local = HFBackend(model, Tokens())
    for text in ("set_based", "pine"):
        [method] = parse(text)
        assert check_method(model, local, method, *METHODS[text]) == "right", text


@pytest.mark.parametrize("experts", [1, 4])
def test_one_segment_of_llama4_in_half_precision_is_the_plain_prompt_where_no_router_chooses(experts):
    """With 1 of 4 experts, rounding decides where a router on the edge sends a token; see docs/models.md."""
    options = FAMILIES["llama4_text"] | {"num_local_experts": experts, "num_experts_per_tok": experts}
    ids, _ = random_prompt()
    model = small_model("llama4_text", dtype=torch.bfloat16, **options)
    local, plain = HFBackend(model, Tokens()), plain_logits(model, ids)[-1].float()
    for text in ("set_based", "rotor"):
        logits = local.logits([Layout.of(ids, [(4, len(ids) - 6)])], parse(text)[0])[0]
        assert (logits - plain).norm() < 0.05 * plain.norm(), text


@pytest.mark.parametrize("name", ["deepseek_v32", "glm_moe_dsa"])
def test_indexers_that_select_keys_go_on_from_their_cache_as_if_they_read_everything_again(name):
    """Enough heads that no two keys tie at zero, as in the released models; the index takes 8 of 70 keys."""
    model = small_model(name, index_n_heads=32)
    ids, _ = random_prompt(0, (20, 20, 20))
    local, layout, reply = HFBackend(model, Tokens()), Layout.of(ids, []), (5, 9, 2, 7)
    found = local.generate([layout], None, Decoding(max_new_tokens=8))[0]
    assert found == plain_tokens(model, ids, 8)
    assert found == stock_tokens(model, ids)[:8]
    [((log_prob, _), _)] = local.score([layout], [(reply, (5, 9))])
    rows = torch.log_softmax(plain_logits(model, [*ids, *reply]), dim=-1)[len(ids) - 1 :]
    assert log_prob == pytest.approx(sum(float(rows[k, t]) for k, t in enumerate(reply)), abs=1e-4)
