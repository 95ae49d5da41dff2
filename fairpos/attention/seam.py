"""The seam: the only file that touches transformers' internals.

While a call of ours is in flight, the model is ARMED: its rotary embedding can be made neutral (cos = 1, sin = 0), and
its attention and mask functions are ours. Which attention a forward pass uses is decided by its cache: a `SegmentCache`
carries the attention of its call, and only for the time of that forward pass is it in force. A forward pass with any
other cache, from another thread or from the middle of another generation, runs the model's own code. So state belongs
to a call, `model.generate` works as its users know it, and when the last call ends, hooks and config are as before.

Queries and keys reach an attention un-rotated. It rotates the new keys once, in place, at the base positions that its
method gives them (`Layer.rotate_new_keys`); the cache then keeps them so, and no later token rotates the past again.
"""

from __future__ import annotations

import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fairpos.attention.batch import Batch
from fairpos.attention.cache import CACHE, GrowingLayer, kept_in
from fairpos.attention.kernel import attend, causal_mask
from fairpos.attention.rope import Factors, Pairs, Rotary, decoder_of
from fairpos.errors import NonFiniteLogits, UnsupportedModel
from fairpos.types import Layout

NAME = "fairpos"


class Attention(ABC):
    """The attention of one call over a batch of prompts, for every layer and every step.

    Called once a layer with queries and keys before rotation; `k` holds the cached keys (rotated as this attention left
    them) followed by one new key per query.
    """

    # Whether `Layer.hidden` and `Layer.project` are used.
    needs_hidden = False

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @property
    def extent(self) -> int:
        """One more than the largest position in the prompts."""
        return max(len(layout) for layout in self.batch.layouts)

    @abstractmethod
    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, H, Lq, D), k and v (B, Hkv, Lk, D), the last Lq of them new. Returns (B, H, Lq, D)."""


class SegmentCache(DynamicCache):  # type: ignore[misc]
    """A cache that keeps every token (no sliding layers) and carries the attention of its call."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.layer_class_to_replicate = GrowingLayer
        self.attention = attention


@dataclass
class _Forward:
    """One forward pass of one call."""

    attention: Attention
    rotary: Rotary
    layer_types: list[str] | None
    memo: dict[tuple[str | None, int], tuple[Tensor, Factors]] = field(default_factory=dict)
    layers_seen: int = 0
    # The arguments of the attention module that is running, where the attention needs its input.
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    projecting: bool = False


class _Projected(Exception):
    """Ends the run of an attention module as soon as its queries and keys are there."""

    def __init__(self, q: Tensor, k: Tensor) -> None:
        self.q, self.k = q, k


@dataclass(frozen=True)
class Layer:
    """What an attention may know of the layer that is being computed.

    Attributes:
        index: From 0.
        scaling: Factor of the scores, the module's own.
        softcap: Soft cap of the scores, or None.
        window: A key is visible while query position - key position < window; None sees everything.
        module: The attention module, for methods that need its projections.
    """

    index: int
    scaling: float
    softcap: float | None
    window: int | None
    module: nn.Module
    _forward: _Forward

    def factors(self, like: Tensor, positions: Tensor) -> Factors:
        """Rotary factors at `positions`; computed once a forward pass for the same tensor of positions."""
        key = (self.kind, id(positions))
        if key not in self._forward.memo:
            # The tensor is kept beside its factors: its id stays its own for as long as the memo lives.
            self._forward.memo[key] = (positions, self._forward.rotary.factors(like, positions, self.kind))
        return self._forward.memo[key][1]

    @property
    def hidden(self) -> Tensor:
        """What the module was called with, the output of the layer's input norm: (B, Lq, hidden size)."""
        args, kwargs = self._arguments
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        return hidden

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, H, L, D) and keys (B, Hkv, L, D) that this layer makes of another input (B, L, hidden size).

        The module runs with that input and is stopped where it would attend, so this holds for every module that the
        seam can be put on, whatever its projections and norms look like.
        """
        args, kwargs = self._arguments
        given = {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}
        neutral = given.get("position_embeddings")
        if neutral is not None:  # cos = 1, sin = 0: one position serves for all
            given["position_embeddings"] = tuple(factor[:1, :1] for factor in neutral)
        if not args:
            given["hidden_states"] = hidden
        self._forward.projecting = True
        try:
            self.module(*((hidden, *args[1:]) if args else ()), **given)
        except _Projected as found:
            return found.q, found.k
        finally:
            self._forward.projecting = False
        raise UnsupportedModel(f"{type(self.module).__name__} doesn't attend when it runs on its own")

    @property
    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        assert self._forward.arguments is not None  # the attention says that it needs them
        return self._forward.arguments

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """x of shape (B, H, L, D) rotated at positions of shape (L,), (B, L) or (B, H, L), integer or float."""
        return self._forward.rotary.apply(x, self.factors(x, positions))

    def rotate_by(self, x: Tensor, positions: Tensor, table: Tensor) -> Tensor:
        """Like `rotate`, at many different positions of one range: their factors are looked up, not computed.

        Args:
            x: (B, H, L, D).
            positions: Indices into `table`, (L,), (B, L) or (B, H, L).
            table: The range of positions, (P,); its factors are computed once a forward pass.
        """
        cos, sin = self.factors(x, table)
        return self._forward.rotary.apply(x, (cos[positions], sin[positions]))

    def rotate_new_keys(self, k: Tensor, positions: Tensor) -> None:
        """Rotates the last keys of k, in place and so in the cache; one position for each of them."""
        new = positions.shape[-1]
        k[:, :, -new:] = self.rotate(k[:, :, -new:], positions)

    @property
    def kind(self) -> str | None:
        """Which rotary base this layer has, where the model has several."""
        kinds = self._forward.layer_types
        # Models with one rotary base for all layers take no layer type.
        return kinds[self.index] if kinds is not None else None

    def phases(self, like: Tensor, n: int) -> tuple[Pairs, Tensor]:
        """How to move what is already rotated: pairs of dimensions, and turns by 0..n-1 positions, (n, D / 2)."""
        wide = like[:0] if like.dtype == torch.float64 else like[:0].float()
        table = self._forward.rotary.factors(wide, torch.arange(max(n, 2), device=like.device), self.kind)
        pairs = self._forward.rotary.pairs(like.shape[-1], table, like.device)
        return pairs, pairs.phases(table)[:n]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """`kernel.attend` with this layer's scaling and soft cap."""
        return attend(q, k, v, scaling=self.scaling, softcap=self.softcap, mask=mask, causal=causal)


class PlainAttention(Attention):
    """The model's own attention, computed through the seam. It exists to prove the seam on a model."""

    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention at plain positions, windows included."""
        n_query, n_key = q.shape[2], k.shape[2]
        pads = [self.batch.pad(layout) for layout in self.batch.rows(q.shape[0])]
        index = torch.arange(n_key, device=q.device)
        start = torch.tensor(pads, device=q.device)[:, None]
        positions = (index - start).clamp(min=0)  # (B, Lk)
        new = positions[:, n_key - n_query :]
        layer.rotate_new_keys(k, new)
        mask = causal_mask(n_query, n_key, q.device)[None]
        if layer.window is not None:
            mask = mask & (new[:, :, None] - positions[:, None, :] < layer.window)
        mask = mask & (index >= start)[:, None, :]
        # A padding query sees nothing; let it see itself, so that it stays finite. Nobody looks at it.
        mask = mask | (index[n_key - n_query :, None] == index[None, :])
        return layer.attend(layer.rotate(q, new), k, v, mask=mask[:, None])


_active: ContextVar[_Forward | None] = ContextVar("fairpos_forward", default=None)
_plain: dict[int, str] = {}  # id of an armed config -> the attention implementation that it had


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Registered with transformers: ours for a call of ours, else the model's own."""
    forward = _active.get()
    if forward is None:
        if scaling is not None:
            kwargs["scaling"] = scaling
        if sliding_window is not None:
            kwargs["sliding_window"] = sliding_window
        if softcap is not None:
            kwargs["softcap"] = softcap
        return _own_attention(module)(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    if forward.projecting:
        raise _Projected(query, key)
    layer = Layer(
        index=int(module.layer_idx),  # type: ignore[arg-type]
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        window=sliding_window,
        module=module,
        _forward=forward,
    )
    forward.layers_seen += 1
    out = forward.attention(layer, query, key, value)
    return out.transpose(1, 2).contiguous(), None


def _own_attention(module: nn.Module) -> Callable[..., Any]:
    name = _plain[id(module.config)]
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)  # type: ignore[no-any-return]


def _mask(**kwargs: Any) -> Any:
    """Registered with transformers: no mask for a call of ours (its attention knows), else the model's own."""
    if _active.get() is not None:
        return None
    return ALL_MASK_ATTENTION_FUNCTIONS[_plain[id(kwargs["config"])]](**kwargs)


# Both, always: an attention function without a mask function gets no mask at all, silently.
AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)


class Seam:
    """One model's seam. Thread-safe: calls may overlap, each with an attention of its own.

    Raises:
        UnsupportedModel: on the first call, where the model's attention can't be replaced exactly.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = weakref.ref(model)  # the registry of seams must not keep models alive
        self._verdict: tuple[Rotary, int | None] | str | None = None
        self._lock = threading.Lock()
        self._calls = 0
        self._undo: list[Callable[[], None]] = []
        self._rotary: Rotary | None = None
        self._limit: int | None = None

    @contextmanager
    def call(self, attention: Attention) -> Iterator[SegmentCache]:
        """Arms the model for one call; pass the cache to `model(...)` or `model.generate(...)`."""
        self.verify()
        if self._limit is not None and attention.batch.width > self._limit:
            raise UnsupportedModel(
                f"{type(self.model).__name__}: its rotary frequencies change beyond {self._limit} tokens, where "
                f"attention methods are not exact; got a prompt of {attention.batch.width}"
            )
        with self._armed():
            yield SegmentCache(attention)

    def verify(self) -> None:
        """Proves on a short prompt that the seam gives the unmodified model's logits; once a model."""
        if self._verdict is None:
            self._verdict = self._examine()
        if isinstance(self._verdict, str):
            raise UnsupportedModel(self._verdict)
        self._rotary, self._limit = self._verdict

    @property
    def model(self) -> PreTrainedModel:
        """The model that this seam belongs to."""
        model = self._model()
        assert model is not None  # whoever calls holds it
        return model

    def _examine(self) -> tuple[Rotary, int | None] | str:
        """The model's rotary embedding and the length to which it holds, or why the model is unsupported."""
        name, config = type(self.model).__name__, self.model.config
        if getattr(config, "is_encoder_decoder", False):
            return f"{name} is an encoder-decoder model; attention methods need a decoder-only one"
        try:
            rotary = Rotary.of(self.model)
        except UnsupportedModel as error:
            return str(error)
        if not getattr(self.model, "_supports_attention_backend", False):
            return f"{name} doesn't let its attention function be replaced (no attention backend in transformers)"
        self._rotary = rotary
        vocabulary = int(config.get_text_config().vocab_size)
        ids = torch.arange(3, 19, device=self.model.device)[None] * 7 % vocabulary
        layout = Layout(tuple(ids[0].tolist()), ())
        with torch.no_grad():
            plain = self.model(input_ids=ids, use_cache=False).logits.float()
            with self._armed():
                cache = SegmentCache(PlainAttention(Batch([layout])))
                try:
                    first = self.model(input_ids=ids[:, :12], **kept_in(cache), use_cache=True).logits.float()
                    rest = self.model(input_ids=ids[:, 12:], **kept_in(cache), use_cache=True).logits.float()
                except (RuntimeError, AttributeError, TypeError, KeyError) as error:
                    return f"{name}: its attention can't be computed through the seam ({error})"
        if not torch.isfinite(plain).all():
            raise NonFiniteLogits(f"{name} returned NaN or infinite logits for a short prompt; are its weights whole?")
        seam = torch.cat([first, rest], dim=1)
        difference = float((seam - plain).abs().max())
        scale = max(1.0, float(plain.abs().max()))
        # Half precision rounds at every layer; a wrong mask or rotation is off by far more than either bound.
        allowed = scale * (1e-3 if self.model.dtype in (torch.float32, torch.float64) else 0.1)
        if not difference <= allowed:
            return (
                f"{name}: recomputed through the seam, its logits differ by {difference:.2g} (allowed {allowed:.2g}); "
                "its attention has something that fairpos doesn't know"
            )
        return rotary, _rope_limit(config)

    @contextmanager
    def _armed(self) -> Iterator[None]:
        with self._lock:
            if self._calls == 0:
                self._arm()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    self._disarm()

    def _arm(self) -> None:
        base = decoder_of(self.model)
        rotary = self._rotary
        assert rotary is not None  # verify() found it
        layer_types = _layer_types(rotary, base)
        # All are read before one is written: a composite config writes its parts' as well.
        before = [(config, config._attn_implementation) for config in _configs(self.model)]
        for config, name in before:
            _plain[id(config)] = name
            self._undo.append(_restorer(config, name))
            config._attn_implementation = NAME
        stack = threading.local()

        def enter(_: nn.Module, __: object, kwargs: dict[str, Any]) -> None:
            cache = kwargs.get(CACHE)
            forward = None
            if isinstance(cache, SegmentCache):
                forward = _Forward(cache.attention, rotary, layer_types)
            if not hasattr(stack, "tokens"):
                stack.tokens = []
            stack.tokens.append(_active.set(forward))

        def leave(*_: object) -> None:
            _active.reset(stack.tokens.pop())

        def neutral(_: nn.Module, __: object, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
            if _active.get() is None:
                return None
            return torch.ones_like(output[0]), torch.zeros_like(output[1])

        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            forward = _active.get()
            if forward is not None and forward.attention.needs_hidden and not forward.projecting:
                forward.arguments = args, kwargs

        handles = [
            base.register_forward_pre_hook(enter, with_kwargs=True),
            base.register_forward_hook(leave, always_call=True),
            rotary.module.register_forward_hook(neutral),
            *(
                # The innermost module with a layer index is the attention; it is entered last.
                module.register_forward_pre_hook(keep, with_kwargs=True)
                for module in base.modules()
                if hasattr(module, "layer_idx")
            ),
        ]
        self._undo.extend(handle.remove for handle in handles)

    def _disarm(self) -> None:
        while self._undo:
            self._undo.pop()()


def seam_of(model: PreTrainedModel) -> Seam:
    """The model's seam; one for each model, however often it is wrapped."""
    with _seams_lock:
        if model not in _seams:
            _seams[model] = Seam(model)
        return _seams[model]


_seams_lock = threading.Lock()
_seams: WeakKeyDictionary[PreTrainedModel, Seam] = WeakKeyDictionary()


def _configs(model: PreTrainedModel) -> list[Any]:
    """Every config object that an attention module or the base model looks at, once each."""
    found = [module.config for module in model.modules() if hasattr(module, "config")]
    return list({id(config): config for config in found if hasattr(config, "_attn_implementation")}.values())


def _restorer(config: Any, name: str) -> Callable[[], None]:
    def restore() -> None:
        config._attn_implementation = name
        del _plain[id(config)]

    return restore


def _layer_types(rotary: Rotary, base: nn.Module) -> list[str] | None:
    """The rotary kind of each layer, for models whose rotary module asks for it (two bases, Gemma 3)."""
    if not isinstance(getattr(rotary.module, "rope_type", None), dict):
        return None
    return list(base.config.layer_types)  # type: ignore[union-attr, arg-type]


def _rope_limit(config: Any) -> int | None:
    """The length up to which rotary frequencies are constant; None where they always are."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters] if "rope_type" in parameters else [p for p in parameters.values() if isinstance(p, dict)]
    limits = [
        int(kind.get("original_max_position_embeddings") or config.max_position_embeddings)
        for kind in kinds
        if kind.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(limits, default=None)
