"""What the proof has to refuse, in float32 and in bfloat16, and that it takes what is right."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.seam_proof import FAMILIES, accepted
from fairpos.attention.families.latent import PassingLayer
from fairpos.attention.hooks import NAME
from fairpos.attention.proof import prove
from fairpos.attention.seam import Seam, seam_of
from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout
from fairpos.methods.pine import Pine
from fairpos.methods.set_based import SetBased
from tests.architectures import plain_logits, random_prompt, small_model
from tests.attention.test_families import Tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_right_models_are_taken_and_faults_refused_in_half_precision(name):
    """20 seeds: benchmarks/seam_proof.py."""
    options, fault = FAMILIES[name]
    model = small_model(name, seed=1, dtype=torch.bfloat16, **options)
    assert accepted(model, nullcontext)
    assert not accepted(model, fault)


def refusal(model: nn.Module) -> str:
    with pytest.raises(UnsupportedModel) as error:
        Seam(model).verify()
    return str(error.value)


class AttentionWith(nn.Module):
    """An attention module of Llama that says something more to its attention function."""

    def __init__(self, inner: nn.Module, **more: object) -> None:
        super().__init__()
        self.inner, self.more = inner, more

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs | self.more)


@pytest.mark.parametrize("more", [{"head_mask": torch.ones(1)}, {"attention_mask": torch.zeros(1, 1, 16, 16)}])
def test_arguments_that_would_be_dropped_are_refused(more):
    model = small_model("llama")
    model.model.layers[2].self_attn = AttentionWith(model.model.layers[2].self_attn, **more)
    said = refusal(model)
    assert "factors that fairpos doesn't know: head_mask" in said or "mask of its own" in said


class Mixing(nn.Module):
    """A token gets a part of the one before it."""

    def forward(self, x):
        return x + 0.3 * torch.roll(x, 1, dims=1)


def test_what_mixes_tokens_beside_attention_is_refused():
    model = small_model("llama")
    model.model.layers[1].mlp = nn.Sequential(model.model.layers[1].mlp, Mixing())
    assert "still depend on their order" in refusal(model)


class Placing(nn.Module):
    """Learned positions, besides rotation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(512, 64))

    def forward(self, x):
        return x + self.table[: x.shape[1]]


def test_what_knows_places_beside_rotation_is_refused():
    model = small_model("llama")
    model.model.layers[0].input_layernorm = nn.Sequential(model.model.layers[0].input_layernorm, Placing())
    assert "still depend on where a token stands" in refusal(model)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("lfm2", "conv"), ("qwen3_next", "linear_attention"), ("mamba", "Mamba"), ("jamba", "mamba"), ("rwkv", "Rwkv")],
)
def test_layers_that_are_no_attention_are_named(name, kinds):
    said = refusal(small_model(name))
    assert kinds.lower() in said.lower()
    assert "permutation" in said


@pytest.mark.parametrize(("name", "reason"), [("beam", "attention_scaling"), ("hrm_text", "several times")])
def test_what_looks_right_on_a_short_prompt_is_refused_by_its_structure(name, reason):
    """Factors of queries by place that are nearly 1 at first; layers whose keys a method would mix up."""
    assert reason in refusal(small_model(name))


def test_two_models_on_one_config_with_calls_that_overlap():
    config = small_model("llama").config
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (HFBackend(LlamaForCausalLM(config).eval(), Tokens()) for _ in range(2))
    layout = Layout.of(*random_prompt())
    alone = [first.logits([layout], SetBased()), second.logits([layout], Pine())]
    own = plain_logits(second.model, list(layout.input_ids))
    with first.attending([layout], SetBased()) as (batch, cache):
        beside = second.logits([layout], Pine())
        assert torch.equal(plain_logits(second.model, list(layout.input_ids)), own)
        inside = first.prefill(batch, cache)
    assert torch.equal(inside, alone[0])
    assert torch.equal(beside, alone[1])
    assert config._attn_implementation != NAME


def test_a_window_is_met_though_it_is_longer_than_the_short_proof():
    """The attention module of Qwen2-MoE isn't told its window; the mask function is."""
    options = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}
    hooks = seam_of(model := small_model("qwen2_moe", **options)).verify()
    prove(hooks)  # again: nothing of the first proof is left behind
    assert {layer.self_attn.layer_idx for layer in model.model.layers} == set(hooks.rotary.parts)


def test_latents_are_expanded_once_and_kept_expanded():
    local = HFBackend(small_model("deepseek_v3"), Tokens())
    with local.attending([Layout.of(*random_prompt())], SetBased()) as (batch, cache):
        local.prefill(batch, cache)
        assert isinstance(cache.layers[0], PassingLayer)
        assert cache.layers[0].keys.shape == (1, 4, batch.width, 32)
        assert cache.layers[0].values.shape == (1, 4, batch.width, 16)


def test_rotary_scaling_that_is_refused_beyond_its_length_says_so():
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, rope_parameters=rope, eos_token_id=None,
    )  # fmt: skip
    local = HFBackend(LlamaForCausalLM(config).eval(), Tokens())
    short = Layout.of(list(range(10)), [(2, 4), (4, 8)])
    assert len(local.generate([short], SetBased(), Decoding(max_new_tokens=6))[0]) == 6
    with pytest.raises(UnsupportedModel, match="beyond 16 tokens"):
        local.generate([short], SetBased(), Decoding(max_new_tokens=7))
