"""The dense walk of `runner` for models whose layers it can't take apart: rotation and attention are caught in the act.

The model runs its own code on the plain prompt. Its function that rotates is replaced by one that remembers how and
leaves queries and keys as they are; its attention function by one that hands them out. Nothing of fairpos: functions of
the model's file are replaced, hooks are not used, and what `runner.Layer` offers is done by those functions.

    heads (H, N, d), values (H, N, dv); a layer where nothing was caught doesn't rotate
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from . import runner

_NAME = "tests_reference_caught"


class Turn:
    """How a layer rotates: a function of x (P, w) and P positions, for the w channels from `start` of a head."""

    def __init__(self, rotate: Callable[[Tensor, Tensor], Tensor], width: int) -> None:
        self.rotate, self.width = rotate, width


class Reach(dict):
    """What stands for a mask: "window" and "chunk"; a model may cut it like a tensor (Gemma 4)."""

    def __getitem__(self, key: Any) -> Any:
        return self if isinstance(key, tuple) else super().__getitem__(key)


class CaughtLayer(runner.Layer):
    """What the references ask of a layer, from what was caught."""

    def __init__(
        self, module: nn.Module, turn: Turn | None, qkv: tuple[Tensor, Tensor, Tensor], options: dict[str, Any]
    ) -> None:
        q, k, v = (x[0] for x in qkv)
        self.index, self.module, self.turn = module.layer_idx, module, turn
        self.heads, self.group_size = len(q), len(q) // len(k)
        self.qkv = q, *(x.repeat_interleave(self.group_size, dim=0) for x in (k, v))
        self.window, self.chunk = options["window"], options["chunk"]
        self.softcap, self.sinks, self.scaling = options["softcap"], options["s_aux"], options["scaling"]
        self.temper = options["temper"]
        latent = hasattr(module, "qk_rope_head_dim")
        self.start = q.shape[-1] - turn.width if latent and turn is not None else 0

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.qkv

    @property
    def rotary_size(self) -> int:
        return 0 if self.turn is None else self.turn.width

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(x.shape[:-1], positions.shape)
        if self.turn is None:
            return x.expand(*shape, x.shape[-1])
        wide = x.expand(*shape, x.shape[-1]).reshape(-1, x.shape[-1])  # (P, d)
        turned = slice(self.start, self.start + self.turn.width)
        out = wide.clone()
        out[:, turned] = self.turn.rotate(wide[:, turned], positions.expand(shape).reshape(-1))
        return out.view(*shape, -1)

    def tempered(self, q: Tensor, positions: Tensor) -> Tensor:
        return q if self.temper is None else q * self.temper(positions)

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        k = k if k.ndim == 4 else k[:, None]
        scores = torch.einsum("htd,htnd->htn", q, k.expand(-1, q.shape[1], -1, -1)) * self.scaling
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)


def run(model: PreTrainedModel, ids: list[int], attend: runner.Attend, places: Tensor | None = None) -> Tensor:
    """Logits (N, V) of one prompt with `attend` as the attention of every layer; see `runner.run`."""
    rotary = _rotary_of(model)
    # Whoever rotates is told plain places: rotation is caught, and done where a method wants it.
    places = torch.arange(len(ids)) if rotary is not None or places is None else places
    with torch.no_grad(), _caught(model, rotary, attend):
        return model(input_ids=torch.tensor([ids]), position_ids=places[None], use_cache=False).logits[0]


def _rotary_of(model: PreTrainedModel) -> nn.Module | None:
    found = (m for name, m in model.named_modules() if name.endswith("rotary_emb") and "vision" not in name)
    return next(found, None)


@contextmanager
def _caught(model: PreTrainedModel, rotary: nn.Module | None, attend: runner.Attend) -> Iterator[None]:
    turns: dict[str, Turn] = {}

    def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any):
        options = {
            "softcap": options.get("softcap"),
            "s_aux": options.get("s_aux"),
            "temper": _temper_of(module),
            "scaling": options.get("scaling", query.shape[-1] ** -0.5),
            **(attention_mask if isinstance(attention_mask, dict) else {"window": None, "chunk": None}),
        }
        layer = CaughtLayer(module, turns.pop("now", None), (query, key, value), options)
        out = attend(layer, query[0].transpose(0, 1).flatten(1))  # (H, N, dv)
        return out.transpose(0, 1)[None].contiguous(), None

    def mask(**kwargs: Any) -> Reach:
        size, chunk = kwargs.get("local_size"), getattr(kwargs["config"], "attention_chunk_size", None)
        return Reach(window=None, chunk=size) if size == chunk else Reach(window=size, chunk=None)

    AttentionInterface.register(_NAME, attention)
    AttentionMaskInterface.register(_NAME, mask)
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()
    before = [(config, config._attn_implementation) for config in configs]
    source = sys.modules[type(model if rotary is None else rotary).__module__]
    catches = {
        name: catch(turns, rotary, getattr(source, name)) for name, catch in _CATCHES.items() if hasattr(source, name)
    }
    try:
        for config, _ in before:
            config._attn_implementation = _NAME
        with mock.patch.multiple(source, **catches) if catches else nullcontext():
            yield
    finally:
        for config, name in before:
            config._attn_implementation = name


def _factors(rotary: nn.Module, like: Tensor, positions: Tensor, kind: str | None) -> Any:
    return rotary(like, positions[None]) if kind is None else rotary(like, positions[None], kind)


def _kind_of(rotary: nn.Module, cos: Tensor, n: int) -> str | None:
    """Of a rotary module with several bases, the one whose factors these are."""
    if not isinstance(getattr(rotary, "rope_type", None), dict):
        return None
    same = [kind for kind in rotary.rope_type if torch.equal(rotary(cos, torch.arange(n)[None], kind)[0], cos)]
    return same[0]


def _catch_usual(turns: dict[str, Turn], rotary: nn.Module, own: Callable[..., Any]) -> Callable[..., Any]:
    """(q, k, cos, sin) of Llama, (x, cos, sin, unsqueeze_dim) of Gemma 3n, (x, sin, cos) of GPT-J."""
    names = own.__code__.co_varnames[:4]

    def of_two(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *_: Any, **__: Any):
        kind = _kind_of(rotary, cos, cos.shape[1])

        def rotate(x: Tensor, positions: Tensor) -> Tensor:
            at = _factors(rotary, x, positions, kind)
            return own(x[None, None], x[None, None], *at)[0][0, 0]

        turns["now"] = Turn(rotate, q.shape[-1])
        return q, k

    def of_one(x: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1):
        kind = _kind_of(rotary, cos, cos.shape[1])

        def rotate(x: Tensor, positions: Tensor) -> Tensor:
            return own(x[None, None], *_factors(rotary, x, positions, kind), unsqueeze_dim=1)[0, 0]

        turns["now"] = Turn(rotate, x.shape[-1])
        return x

    def of_gptj(x: Tensor, sin: Tensor, cos: Tensor):
        def rotate(x: Tensor, positions: Tensor) -> Tensor:
            angle = positions[:, None].float() / 10000 ** (torch.arange(0, x.shape[-1], 2) / x.shape[-1])
            return own(x[None, :, None], angle.sin().to(x)[None], angle.cos().to(x)[None])[0, :, 0]

        turns["now"] = Turn(rotate, x.shape[-1])
        return x

    return of_one if names[1] == "cos" else of_gptj if names[1] == "sin" else of_two


def _catch_interleaved(turns: dict[str, Turn], rotary: nn.Module, _: Callable[..., Any]) -> Callable[..., Any]:
    """Neighbours are put into halves first; that stays, what follows is a half-split rotation."""

    def halves(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)

    def rotate(x: Tensor, positions: Tensor) -> Tensor:
        cos, sin = (factor[0] for factor in rotary(x, positions[None]))
        left, right = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-right, left), dim=-1) * sin

    def catch(q: Tensor, k: Tensor, *_: Any, **__: Any):
        turns["now"] = Turn(rotate, q.shape[-1])
        return halves(q), halves(k)

    return catch


def _catch_complex(turns: dict[str, Turn], rotary: nn.Module, _: Callable[..., Any]) -> Callable[..., Any]:
    def rotate(x: Tensor, positions: Tensor) -> Tensor:
        factors = rotary(x, positions[None])[0]  # (P, w / 2)
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * factors).flatten(-2)

    def catch(q: Tensor, k: Tensor, *_: Any):
        turns["now"] = Turn(rotate, q.shape[-1])
        return q, k

    return catch


def _catch_temperature(_: dict[str, Turn], __: nn.Module, ___: Callable[..., Any]) -> Callable[..., Any]:
    """Leaves queries as they are; `_temper_of` gives them their factors where a method puts them."""
    return lambda positions, *_: torch.ones(1, 1, 1, 1)


def _temper_of(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Factors of queries at positions (H or 1, T), as (H or 1, T, 1): arXiv 2501.19399 in Ministral's form."""
    parameters = getattr(module.config, "rope_parameters", None) or {}
    beta, length = parameters.get("llama_4_scaling_beta"), parameters.get("original_max_position_embeddings")
    if not beta:
        return None
    return lambda positions: 1 + beta * torch.log(1 + torch.floor(positions / length))[..., None]


_CATCHES = {
    "get_llama_4_attn_scale": _catch_temperature,
    "apply_rotary_pos_emb": _catch_usual,
    "apply_rotary_pos_emb_interleave": _catch_interleaved,
    "apply_rotary_emb": _catch_complex,
}
