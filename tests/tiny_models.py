"""Tiny random models of every supported architecture, in which a wrong mask or position shows clearly.

    tiny_model("gemma3")                      float64, exact arithmetic, the same weights on every call
    tiny_model("llama", dtype=torch.float32)  the stock model in another dtype, the same weights rounded
    tiny_prompt()                             token ids and spans of a prompt with three segments
    plain_logits(model, ids)                  what the unmodified model says, (N, V)

Four layers, hidden size 48, grouped queries (GPT-NeoX has none), 160 tokens of vocabulary, no end-of-text token.
Weights are drawn large, so attention is far from uniform; norm weights and biases are drawn too, so that forgetting one
shows.

transformers computes RMS norms, cos and sin in float32 even in a float64 model, and Gemma 2 its softmax. Rounding there
turns a difference of 1e-16 into one of 1e-7 now and then. So with `exact` (the default in float64) norms and rotary
embeddings are subclassed to compute in float64, and `plain_logits` does the same for the softmax: two computations of
the same thing then agree to 1e-12 whatever the order of their sums.
"""

from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

# Much shorter than the prompts. 11 * r is no integer for the ratios r that Ms-PoE gives these models, so no rounding
# decides whether a key is inside.
WINDOW = 11
VOCAB = 160
_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
    "initializer_range": 0.25,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_GEMMA = _GROUPED | {
    "head_dim": 12,
    "query_pre_attn_scalar": 12,
    "sliding_window": WINDOW,
    "tie_word_embeddings": False,  # tied, a random Gemma repeats its last token for ever
}

TINY: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "llama_llama3": lambda: LlamaConfig(
        **_GROUPED,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "llama_yarn": lambda: LlamaConfig(
        **_GROUPED,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=12),
    "mistral": lambda: MistralConfig(**_GROUPED, sliding_window=WINDOW),
    "gemma2": lambda: Gemma2Config(**_GEMMA, attn_logit_softcapping=4.0, final_logit_softcapping=6.0),
    "gemma3": lambda: Gemma3TextConfig(
        **_GEMMA,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
        },
    ),
    "phi3": lambda: Phi3Config(**_GROUPED, rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}),
    "gpt_neox": lambda: GPTNeoXConfig(
        **_SIZES, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    ),
}
WINDOWED = ("mistral", "gemma2", "gemma3")  # models with a sliding window in some layer


def tiny_model(name: str, dtype: torch.dtype = torch.float64, *, exact: bool = True, seed: int = 0) -> PreTrainedModel:
    """The model `TINY[name]` with weights drawn from `seed`, in evaluation mode; see the module docstring."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(TINY[name]())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:  # norm weights and biases start at 0 or 1
                    parameter.add_(0.3 * torch.randn_like(parameter))
    model = model.to(dtype).eval()
    if exact and dtype == torch.float64:
        with_exact_norms(with_exact_rotation(model))
    return model


def with_exact_norms(model: PreTrainedModel) -> PreTrainedModel:
    """The model with RMS norms in float64."""
    for module in model.modules():
        kind = type(module)
        if kind.__name__.endswith("RMSNorm"):
            exact_forward = _gemma_norm if kind.__name__.startswith("Gemma") else _norm
            module.__class__ = type(kind.__name__, (kind,), {"forward": exact_forward})
    return model


def with_exact_rotation(model: PreTrainedModel) -> PreTrainedModel:
    """The model with cos and sin in float64: its rotary modules ask for float32 by `.float()`, which gives float64."""
    for module in model.modules():
        kind = type(module)
        if kind.__name__.endswith("RotaryEmbedding"):
            exact = type(kind.__name__, (kind,), {"forward": _in_double(kind.forward), "__module__": kind.__module__})
            module.__class__ = exact
    return model


def _in_double(forward: Callable) -> Callable:
    def exact(*args, **kwargs):
        with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            return forward(*args, **kwargs)

    return exact


def tiny_prompt(
    prefix: int = 5, segments: tuple[int, ...] = (7, 10, 9), suffix: int = 9, seed: int = 1
) -> tuple[list[int], list[tuple[int, int]]]:
    """Random token ids and the spans (start, end) of the segments, for the given lengths in tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCAB, (prefix + sum(segments) + suffix,), generator=generator).tolist()
    ends = [prefix + sum(segments[: i + 1]) for i in range(len(segments))]
    return ids, [(end - length, end) for end, length in zip(ends, segments, strict=True)]


def plain_logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """Logits (N, V) of the unmodified model on one prompt, its softmax in the dtype of the logits."""
    own_dtype = mock.patch("torch.nn.functional.softmax", lambda x, dim, dtype=None: torch.softmax(x, dim))
    with torch.no_grad(), own_dtype:
        return model(torch.tensor([ids]), use_cache=False).logits[0]


def _norm(self: torch.nn.Module, x: Tensor) -> Tensor:
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + _epsilon(self))


def _gemma_norm(self: torch.nn.Module, x: Tensor) -> Tensor:
    return (1 + self.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + _epsilon(self))


def _epsilon(norm: torch.nn.Module) -> float:
    return norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
