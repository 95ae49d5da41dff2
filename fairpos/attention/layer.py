"""What an author of an attention works with: `Attention`, the `Layer` that it is called for, and the call's cache.

    class MyAttention(Attention):
        def __call__(self, layer, q, k, v):     # once a layer, queries and keys before rotation
            layer.rotate_new_keys(k, positions)  # in place, and so in the cache, once for good
            return layer.attend(layer.rotate(q, positions), k, v, mask=...)

    with seam_of(model).call(MyAttention(batch)) as cache:
        model(ids, **kept_in(cache), use_cache=True)

Shapes here and in all attentions: B rows, H query heads, Hkv key/value heads, Lq new tokens, Lk all tokens so far,
D size of a head. How a model is made to call an attention so is `seam`'s business alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel

from fairpos.attention.batch import Batch
from fairpos.attention.cache import GrowingLayer
from fairpos.attention.families.base import Factors, Family
from fairpos.attention.kernel import attend, softmax
from fairpos.attention.rope import Pairs, Rotary, RotatedPart
from fairpos.attention.window import Window
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout


class KeptSegments(Protocol):
    """Keeps what was read of segments; see `store`."""

    def fill(self, model: PreTrainedModel, cache: SegmentCache, layout: Layout) -> None:
        """Puts prefix and segments of a canonical prompt into an empty cache."""


class Attention(ABC):
    """The attention of one call over a batch of prompts, for every layer and every step.

    Called once a layer with queries and keys before rotation; `k` holds the cached keys (rotated as this attention left
    them) followed by one new key per query.
    """

    # Whether keys or queries are rotated otherwise than where `places` puts their tokens: not for learned positions.
    moves_keys = True
    # Whether `Layer.hidden` and `Layer.project` are used.
    needs_hidden = False
    # Whether segments are computed at once or piece by piece, where an attention can do both (`segments`); None: piece
    # by piece on a CPU alone.
    at_once: bool | None = None

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @property
    def extent(self) -> int:
        """One more than the largest position in the prompts."""
        return max(len(layout) for layout in self.batch.layouts)

    @property
    def orders(self) -> list[tuple[str, ...]]:
        """Segment ids in the order in which each row sees them: that of its prompt, unless overridden."""
        return [layout.ids for layout in self.batch.layouts]

    def places(self, rows: int, n_key: int, past: int, device: torch.device) -> Tensor:
        """Where new tokens stand, (rows, n_key - past), for models that add a vector for it to each token.

        Args:
            rows: Of the forward pass.
            n_key: Tokens with the new ones, padding included.
            past: Tokens from earlier passes.
            device: Of the result.
        """
        raise NotImplementedError(f"{type(self).__name__} needs rotated keys")

    def begin(self, model: PreTrainedModel, cache: SegmentCache, store: KeptSegments | None = None) -> None:
        """Reads what all rows of the call have in common, once, before they run: what a store keeps, unless overridden.

        Args:
            model: Armed for the call.
            cache: Of the call, empty.
            store: Serves the call's one prompt; None: nothing does.
        """
        if store is not None:
            store.fill(model, cache, self.batch.layouts[0])

    def alike(self) -> Hashable | None:
        """What prompts that were read alone must have in common for one call to attend their later tokens.

        None: each is attended by itself. Else `joined` says how; everything that the shape of a computation follows
        from is in here or in the width of the rows.
        """
        return None

    def joined(self, others: Sequence[Attention], width: int) -> Attention:
        """The attention of later tokens of several prompts, of which this one was read alone, and each of the others.

        Args:
            others: `alike` to this one.
            width: Of the rows, padded on the left; at least that of each prompt.
        """
        raise NotImplementedError(f"{type(self).__name__} attends each prompt by itself")

    @abstractmethod
    def __call__(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, H, Lq, D), k and v (B, Hkv, Lk, D), the last Lq of them new. Returns (B, H, Lq, D)."""


class SegmentCache(DynamicCache):  # type: ignore[misc]
    """A cache that keeps every token (no sliding layers) and carries the attention of its call.

    Args:
        attention: The call's.
        layer: What keeps a layer's keys and values, where the model's family needs another one.
    """

    def __init__(self, attention: Attention, layer: type[GrowingLayer] = GrowingLayer) -> None:
        super().__init__()
        self.layer_class_to_replicate = layer
        self.attention = attention

    def append(self, keys: Tensor, values: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Puts keys (B, Hkv, L, D) and values behind those of a layer; returns all that it has."""
        while len(self.layers) <= index:
            self.layers.append(self.layer_class_to_replicate())
        held: GrowingLayer = self.layers[index]
        return held.append(keys, values)


@dataclass
class ForwardPass:
    """One forward pass of one call.

    Attributes:
        cache: Of the call, with its attention.
        rotary: The model's.
        family: The model's.
        rows: Prompts in this pass, each as often as there are texts of it.
        masks: How many masks the model has asked for in this pass.
        arguments: Of the attention module that is running, where the attention needs its input.
        projecting: Whether that module runs for its projections alone.
    """

    cache: SegmentCache
    rotary: Rotary
    family: Family
    rows: int
    masks: int = 0
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    projecting: bool = False
    memo: dict[tuple[str | None, int], tuple[Tensor, Factors]] = field(default_factory=dict)


class ProjectionsReached(Exception):
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
        window: How far it sees, in positions; None sees everything before it.
        module: The attention module, for methods that need its projections.
        sinks: One more score a head, (H,), that takes its share of the softmax (gpt-oss); or None.
        keys_of: The layer whose keys and values this is: its own index, but where layers share them (Gemma 3n).
    """

    index: int
    scaling: float
    softcap: float | None
    window: Window | None
    module: nn.Module
    sinks: Tensor | None
    keys_of: int
    _forward: ForwardPass

    @property
    def owns_keys(self) -> bool:
        """Whether the keys are this layer's own; others have been rotated by theirs already."""
        return self.keys_of == self.index

    @property
    def part(self) -> RotatedPart:
        """The channels of a head that rotate."""
        return self._forward.rotary.parts[self.index]

    @property
    def turning(self) -> tuple[str | None, RotatedPart]:
        """Equal for layers whose keys turn alike: what turns may be kept under."""
        return self.kind, self.part

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
        given = {name: _for_projection(value) for name, value in kwargs.items()}
        # Factors are those of no rotation: one position serves for all.
        neutral = given.get("position_embeddings")
        if neutral is not None:
            one = neutral[:1, :1] if isinstance(neutral, Tensor) else tuple(factor[:1, :1] for factor in neutral)
            given["position_embeddings"] = one
        if given.get("position_ids") is not None:
            given["position_ids"] = torch.zeros_like(given["position_ids"][:1, :1])
        if not args:
            given["hidden_states"] = hidden
        self._forward.projecting = True
        try:
            self.module(*((hidden, *args[1:]) if args else ()), **given)
        except ProjectionsReached as found:
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
        part = self.part
        return x if part.still else self._forward.rotary.apply(x, self.factors(x, positions), part)

    def tempered(self, q: Tensor, positions: Tensor) -> Tensor:
        """New queries (B, H, L, D) with the factors of their base positions (B or 1, L), in models that have such."""
        temperature = self._forward.family.temperature
        return q if temperature is None else temperature.at_positions(self.module, q, positions)

    def rotate_by(self, x: Tensor, positions: Tensor, table: Tensor) -> Tensor:
        """Like `rotate`, at many different positions of one range: their factors are looked up, not computed.

        Args:
            x: (B, H, L, D).
            positions: Indices into `table`, (L,), (B, L) or (B, H, L).
            table: The range of positions, (P,); its factors are computed once a forward pass.
        """
        part = self.part
        if part.still:
            return x
        cos, sin = self.factors(x, table)
        return self._forward.rotary.apply(x, (cos[positions], sin[positions]), part)

    def rotate_new_keys(self, k: Tensor, positions: Tensor) -> None:
        """Rotates the last keys of k, in place and so in the cache; one position for each of them.

        Does nothing where the keys are another layer's, which has done it.
        """
        if not self.owns_keys or self.part.still:
            return
        new = positions.shape[-1]
        k[:, :, -new:] = self.rotate(k[:, :, -new:], positions)

    @property
    def kind(self) -> str | None:
        """Which rotary base this layer has, where the model has several."""
        kinds = self._forward.family.kinds
        # Models with one rotary base for all layers take no layer type.
        return kinds[self.index] if kinds is not None else None

    def phases(self, like: Tensor, n: int) -> tuple[Pairs, Tensor]:
        """How to move what is already rotated: pairs of dimensions, and turns by 0..n-1 positions, (n, D / 2)."""
        wide = like[:0] if like.dtype == torch.float64 else like[:0].float()
        table = self._forward.rotary.factors(wide, torch.arange(max(n, 2), device=like.device), self.kind)
        if self.part.still:
            pairs = Pairs.none(like.shape[-1], like.device)
        else:
            pairs = self._forward.rotary.known_pairs(like.shape[-1], table, self.kind, self.part)
        return pairs, pairs.phases(table)[:n]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """`kernel.attend` with this layer's scaling, soft cap and sinks."""
        return attend(q, k, v, scaling=self.scaling, softcap=self.softcap, mask=mask, causal=causal, sinks=self.sinks)

    def softmax(self, scores: Tensor) -> Tensor:
        """`kernel.softmax` of scores (..., H, L, Lk) with this layer's sinks."""
        return softmax(scores, self.sinks)


def _for_projection(value: Any) -> Any:
    """An attention module's argument, such that running the module again leaves nothing behind."""
    if isinstance(value, Cache):
        return None
    return copy(value) if isinstance(value, MutableMapping) else value  # where layers put keys for others
