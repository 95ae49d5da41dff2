"""The seam: hooks that make a transformers model call our attention instead of its own.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fairpos.attention.batch import Batch
from fairpos.attention.cache import CACHE, kept_in
from fairpos.attention.layer import Attention, ForwardPass, Layer, ProjectionsReached, SegmentCache
from fairpos.attention.plain import PlainAttention
from fairpos.attention.rope import Rotary, decoder_of
from fairpos.errors import NonFiniteLogits, UnsupportedModel
from fairpos.types import Layout

NAME = "fairpos"


_active: ContextVar[ForwardPass | None] = ContextVar("fairpos_forward", default=None)
_plain: dict[int, str] = {}  # id of an armed config -> the attention implementation that it had


def _attend_for_call(
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
        raise ProjectionsReached(query, key)
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


def _mask_for_call(**kwargs: Any) -> Any:
    """Registered with transformers: no mask for a call of ours (its attention knows), else the model's own."""
    if _active.get() is not None:
        return None
    return ALL_MASK_ATTENTION_FUNCTIONS[_plain[id(kwargs["config"])]](**kwargs)


# Both, always: an attention function without a mask function gets no mask at all, silently.
AttentionInterface.register(NAME, _attend_for_call)
AttentionMaskInterface.register(NAME, _mask_for_call)


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
        with self._while_armed():
            yield SegmentCache(attention)

    def verify(self) -> None:
        """Proves on a short prompt that the seam gives the unmodified model's logits; once a model."""
        if self._verdict is None:
            self._verdict = self._prove_or_say_why()
        if isinstance(self._verdict, str):
            raise UnsupportedModel(self._verdict)
        self._rotary, self._limit = self._verdict

    @property
    def model(self) -> PreTrainedModel:
        """The model that this seam belongs to."""
        model = self._model()
        assert model is not None  # whoever calls holds it
        return model

    def _prove_or_say_why(self) -> tuple[Rotary, int | None] | str:
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
            with self._while_armed():
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
        return rotary, _constant_length(config)

    @contextmanager
    def _while_armed(self) -> Iterator[None]:
        with self._lock:
            if self._calls == 0:
                self._put_hooks()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    self._remove_hooks()

    def _put_hooks(self) -> None:
        base = decoder_of(self.model)
        rotary = self._rotary
        assert rotary is not None  # verify() found it
        layer_types = _rotary_kinds(rotary, base)
        # All are read before one is written: a composite config writes its parts' as well.
        before = [(config, config._attn_implementation) for config in _attention_configs(self.model)]
        for config, name in before:
            _plain[id(config)] = name
            self._undo.append(_restore_of(config, name))
            config._attn_implementation = NAME
        stack = threading.local()

        def enter(_: nn.Module, __: object, kwargs: dict[str, Any]) -> None:
            cache = kwargs.get(CACHE)
            forward = None
            if isinstance(cache, SegmentCache):
                forward = ForwardPass(cache.attention, rotary, layer_types)
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

    def _remove_hooks(self) -> None:
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


def _attention_configs(model: PreTrainedModel) -> list[Any]:
    """Every config object that an attention module or the base model looks at, once each."""
    found = [module.config for module in model.modules() if hasattr(module, "config")]
    return list({id(config): config for config in found if hasattr(config, "_attn_implementation")}.values())


def _restore_of(config: Any, name: str) -> Callable[[], None]:
    def restore() -> None:
        config._attn_implementation = name
        del _plain[id(config)]

    return restore


def _rotary_kinds(rotary: Rotary, base: nn.Module) -> list[str] | None:
    """The rotary kind of each layer, for models whose rotary module asks for it (two bases, Gemma 3)."""
    if not isinstance(getattr(rotary.module, "rope_type", None), dict):
        return None
    return list(base.config.layer_types)  # type: ignore[union-attr, arg-type]


def _constant_length(config: Any) -> int | None:
    """The length up to which rotary frequencies are constant; None where they always are."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters] if "rope_type" in parameters else [p for p in parameters.values() if isinstance(p, dict)]
    limits = [
        int(kind.get("original_max_position_embeddings") or config.max_position_embeddings)
        for kind in kinds
        if kind.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(limits, default=None)
