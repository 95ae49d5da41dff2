"""The seam: how a call puts its attention into a transformers model.

    with seam_of(model).call(MyAttention(batch)) as cache:
        model(ids, **kept_in(cache), use_cache=True)

State belongs to a call: it travels in the cache, `model.generate` works as its users know it, and when the last call
ends, hooks and config are as before (`hooks`). Before the first call it is proved that the seam computes what the model
computes (`proof`); a model where it can't is refused with the reason, never run as if.

Queries and keys reach an attention un-rotated. It rotates the new keys once, in place, at the base positions that its
method gives them (`Layer.rotate_new_keys`); the cache then keeps them so, and no later token rotates the past again.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

from fairpos.attention.compiled import as_written
from fairpos.attention.hooks import Hooks
from fairpos.attention.layer import Attention, SegmentCache
from fairpos.attention.proof import prove, refuse_other_layers
from fairpos.errors import UnsupportedModel


class Seam:
    """One model's seam. Thread-safe: calls may overlap, each with an attention of its own."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = weakref.ref(model)  # the registry of seams must not keep models alive
        self._verifying = threading.Lock()
        self._hooks: Hooks | None = None
        self._refusal: str | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The model that this seam belongs to."""
        model = self._model()
        assert model is not None  # whoever calls holds it
        return model

    @contextmanager
    def call(self, attention: Attention, method: str = "", new: int = 0) -> Iterator[SegmentCache]:
        """Arms the model for one call; pass the cache to `model(...)` or `model.generate(...)`.

        Args:
            attention: Of this call.
            method: Its name, where a family may be unable to serve it.
            new: How many tokens may be generated.

        Raises:
            UnsupportedModel: the model's attention can't be replaced exactly, or not for this prompt or method.
        """
        hooks, model = self.verify(), type(self.model).__name__
        limit = constant_length(self.model.config)
        if limit is not None and attention.batch.width + new > limit:
            raise UnsupportedModel(
                f"{model}: its rotary frequencies change beyond {limit} tokens, where "
                f"attention methods are not exact; got a prompt of {attention.batch.width} and up to {new} new ones"
            )
        if hooks.family.places is not None and attention.moves_keys:
            raise UnsupportedModel(
                f"{method or type(attention).__name__} places keys anew, and those of {model} have their places for "
                "good, from a learned vector. set_based, ape, graph_kv and all methods of input and output work there"
            )
        if method in hooks.family.limits:
            raise UnsupportedModel(f"{method} doesn't work on {model}: it {hooks.family.limits[method]}")
        with hooks.armed():
            yield hooks.new_cache(attention)

    def verify(self) -> Hooks:
        """Proves, once a model, that the seam gives the unmodified model's results.

        Returns:
            The hooks of the proved model.

        Raises:
            UnsupportedModel: it doesn't, with the reason; the same one each time.
            NonFiniteLogits: the model itself returns NaN.
        """
        with self._verifying:
            if self._hooks is None and self._refusal is None:
                self._prove_hooks()
        if self._hooks is None:
            raise UnsupportedModel(str(self._refusal))
        return self._hooks

    def _prove_hooks(self) -> None:
        with as_written(self.model):
            try:
                self._hooks = self._proved_hooks()
            except UnsupportedModel as error:
                self._refusal = str(error)

    def _proved_hooks(self) -> Hooks:
        if getattr(self.model.config, "is_encoder_decoder", False):
            raise UnsupportedModel(
                f"{type(self.model).__name__} is an encoder-decoder model; attention methods need a decoder-only one"
            )
        refuse_other_layers(self.model)
        hooks = Hooks(self.model)
        prove(hooks)
        return hooks

    def new_cache(self, attention: Attention) -> SegmentCache:
        """An empty cache for an attention, for a model that is armed already."""
        return self.verify().new_cache(attention)


def seam_of(model: PreTrainedModel) -> Seam:
    """The model's seam; one for each model, however often it is wrapped."""
    with _seams_lock:
        if model not in _seams:
            _seams[model] = Seam(model)
        return _seams[model]


_seams_lock = threading.Lock()
_seams: WeakKeyDictionary[PreTrainedModel, Seam] = WeakKeyDictionary()


def constant_length(config: Any) -> int | None:
    """The length up to which rotary frequencies are constant; None where they always are."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters] if "rope_type" in parameters else [p for p in parameters.values() if isinstance(p, dict)]
    limits = [
        int(kind.get("original_max_position_embeddings") or config.max_position_embeddings)
        for kind in kinds
        if kind.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(limits, default=None)
