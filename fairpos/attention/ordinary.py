"""What the attentions that know no segments share: tokens in their own order, each seeing all before it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.kernel import causal_mask
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.window import Window
from fairpos.errors import InvalidLayout


@dataclass(frozen=True)
class Moment:
    """Where tokens stand in one forward pass; the same tensors for all its layers.

    Attributes:
        shape: Rows, keys, keys from earlier passes.
        positions: Of all keys, (B, Lk), or (1, Lk) without padding; -1 for padding.
    """

    shape: tuple[int, int, int]
    positions: Tensor
    _since: dict[int, Tensor] = field(default_factory=dict)
    _masks: dict[Window | None, Tensor] = field(default_factory=dict)

    def since(self, first: int) -> Tensor:
        """Positions of the keys from number `first` on, (B or 1, Lk - first); padding at 0."""
        if first not in self._since:
            self._since[first] = self.positions[:, first:].clamp(min=0)
        return self._since[first]

    @property
    def new(self) -> Tensor:
        """Positions of the new tokens, (B or 1, Lq); padding at 0."""
        return self.since(self.shape[2])

    def mask(self, window: Window | None) -> Tensor:
        """(B or 1, 1, Lq, Lk), True where visible: causal, no padding, in the window. Made once a forward pass."""
        if window not in self._masks:
            n_query, n_key = self.new.shape[1], self.positions.shape[1]
            seen = causal_mask(n_query, n_key, self.new.device)
            if window is not None and window.chunked:
                at = self.positions.clamp(min=0)
                seen = seen & window.near(self.new[:, :, None], at[:, None, :])
            elif window is not None:
                seen = seen & ~causal_mask(n_query, n_key, self.new.device).tril(n_key - n_query - window.size)
            seen = seen & (self.positions >= 0)[:, None, :]  # (B or 1, Lq, Lk)
            # A padding query sees nothing; let it see itself, so that it stays finite. Nobody looks at it.
            itself = torch.eye(n_query, n_key, dtype=torch.bool, device=self.new.device)
            self._masks[window] = (seen | itself.roll(n_key - n_query, dims=1))[:, None]
        return self._masks[window]


class OrdinaryAttention(Attention):
    """Base of attentions over tokens at their ordinary positions, left padding taken care of."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.padded = any(batch.pad(layout) for layout in batch.layouts)
        self._moment: Moment | None = None

    def at(self, q: Tensor, k: Tensor) -> Moment:
        """Positions in this forward pass."""
        return self._moment_of((q.shape[0], k.shape[2], k.shape[2] - q.shape[2]), q.device)

    def places(self, rows: int, n_key: int, past: int, device: torch.device) -> Tensor:
        """Ordinary positions."""
        return self._moment_of((rows, n_key, past), device).new.expand(rows, -1)

    def _moment_of(self, shape: tuple[int, int, int], device: torch.device) -> Moment:
        if self._moment is None or self._moment.shape != shape:
            positions = torch.arange(shape[1], device=device)[None]
            if self.padded:
                pads = [self.batch.pad(layout) for layout in self.batch.rows(shape[0])]
                positions = (positions - torch.tensor(pads, device=device)[:, None]).clamp(min=-1)
            self._moment = Moment(shape, positions)
        return self._moment

    def prefilling(self, q: Tensor, k: Tensor, name: str) -> bool:
        """Whether these queries are the prompts' own; for attentions that need a prompt in one piece.

        Raises:
            InvalidLayout: they are a part of the prompts.
        """
        past = k.shape[2] - q.shape[2]
        if past >= self.batch.width:
            return False
        if past or k.shape[2] != self.batch.width:
            raise InvalidLayout(
                f"{name} needs a prompt in one forward pass, since it looks at its last token first; got tokens "
                f"{past} to {k.shape[2]} of {self.batch.width} (prefill_chunk_size?)"
            )
        return True

    def plain(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The model's own attention; rotates the new keys in place."""
        moment = self.at(q, k)
        layer.rotate_new_keys(k, moment.new)
        q = layer.tempered(q, moment.new)
        return self.see(layer, layer.rotate(q, moment.new), k, v, window=layer.window)

    def see(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor, *, window: Window | None = None) -> Tensor:
        """Attention of rotated queries, the last of this pass's, to the first Lk of the rotated keys: (B, H, Lq, D).

        The last query is at the last key; `window` counts in ordinary positions.
        """
        assert self._moment is not None
        n_query, n_key = q.shape[2], k.shape[2]
        window = window if window is not None and n_key > window.size else None
        if not self.padded and window is None:
            return layer.attend(q, k, v, causal=True)
        last = n_key - self._moment.shape[2]  # of this pass's queries
        return layer.attend(q, k, v, mask=self._moment.mask(window)[:, :, last - n_query : last, :n_key])
