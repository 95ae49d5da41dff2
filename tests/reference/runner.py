"""A dense walk through a transformers model with the attention handed out.

    logits = run(model, ids, attend)            # (N, V)
    def attend(layer, x): ...                   # x (N, hidden): the output of the layer's input norm -> (H, N, d)

`Layer` gives what a method needs: the un-rotated projections, the model's rotary embedding at any positions, its logits
(scaled, soft-capped). `attention` is softmax attention in which every query may see every key at a position of its own.

Shapes: N tokens, H query heads, d head size. Keys and values are repeated to H heads; head h belongs to group h // G.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# Models that are taken apart here; others are caught in the act.
DENSE = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "gpt_neox")

Attend = Callable[["Layer", Tensor], Tensor]


class Layer:
    """One layer's attention, taken apart."""

    chunk: int | None = None  # positions are cut into chunks of this size, none of which sees another (Llama 4)
    sinks: Tensor | None = None  # a logit (H,) that takes its share of the softmax (gpt-oss)

    def __init__(self, model: PreTrainedModel, index: int) -> None:
        config, base = model.config, model.base_model
        self.index, self.config, self.block = index, config, base.layers[index]
        self.module = self.block.attention if config.model_type == "gpt_neox" else self.block.self_attn
        self.heads = config.num_attention_heads
        self.group_size = self.heads // getattr(config, "num_key_value_heads", self.heads)  # G
        self.kind = getattr(config, "layer_types", None) and config.layer_types[index]
        windowed = self.kind == "sliding_attention" or config.model_type in ("mistral", "phi3")
        self.window = config.sliding_window if windowed else None
        self.softcap = getattr(config, "attn_logit_softcapping", None)
        self.rotary = base.rotary_emb

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v (H, N, d) before rotation, after the q and k norms of the models that have them."""
        module, groups = self.module, self.heads // self.group_size
        if self.config.model_type == "gpt_neox":  # (q, k, v) of head 0, of head 1, ...
            q, k, v = module.query_key_value(x).view(len(x), self.heads, -1).chunk(3, dim=-1)
        elif self.config.model_type == "phi3":  # all q, all k, all v
            d = self.config.hidden_size // self.heads
            q, k, v = module.qkv_proj(x).view(len(x), -1, d).split([self.heads, groups, groups], dim=1)
        else:
            q = module.q_proj(x).view(len(x), self.heads, -1)
            k = module.k_proj(x).view(len(x), groups, -1)
            v = module.v_proj(x).view(len(x), groups, -1)
        if hasattr(module, "q_norm"):
            q, k = module.q_norm(q), module.k_norm(k)
        k, v = (each.repeat_interleave(self.group_size, dim=1) for each in (k, v))
        return q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)

    def cos_sin(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The model's own cos and sin, in the dtype of x, at positions (P,): (P, rotated channels) each."""
        kind = (self.kind,) if self.config.model_type == "gemma3_text" else ()  # which has a rotary base for each kind
        cos, sin = self.rotary(x, positions[None], *kind)
        return cos[0], sin[0]

    @property
    def rotary_size(self) -> int:
        """How many channels of a head rotate."""
        return self.cos_sin(torch.zeros(1), torch.zeros(1))[0].shape[-1]

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """R(positions) x: x (..., d), positions that broadcast to (...). Each distinct position is computed once."""
        distinct, index = positions.to(x.dtype).unique(return_inverse=True)
        cos, sin = (each[index] for each in self.cos_sin(x, distinct))
        turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]  # partial rotary: only the first channels turn
        left, right = turned.chunk(2, dim=-1)
        turned = turned * cos + torch.cat((-right, left), dim=-1) * sin
        return torch.cat((turned, rest.expand(*turned.shape[:-1], -1)), dim=-1)

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        """(H, T, N) of q (H, T, d) and k (H, N, d), or k (H, T, N, d) where every query has keys of its own."""
        k = k if k.ndim == 4 else k[:, None]
        scores = torch.einsum("htd,htnd->htn", q, k) * self.module.scaling
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)

    def tempered(self, q: Tensor, positions: Tensor) -> Tensor:
        """Queries (H, T, d) with factors of their place (H or 1, T), in models that have such."""
        return q

    def positioned_logits(
        self,
        q: Tensor,
        k: Tensor,
        query_pos: Tensor,
        key_pos: Tensor,
        visible: Tensor,
        stands: Tensor | None = None,
    ) -> Tensor:
        """(H, T, N) logits of q at `query_pos` and k at `key_pos`, -inf where not visible or out of the window.

        Args:
            q: (H, T, d), not rotated; k (H, N, d) likewise.
            query_pos: (T,) or (H, T), integer or not.
            key_pos: the position of key x as query t of head h sees it: (N,), (1 or H, 1 or T, N).
            visible: bool, (T, N) or (H, T, N): which keys query t may see. A sliding window cuts this further, by
                positions: keys less than `window` before the query stay.
            stands: positions (T,) of the queries themselves, where `query_pos` are those of heads.
        """
        q = self.tempered(q, (query_pos if stands is None else stands).expand(len(q), -1))
        query_pos = query_pos.expand(len(q), -1)
        key_pos = key_pos if key_pos.ndim == 3 else key_pos[None, None]
        if self.window is not None:
            visible = visible & (query_pos[:, :, None] - key_pos < self.window)
        if self.chunk is not None:
            visible = visible & (query_pos[:, :, None] // self.chunk == key_pos // self.chunk)
        turned_k = self.rotate(k[:, None], key_pos)  # (H, 1 or T, N, d)
        return self.logits(self.rotate(q, query_pos), turned_k).masked_fill(~visible, -torch.inf)

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        query_pos: Tensor,
        key_pos: Tensor,
        visible: Tensor,
        stands: Tensor | None = None,
    ) -> Tensor:
        """softmax(positioned_logits) v: (H, T, d)."""
        logits, v = self.sunk(self.positioned_logits(q, k, query_pos, key_pos, visible, stands), v)
        return logits.softmax(-1) @ v

    def sunk(self, logits: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (H, T, N) and values (H, N, d) with one more key where the heads have sinks, whose value is 0."""
        if self.sinks is None:
            return logits, v
        sink = self.sinks[:, None, None].to(logits).expand(-1, logits.shape[1], 1)
        return torch.cat([logits, sink], dim=-1), torch.cat([v, torch.zeros_like(v[:, :1])], dim=1)


@torch.no_grad()
def run(model: PreTrainedModel, ids: list[int], attend: Attend, places: Tensor | None = None) -> Tensor:
    """Logits (N, V) of one prompt with `attend` as the attention of every layer.

    Args:
        model: Any.
        ids: (N,).
        attend: Of every layer.
        places: (N,), for models that add a vector for its place to each token; None: in storage order.
    """
    if model.config.model_type not in DENSE:
        from . import caught  # which subclasses what is here

        return caught.run(model, ids, attend, places)
    config, base = model.config, model.base_model
    x = model.get_input_embeddings()(torch.tensor(ids))
    for index, block in enumerate(base.layers):
        layer = Layer(model, index)
        mixed = attend(layer, block.input_layernorm(x)).transpose(0, 1).reshape(len(ids), -1)
        if config.model_type == "gpt_neox":
            assert config.use_parallel_residual
            x = x + layer.module.dense(mixed) + block.mlp(block.post_attention_layernorm(x))
        elif config.model_type in ("gemma2", "gemma3_text"):  # norms after attention and MLP, too
            x = x + block.post_attention_layernorm(layer.module.o_proj(mixed))
            x = x + block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(x)))
        else:
            x = x + layer.module.o_proj(mixed)
            x = x + block.mlp(block.post_attention_layernorm(x))
    final_norm: nn.Module = base.final_layer_norm if config.model_type == "gpt_neox" else base.norm
    logits = model.get_output_embeddings()(final_norm(x))
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def causal(n: int) -> Tensor:
    """(n, n) bool: query t sees keys 0 .. t."""
    return torch.ones(n, n, dtype=torch.bool).tril()


def greedy(next_logits: Callable[[list[int]], Tensor], ids: list[int], steps: int) -> list[int]:
    """Greedy tokens by brute force: each time `next_logits` (V,) of the prompt with all tokens so far appended."""
    new: list[int] = []
    for _ in range(steps):
        new.append(int(next_logits([*ids, *new]).argmax()))
    return new
