"""The hooks that make a transformers model call our attention instead of its own, and take themselves out again.

While a call of ours is in flight, the model is ARMED: its rotary embedding can be made neutral (cos = 1, sin = 0), and
its attention and mask functions are ours. Which attention a forward pass uses is decided by its cache: a `SegmentCache`
carries the attention of its call, and only for the time of that forward pass is it in force. A forward pass with any
other cache, from another thread or from the middle of another generation, runs the model's own code.

    outer model     before and after a forward pass: is its cache one of ours?
    rotary module   its output replaced by that of no rotation
    table of places its vectors taken at the places that the attention gives tokens
    attentions      their arguments kept, where a method asks for them
    configs         the attention implementation is ours; models may share a config, so holders are counted

What reaches the attention function must be known: an argument or a mask that nobody here understands is refused, never
dropped. What is special to a family of models stands in `families`.
"""

from __future__ import annotations

import inspect
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fairpos.attention.cache import CACHE
from fairpos.attention.compiled import as_written
from fairpos.attention.families.base import Family
from fairpos.attention.families.find import attention_modules, decoder_of, family_of
from fairpos.attention.layer import Attention, ForwardPass, Layer, ProjectionsReached, SegmentCache
from fairpos.attention.rope import Rotary
from fairpos.attention.window import Window
from fairpos.errors import UnsupportedModel

NAME = "fairpos"

# Arguments of an attention function that change nothing in what is computed here.
_WITHOUT_EFFECT = re.compile(
    r"dropout|position_ids|position_embeddings|use_cache|is_causal|layer_type|logits_to_keep|(output|return)_\w+"
)


class _ActivePass(threading.local):
    """The forward pass that runs in this thread, innermost last; a context variable would end torch.compile's graph."""

    def __init__(self) -> None:  # called in each thread
        self.forward: ForwardPass | None = None
        self.outer: list[ForwardPass | None] = []


_active = _ActivePass()


@dataclass
class _ArmedConfig:
    """A config object in force; models may share one, and their calls may overlap."""

    config: Any  # kept alive, so that its id stays its own
    plain: str  # the attention implementation that it had
    holders: int = 0


_armed: dict[int, _ArmedConfig] = {}  # by id of the config
_armed_lock = threading.Lock()


def _attend_for_call(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | Window | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Registered with transformers: ours for a call of ours, else the model's own."""
    forward = _active.forward
    if forward is None:
        given = {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap, "s_aux": s_aux}
        kwargs |= {name: value for name, value in given.items() if value is not None}
        return _own_attention(module)(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    if forward.projecting:
        raise ProjectionsReached(query, key)
    _refuse_unknown(module, kwargs)
    index, family = int(module.layer_idx), forward.family  # type: ignore[arg-type]
    if family.cache_layer.filled_by_seam:
        key, value = forward.cache.append(key, value, index)
    if family.temperature is not None:
        query = family.temperature.without_padding(module, query, key.shape[2], forward.cache.attention.batch)
    layer = Layer(
        index=index,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        window=_window_of(module, forward, attention_mask, sliding_window),
        module=module,
        sinks=s_aux,
        keys_of=family.key_sources.get(index, index),
        _forward=forward,
    )
    out = forward.cache.attention(layer, query, key, value)  # (B, H, Lq, Dv)
    return out.transpose(1, 2).contiguous(), None


def _refuse_unknown(module: nn.Module, kwargs: dict[str, Any]) -> None:
    """An argument that isn't known may change what the model computes."""
    for name, value in kwargs.items():
        if value is not None and not _WITHOUT_EFFECT.fullmatch(name):
            raise UnsupportedModel(
                f"{type(module).__name__} gives its attention an argument that fairpos doesn't know: {name}"
            )


def _window_of(
    module: nn.Module, forward: ForwardPass, mask: Tensor | Window | None, sliding_window: int | None
) -> Window | None:
    """What the mask says, which is what the model itself goes by; its argument only where it made no mask."""
    if isinstance(mask, Tensor):
        raise UnsupportedModel(
            f"{type(module).__name__} makes an attention mask of its own, of shape {tuple(mask.shape)}, "
            "which an attention method would have to drop"
        )
    if forward.masks:
        return mask
    return None if sliding_window is None else Window(int(sliding_window))


def _own_attention(module: nn.Module) -> Callable[..., Any]:
    name = _plain_name(module.config)
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)  # type: ignore[no-any-return]


def _plain_name(config: Any) -> str:
    """The attention implementation that a config has without us; another thread's call may be ending just now."""
    with _armed_lock:
        held = _armed.get(id(config))
        return str(config._attn_implementation if held is None else held.plain)


def _mask_for_call(**kwargs: Any) -> Any:
    """Registered with transformers: for a call of ours the window alone (its attention knows), else the model's own."""
    forward, config = _active.forward, kwargs["config"]
    if forward is None:
        return ALL_MASK_ATTENTION_FUNCTIONS[_plain_name(config)](**kwargs)
    forward.masks += 1
    if kwargs.get("use_vmap") or not kwargs.get("allow_is_causal_skip", True):
        raise UnsupportedModel(
            f"a model with {type(config).__name__} adds something to its causal mask, which an attention method would "
            "have to drop"
        )
    size = kwargs.get("local_size")
    if size is None:
        return None
    chunked = size == getattr(config, "attention_chunk_size", None) and size != getattr(config, "sliding_window", None)
    return Window(int(size), chunked)


# Both, always: an attention function without a mask function gets no mask at all, silently.
AttentionInterface.register(NAME, _attend_for_call)
AttentionMaskInterface.register(NAME, _mask_for_call)


class Hooks:
    """One model's hooks. Thread-safe: calls may overlap, each with an attention of its own.

    Attributes:
        family: What is special to the model.
        rotary: Its rotation.
        cos: What stands for "not rotated"; -1, half a turn, only while the seam is proved.

    Raises:
        UnsupportedModel: the model has no rotary embedding, or one that isn't known.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = weakref.ref(model)  # the registry of seams must not keep models alive
        self.family: Family = family_of(model)
        self.rotary = Rotary(self.family.rotation)
        self.cos = 1.0
        self._lock = threading.Lock()
        self._calls = 0
        self._undo: list[Callable[[], None]] = []

    @property
    def model(self) -> PreTrainedModel:
        """The model that they belong to."""
        model = self._model()
        assert model is not None  # whoever calls holds it
        return model

    def new_cache(self, attention: Attention) -> SegmentCache:
        """An empty cache for an attention on this model."""
        return SegmentCache(attention, self.family.cache_layer)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Hooks and config are in place inside; calls may overlap."""
        with self._lock:
            if self._calls == 0:
                self._put_hooks()
            self._calls += 1
        try:
            with as_written(self.model):
                yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    self._remove_hooks()

    def _put_hooks(self) -> None:
        decoder, outer = decoder_of(self.model), self.model.base_model
        rotary, family = self.rotary, self.family
        configs = _attention_configs(self.model)
        self._undo.append(_hold_configs(configs))

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            cache, forward = kwargs.get(CACHE), _active.forward
            if module is not outer and CACHE not in kwargs:
                pass  # a decoder inside of the pass that runs
            elif not isinstance(cache, SegmentCache):
                forward = None
            elif forward is None or forward.cache is not cache:
                _refuse_changed(configs)
                forward = ForwardPass(cache, rotary, family, rows=len(_number_a_token(args, kwargs)))
            _active.outer.append(_active.forward)
            _active.forward = forward
            return None if forward is None or family.places is None else (args, _without_places(module, args, kwargs))

        def leave(*_: object) -> None:
            # Another thread's pass may have begun before these hooks were there.
            if _active.outer:
                _active.forward = _active.outer.pop()

        def neutral(_: nn.Module, __: object, output: Any) -> Any:
            return None if _active.forward is None else family.rotation.constant(output, self.cos)

        handles = [
            # Most models call their base model; some of them (OPT) the decoder inside of it.
            *(module.register_forward_pre_hook(enter, with_kwargs=True) for module in {outer, decoder}),
            *(module.register_forward_hook(leave, always_call=True) for module in {outer, decoder}),
            *(module.register_forward_hook(neutral) for module in family.rotation.modules),
            *([] if family.places is None else [family.places.table.register_forward_hook(_place_tokens)]),
            *(
                module.register_forward_pre_hook(_keep_arguments, with_kwargs=True)
                for module in attention_modules(decoder).values()
            ),
        ]
        if family.key_sources and "logits_to_keep" in inspect.signature(decoder.forward).parameters:
            handles.append(decoder.register_forward_pre_hook(_keep_all_tokens, with_kwargs=True))
        self._undo.extend(handle.remove for handle in handles)

    def _remove_hooks(self) -> None:
        while self._undo:
            self._undo.pop()()


def _without_places(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A model's arguments with all places 0: it would look its own ones up first, and may have fewer than that."""
    if "position_ids" not in inspect.signature(module.forward).parameters:
        return kwargs
    return kwargs | {"position_ids": torch.zeros_like(_number_a_token(args, kwargs), dtype=torch.long)}


def _number_a_token(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A number for each token that a model is given, (B, L): its id, or the first of its embedding."""
    ids: Tensor | None = kwargs.get("input_ids", args[0] if args else None)
    embedded: Tensor = kwargs["inputs_embeds"] if ids is None else ids
    return embedded[..., 0] if ids is None else ids


def _place_tokens(_: nn.Module, __: object, output: Tensor) -> Tensor | None:
    """Instead of a table's vectors (1 or B, L, hidden size): those of the places that the attention gives tokens."""
    forward = _active.forward
    if forward is None or forward.family.places is None:
        return None
    past, new = forward.cache.get_seq_length(), output.shape[-2]
    where = forward.cache.attention.places(forward.rows, past + new, past, output.device)
    return forward.family.places.at(where).to(output.dtype)


def _keep_arguments(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An attention module's arguments: without factors of place, and kept where the call's attention looks at them."""
    forward = _active.forward
    if forward is None:
        return None
    if forward.family.temperature is not None:
        kwargs = forward.family.temperature.neutral_arguments(kwargs)
    if forward.cache.attention.needs_hidden and not forward.projecting:
        forward.arguments = args, kwargs
    return args, kwargs


def _keep_all_tokens(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A decoder's arguments: layers without keys of their own would get the last token alone, and cut a mask for it."""
    return None if _active.forward is None else (args, kwargs | {"logits_to_keep": None})


def _attention_configs(model: PreTrainedModel) -> list[Any]:
    """Every config object that an attention module or the base model looks at, once each."""
    found = [module.config for module in model.modules() if hasattr(module, "config")]
    return list({id(config): config for config in found if hasattr(config, "_attn_implementation")}.values())


def _refuse_changed(configs: list[Any]) -> None:
    """While a call runs, whoever sets another attention implementation takes ours out."""
    for config in configs:
        if config._attn_implementation != NAME:
            raise UnsupportedModel(
                f"the model's attention implementation was set to {config._attn_implementation!r} in the middle of a "
                "call with an attention method; set it before or after"
            )


def _hold_configs(configs: list[Any]) -> Callable[[], None]:
    """Puts our attention into configs; returns what takes it out again, once nobody else holds them."""
    with _armed_lock:
        # All are read before one is written: a composite config writes its parts' as well.
        for config in configs:
            _armed.setdefault(id(config), _ArmedConfig(config, config._attn_implementation)).holders += 1
        for config in configs:
            if config._attn_implementation != NAME:
                config._attn_implementation = NAME

    def release() -> None:
        with _armed_lock:
            for config in configs:
                held = _armed[id(config)]
                held.holders -= 1
                if not held.holders:
                    del _armed[id(config)]
                    if config._attn_implementation == NAME:  # else its user has chosen another meanwhile
                        config._attn_implementation = held.plain
            for config in configs:  # a composite config has written its parts', which others may hold
                if id(config) in _armed:
                    config._attn_implementation = NAME

    return release
