"""Every causal model is asked plainly: hybrids, state spaces, caches of a model's own, positions that count padding.

The reference is the model itself, which reads everything again at every step.
"""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MiniMaxConfig,
    MptConfig,
    Phi3Config,
    Qwen3NextConfig,
    RobertaConfig,
    RwkvConfig,
)

import fairpos
from fairpos import Decoding
from fairpos.backends.base import Ballot
from fairpos.backends.caches import TokensCache
from fairpos.backends.hf import HFBackend
from fairpos.errors import UnsupportedModel
from tests.prompts_in_tokens import random_layout
from tests.tiny_models import tiny_model

VOCAB = 160
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 24,
}
SSM = {"mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False}
NO_TOKENS = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
CONFIGS = {
    "mamba": MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=8, **NO_TOKENS),
    "lfm2": Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"]),
    "qwen3_next": Qwen3NextConfig(**GROUPED, **EXPERTS, **LINEAR, layer_types=["linear_attention", "full_attention"]),
    "jamba": JambaConfig(
        **GROUPED, **SSM, num_experts=1, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1
    ),
    "minimax": MiniMaxConfig(**GROUPED, num_local_experts=2, num_experts_per_tok=1, block_size=8),
    "rwkv": RwkvConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, **NO_TOKENS),
    "mpt": MptConfig(vocab_size=VOCAB, d_model=32, n_heads=4, n_layers=2, use_cache=False, **NO_TOKENS),
    "bart": BartConfig(vocab_size=VOCAB, d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48,
                       is_encoder_decoder=False, forced_eos_token_id=None, **NO_TOKENS),
}  # fmt: skip


@pytest.fixture(params=CONFIGS)
def backend(request, tokenizer):
    torch.manual_seed(0)
    return HFBackend(AutoModelForCausalLM.from_config(CONFIGS[request.param]).eval(), tokenizer)


@torch.no_grad()
def log_probs_after(model, ids):
    return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), dim=-1)


def greedy_text(model, ids, count):
    text = list(ids)
    for _ in range(count):
        text.append(int(log_probs_after(model, text)[-1].argmax()))
    return text[len(ids) :]


def test_logits_texts_and_scores_are_the_models_own_alone_and_in_batches(backend):
    layouts = [random_layout(i, lengths) for i, lengths in enumerate([(4, 3), (6, 5, 2)])]
    replies = [(5,), (5, 9), (5, 9, 2)]
    together = backend.generate(layouts, None, Decoding(max_new_tokens=5))
    logits = backend.logits(layouts)
    shared = backend.score([layouts[0], random_layout(0, (4, 3))], [replies, replies])
    for i, layout in enumerate(layouts):
        ids = list(layout.input_ids)
        expected = log_probs_after(backend.model, ids)[-1]
        torch.testing.assert_close(torch.log_softmax(logits[i], dim=-1), expected, atol=1e-4, rtol=1e-3)
        assert together[i] == greedy_text(backend.model, ids, 5)
        assert backend.generate([layout], None, Decoding(max_new_tokens=5)) == [together[i]]
        [(found, _)] = backend.score([layout], [replies])
        for reply, log_prob in zip(replies, found, strict=True):
            rows = log_probs_after(backend.model, [*ids, *reply])[len(ids) - 1 :]
            assert log_prob == pytest.approx(sum(float(rows[k, t]) for k, t in enumerate(reply)), abs=1e-3)
        if i == 0:
            assert shared[0][0] == pytest.approx(found, abs=1e-4)


def test_prompts_of_different_lengths_vote_on_one_text(backend):
    views = [random_layout(1, (4, 3)), random_layout(2, (6, 2, 3))]
    text = backend.vote(views, None, Decoding(max_new_tokens=4), Ballot())
    ids = [list(view.input_ids) for view in views]
    for token in text:
        pooled = torch.stack([log_probs_after(backend.model, each)[-1] for each in ids]).mean(dim=0)
        assert int(pooled.argmax()) == token
        ids = [[*each, token] for each in ids]


def test_attention_methods_are_refused_where_attention_is_not_all(backend):
    layout = random_layout(0)
    with pytest.raises(UnsupportedModel):
        fairpos.wrap(backend.model, backend.tokenizer).next_token_logits(layout.input_ids, layout.spans, "set_based")


def test_a_model_that_does_not_count_positions_from_zero_is_asked_one_by_one(tokenizer):
    """RoBERTa's positions begin behind its padding token's number, and it takes no others."""
    torch.manual_seed(0)
    config = RobertaConfig(**SIZES | {"pad_token_id": 1}, max_position_embeddings=64, is_decoder=True)
    backend = HFBackend(AutoModelForCausalLM.from_config(config).eval(), tokenizer)
    layouts = [random_layout(0, (4, 3)), random_layout(1, (6, 2, 3))]
    assert not backend.pads_exactly()
    for layout, row in zip(layouts, backend.logits(layouts), strict=True):
        own = backend.model(torch.tensor([layout.input_ids]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(row, own.detach(), atol=1e-5, rtol=1e-4)


def test_frequencies_that_change_with_the_length_are_those_of_each_prompt(tokenizer):
    """longrope: the longest row of a batch would choose for all; the limit counts the new tokens, too."""
    torch.manual_seed(0)
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config = Phi3Config(**GROUPED, max_position_embeddings=128, original_max_position_embeddings=24,
                        rope_parameters=rope)  # fmt: skip
    backend = HFBackend(AutoModelForCausalLM.from_config(config).eval(), tokenizer)
    layouts = [random_layout(0, (4, 3)), random_layout(1, (16, 12, 13))]
    assert len(layouts[0]) < 24 < len(layouts[1])
    for layout, row in zip(layouts, backend.logits(layouts), strict=True):
        own = log_probs_after(backend.model, list(layout.input_ids))[-1]
        torch.testing.assert_close(torch.log_softmax(row, dim=-1), own, atol=1e-4, rtol=1e-3)
    fair = fairpos.wrap(backend.model, tokenizer)
    short = layouts[0]
    assert fair.generate_ids(short.input_ids, short.spans, "set_based", max_new_tokens=2)
    with pytest.raises(UnsupportedModel, match="and up to 16 new ones"):
        fair.generate_ids(short.input_ids, short.spans, "set_based", max_new_tokens=16)


def test_a_model_wrapped_twice_two_on_one_config_and_a_compiled_one(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(**GROUPED)
    first, second = (AutoModelForCausalLM.from_config(config).eval() for _ in range(2))
    layout = random_layout(0)

    def logits_of(fair, method):
        return fair.next_token_logits(layout.input_ids, layout.spans, method)

    expected = {
        (i, m): logits_of(fairpos.wrap(each, tokenizer), m)
        for i, each in enumerate((first, second))
        for m in ("none", "set_based")
    }
    twice = fairpos.wrap(first, tokenizer), fairpos.wrap(first, tokenizer), fairpos.wrap(second, tokenizer)
    ids, spans = layout.input_ids, layout.spans
    with twice[0].attending(ids, spans, "set_based"), twice[1].attending(ids, spans, "pine"):
        for method in ("none", "set_based"):
            assert torch.equal(logits_of(twice[1], method), expected[0, method])
            assert torch.equal(logits_of(twice[2], method), expected[1, method])
    compiled = fairpos.wrap(torch.compile(first, backend="eager"), tokenizer)
    for method in ("none", "set_based"):
        torch.testing.assert_close(logits_of(compiled, method), expected[0, method])


def test_a_model_that_cannot_go_on_from_its_cache_reads_again(tokenizer):
    model = tiny_model("llama", torch.float32)
    plain = HFBackend(model, tokenizer)
    layout, replies = random_layout(2), [(5,), (5, 9, 2)]
    expected = plain.score([layout], [replies])
    broken = HFBackend(model, tokenizer)
    broken._continues_exactly = False
    assert isinstance(broken.new_cache(), TokensCache)
    assert not broken.pads_exactly()
    for (found, sure), (log_probs, greedy) in zip(broken.score([layout], [replies]), expected, strict=True):
        assert found == pytest.approx(log_probs, abs=1e-4)
        assert sure == greedy
