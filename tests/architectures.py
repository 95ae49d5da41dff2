"""Every causal model of transformers, small: built from its config with sizes by the names of attributes.

    entries()                        model types of MODEL_FOR_CAUSAL_LM, as this version of transformers has them
    small_model("llama")             random weights, 4 layers, vocabulary of 300; NotBuilt with the reason
    set_based_logits(model, ids, spans)   the model's own attention under a 4D mask and position ids: shares nothing
                                          with the seam

No list of models: a new release's models are there at once. What a few need beside sizes stands in `_EXCEPTIONS`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCAB = 300
_LARGEST = 120_000_000  # parameters; beyond it a model isn't built

# Sizes by attribute; a config takes those that it has.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "vocab_size_per_layer_input": VOCAB,
    "unpadded_vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    # other names of the same
    "n_embd": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 512,
    "n_inner": 96,
    "n_ctx": 512,
    "rotary_dim": 8,
    "d_model": 64,
    "n_heads": 4,
    "n_layers": 4,
    "max_seq_len": 512,
    "ffn_dim": 96,
    "word_embed_proj_dim": 64,
    "num_layers": 4,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    # experts
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 48,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "moe_topk": 2,
    "moe_num_experts": 4,
    "moe_k": 2,
    "moe_num_shared_experts": 1,
    "moe_num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "num_expert_group": 1,
    "top_k_experts": 2,
    # latent attention and sparse indexes
    "q_lora_rank": 24,
    "kv_lora_rank": 24,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "index_topk": 8,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "query_pre_attn_scalar": 16,
    # state spaces, linear attention, convolutions
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "mamba_d_ssm": 128,
    "mamba_dt_rank": 4,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 16,
    "state_size": 16,
    "n_groups": 1,
    "chunk_size": 8,
    "num_heads": 8,
    "n_mamba_heads": 2,
    "mamba_headdim": 16,
    "mamba_ngroups": 1,
    "mamba_expand": 2,
    "time_step_rank": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "lru_width": 64,
    "attention_window_size": 16,
    # single families
    "hidden_size_per_layer_input": 16,
    "laurel_rank": 8,
    "global_head_dim": 16,
    "num_global_key_value_heads": 2,
    "num_kv_shared_layers": 0,
    # vision and audio parts
    "depth": 2,
    "image_size": 28,
    "patch_size": 14,
    "out_hidden_size": 64,
    "embed_dim": 64,
    "audio_channel": 8,
}
_SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id")
_TAKEN = object()  # leave the config's default
_LATENT = {"num_key_value_heads": 4}
_NEEDS_PADDING = {"pad_token_id": 1}
_HYBRID = ("full_attention",)
_EXCEPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            "deepseek_v3",
            "deepseek_v32",
            "axk1",
            "axk2",
            "sarvam_mla",
            "minicpm3",
            "youtu",
            "longcat_flash",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "dots3_note_text",
        ),
        _LATENT,
    ),
    **dict.fromkeys(
        (
            "camembert",
            "data2vec-text",
            "roberta",
            "roberta-prelayernorm",
            "xlm-roberta",
            "xlm-roberta-xl",
            "cohere_compass_text",
            "dots3_note",
            "emu3",
        ),
        _NEEDS_PADDING,
    ),
    "bamba": {"attn_layer_indices": [1, 3]},
    "cwm": dict.fromkeys(_SPECIAL, _TAKEN),
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2, "topk_method": "greedy"},
    "dots1": {"n_group": 1, "topk_group": 1, "n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "falcon": {"head_dim": _TAKEN},
    "gemma4_text": {"head_dim": 16, "global_head_dim": 16, "pad_token_id": 0},
    "gemma4_unified_text": {"head_dim": 16, "global_head_dim": 16, "pad_token_id": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4, "num_hidden_layers": _TAKEN},
    "granitemoehybrid": {"layer_types": ["mamba", *_HYBRID] * 2, "position_embedding_type": "rope"},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {**_LATENT, "layer_types": ["linear_attention", *_HYBRID] * 2},
    "lfm2": {"layer_types": ["conv", *_HYBRID] * 2},
    "lfm2_moe": {"layer_types": ["conv", *_HYBRID] * 2, "num_dense_layers": 1, **dict.fromkeys(_SPECIAL, _TAKEN)},
    "modernbert-decoder": {
        **dict(zip((*_SPECIAL, "cls_token_id", "sep_token_id"), (0, 1, 2, 1, 2), strict=True)),
        "sliding_window": 24,
        "local_attention": 48,
    },
    "minimax_m3_vl_text": {
        "layer_types": ["minimax_m3_sparse", *_HYBRID] * 2,
        "index_block_size": 4,
        "index_topk_blocks": 8,
        "index_local_blocks": 1,
    },
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "prophetnet": {"num_hidden_layers": _TAKEN, "num_encoder_layers": 2, "num_decoder_layers": 2, "pad_token_id": 0},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [32, 32], "axial_pos_shape": [16, 32]},
    # its states round the width of keys up to 64
    "xlstm": {"v_head_dim": _TAKEN, "hidden_size": 128, "embedding_dim": 128, "num_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
    "xmod": {"default_language": "en_XX", **_NEEDS_PADDING},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "num_key_value_heads": 4, "n_mamba_heads": 8},
}


class NotBuilt(Exception):
    """A model can't be built small; the message says why."""


def entries() -> list[str]:
    """Model types that have a causal language model."""
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_config(model_type: str, *, text_options: dict[str, Any] | None = None, **options: Any) -> PretrainedConfig:
    """The config of a small model. Without special tokens, where it can do without.

    Args:
        model_type: As transformers calls it.
        text_options: Of the text half of a composite model; they come last.
        options: Of the config itself; they come last.
    """
    default = CONFIG_MAPPING[model_type]()
    try:
        return _resized(default, dict.fromkeys(_SPECIAL), options, text_options or {})
    except Exception:
        return _resized(default, dict(zip(_SPECIAL, (0, 1, 2), strict=True)), options, text_options or {})


def _resized(
    default: PretrainedConfig, special: dict[str, int | None], options: dict[str, Any], text_options: dict[str, Any]
) -> PretrainedConfig:
    chosen = {**_sizes_of(default, special), **_EXCEPTIONS.get(default.model_type, {}), **options}
    if text_options:
        chosen["text_config"] |= text_options
    return type(default)(**{key: value for key, value in chosen.items() if value is not _TAKEN})


def _sizes_of(config: PretrainedConfig, special: dict[str, int | None]) -> dict[str, Any]:
    """What `_SIZES` has for a config and the configs inside of it."""
    chosen: dict[str, Any] = {}
    for key, value in (_SIZES | special).items():
        try:
            current = getattr(config, key)
        except AttributeError:
            continue
        except Exception:  # attributes that differ by layer can't be read, but set
            current = value
        if current is not None or key == "head_dim" or key in _SPECIAL:
            chosen[key] = value
    for key in getattr(config, "sub_configs", None) or {}:
        inner = getattr(config, key, None)
        if isinstance(inner, PretrainedConfig):
            own = {k: v for k, v in _EXCEPTIONS.get(inner.model_type, {}).items() if v is not _TAKEN}
            chosen[key] = {"model_type": inner.model_type, **_sizes_of(inner, special), **own}
            chosen.pop("vocab_size", None)  # the text half's
    return chosen


def small_model(
    model_type: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any
) -> PreTrainedModel:
    """A model with random weights, norms and biases too, in evaluation mode.

    Raises:
        NotBuilt: its config refuses such sizes, or it stays too large.
    """
    try:
        config = small_config(model_type, **options)
        kind = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type])
        if not isinstance(config, kind.config_class):  # the text half alone of a composite model
            config = config.get_text_config(decoder=True)
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in kind._from_config(config).parameters())
        if size > _LARGEST:
            raise NotBuilt(f"{size / 1e6:.0f} million parameters where {_LARGEST / 1e6:.0f} are allowed")
        return with_random_weights(kind._from_config(config), seed).to(dtype).eval()
    except NotBuilt:
        raise
    except Exception as error:  # whatever a config or a model thinks of such sizes
        raise NotBuilt(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error


def with_random_weights(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The model with weights drawn from a seed; norm weights and biases, which start at 0 or 1, are moved."""
    fixed = ("A_log", "dt_bias", ".D", "e_score", "lru", "a_param", "recurrent_param")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
            elif not any(each in name for each in fixed):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def random_prompt(
    seed: int = 0, lengths: tuple[int, ...] = (9, 5, 7, 6), prefix: int = 4, suffix: int = 6
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids that are special to no model, and the segments' spans."""
    draw = random.Random(seed)
    pieces = [[draw.randrange(5, VOCAB - 40) for _ in range(n)] for n in (prefix, *lengths, suffix)]
    ends = list(accumulate(map(len, pieces)))
    return [token for piece in pieces for token in piece], list(pairwise(ends[:-1]))


def plain_logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """Logits (N, V) of the unmodified model, without a cache."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def set_layout(n: int, spans: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Set-based positions (N,), and which key each query sees, (N, N)."""
    positions, visible = torch.arange(n), torch.ones(n, n, dtype=torch.bool).tril()
    if spans:
        first, last = spans[0][0], spans[-1][1]
        for start, stop in spans:
            positions[start:stop] = first + torch.arange(stop - start)
            visible[start:stop, first:start] = False
        positions[last:] = first + max(stop - start for start, stop in spans) + torch.arange(n - last)
    return positions, visible


def masks(model: PreTrainedModel, positions: Tensor, visible: Tensor) -> Iterator[Any]:
    """Masks as different models take them: one for each kind of layer, one for all, one with the window for all."""
    config = model.config.get_text_config()
    window, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    down, across = positions[:, None], positions[None]

    def added(seen: Tensor) -> Tensor:
        low = torch.finfo(model.dtype).min
        return torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, low)[None, None]

    full = added(visible)
    near = added(visible & (down - across < window)) if isinstance(window, int) else full
    same = added(visible & (down // chunk == across // chunk)) if isinstance(chunk, int) else full
    kinds = {"full_attention", "sliding_attention", *(getattr(config, "layer_types", None) or ())}
    if hasattr(config, "layer_types"):
        yield {kind: near if "sliding" in kind else same if "chunk" in kind else full for kind in kinds}
    yield full
    yield near


def set_based_logits(model: PreTrainedModel, ids: list[int], spans: list[tuple[int, int]]) -> Tensor | None:
    """Set-based logits (N, V) by the model's own attention under a 4D mask; None where it takes no mask faithfully.

    Of the forms that a mask can have, the first is taken under which the plain prompt gives what the model itself says.
    """
    own = plain_logits(model, ids)

    def under(segments: list[tuple[int, int]], number: int) -> Tensor:
        positions, visible = set_layout(len(ids), segments)
        mask = list(masks(model, positions, visible))[number]
        with torch.no_grad():
            return (
                model(input_ids=torch.tensor([ids]), attention_mask=mask, position_ids=positions[None], use_cache=False)
                .logits[0]
                .float()
            )

    for number in range(len(list(masks(model, *set_layout(len(ids), []))))):
        try:
            faithful = (under([], number) - own).norm() < 1e-4 * own.norm()
        except Exception:  # a model that takes no such mask
            continue
        if faithful:
            return under(spans, number)
    return None
