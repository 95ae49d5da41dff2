"""The model's own rotary embedding, at whatever positions a method wants.

Both halves are taken from the model (`families`): its rotary module makes the factors (so llama3, YaRN, two bases come
out as the model has them), its own function applies them (half-split or interleaved). Which channels of a head rotate
in a layer, all, some or none, is learned from the model while the seam is proved (`proof`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fairpos.attention.families.base import Factors, Rotation
from fairpos.errors import UnsupportedModel


@dataclass(frozen=True)
class RotatedPart:
    """The channels of a head that rotate in a layer.

    Attributes:
        start, stop: The first one, and the one behind the last; the same if none rotates.
        whole: The model's function is given the whole head, and cuts it by itself where only a part rotates.
    """

    start: int
    stop: int
    whole: bool

    @property
    def still(self) -> bool:
        """Whether no channel rotates."""
        return self.start == self.stop


@dataclass(frozen=True)
class Pairs:
    """Which dimensions of a head a rotary embedding turns together, each pair as one complex number.

    Attributes:
        order: Head dimensions pair by pair, dimensions that are not rotated last, (D,).
        inverse: Undoes `order`, (D,).
        columns: Column of the rotary factors for each rotated pair, (at most D / 2,).
    """

    order: Tensor
    inverse: Tensor
    columns: Tensor

    @classmethod
    def none(cls, dim: int, device: torch.device) -> Pairs:
        """Of a head that doesn't rotate: all its pairs stay."""
        order = torch.arange(dim, device=device)
        return cls(order, order, order[:0])

    def of(self, x: Tensor) -> Tensor:
        """x of shape (..., D) as complex numbers, (..., D / 2), in float32 or better."""
        x = x if x.dtype == torch.float64 else x.float()
        return torch.view_as_complex(self.pairwise(x).view(*x.shape[:-1], -1, 2))

    def pairwise(self, x: Tensor) -> Tensor:
        """x of shape (..., D) with its dimensions pair by pair."""
        return _pick_dimensions(x, self.order)

    def headwise(self, x: Tensor) -> Tensor:
        """x of shape (..., D), pair by pair, with its dimensions as the model has them."""
        return _pick_dimensions(x, self.inverse)

    def phases(self, factors: Factors) -> Tensor:
        """Factors (P, R) at positions 0, 1, ... as turns from position 0, (P, D / 2) complex."""
        cos, sin = (f[:, self.columns] for f in factors)
        # Some scalings (YaRN) lengthen vectors too; a turn doesn't.
        turns = torch.complex(cos / cos[:1], sin / cos[:1])
        still = turns.new_ones(len(turns), len(self.order) // 2 - len(self.columns))
        return torch.cat([turns, still], dim=-1)


def _pick_dimensions(x: Tensor, dimensions: Tensor) -> Tensor:
    """`x[..., dimensions]`, which takes nine times as long."""
    return x.reshape(-1, x.shape[-1]).index_select(1, dimensions).view(x.shape)


class Rotary:
    """Rotates queries or keys of one model.

    Attributes:
        parts: By layer, the channels that rotate.
    """

    def __init__(self, rotation: Rotation) -> None:
        self.rotation = rotation
        self.parts: dict[int, RotatedPart] = {}
        self._pairs: dict[tuple[object, ...], Pairs] = {}

    def learn_part(self, index: int, start: int, stop: int, dim: int, factors: Factors) -> None:
        """Which of a layer's `dim` channels rotate; asks the model's function whether it cuts heads by itself.

        Args:
            index: Of the layer.
            start: The first channel.
            stop: The one behind the last.
            dim: Size of a head.
            factors: The layer's, (1, 1, R) each, at any position.
        """
        whole = (start, stop) == (0, dim)
        if start == 0 and 0 < stop < dim:
            cos, sin = factors
            head = torch.ones(1, 1, 1, dim, dtype=cos.dtype, device=cos.device)
            expected = head.clone()
            expected[..., :stop] = -1  # half a turn
            try:
                whole = torch.equal(self.rotation.apply(head, -torch.ones_like(cos), torch.zeros_like(sin)), expected)
            except RuntimeError:  # as many channels as factors are asked for: the module cuts the head (Phi)
                whole = False
        self.parts[index] = RotatedPart(start, stop, whole)

    def factors(self, like: Tensor, positions: Tensor, kind: str | None) -> Factors:
        """cos and sin at `positions` (any shape, integer or float): each of shape (*positions.shape, R)."""
        cos, sin = self.rotation.factors(like, positions.reshape(1, -1), kind)
        return cos.reshape(*positions.shape, -1), sin.reshape(*positions.shape, -1)

    def apply(self, x: Tensor, factors: Factors, part: RotatedPart) -> Tensor:
        """Rotates x of shape (B, H, L, D) by factors of shape (L, R), (B, L, R) or (B, H, L, R)."""
        cos, sin = factors
        if cos.dim() == 4:  # a position per head: heads become batch rows, since the model's function knows no heads
            b, h, n, d = x.shape
            cos, sin = (f.expand(b, h, n, f.shape[-1]).reshape(b * h, n, -1) for f in (cos, sin))
            return self.apply(x.reshape(b * h, 1, n, d), (cos, sin), part).reshape(b, h, n, d)
        if cos.dim() == 2:
            cos, sin = cos[None], sin[None]
        if part.whole:
            return self.rotation.apply(x, cos, sin)
        turned = self.rotation.apply(x[..., part.start : part.stop], cos, sin)
        return torch.cat([x[..., : part.start], turned, x[..., part.stop :]], dim=-1)

    def known_pairs(self, dim: int, factors: Factors, kind: str | None, part: RotatedPart) -> Pairs:
        """`pairs` on the device of the factors; found once for all calls.

        Args:
            dim: See `pairs`.
            factors: See `pairs`.
            kind: Of the layer, whose factors they are.
            part: See `pairs`.
        """
        device = factors[0].device
        key = dim, kind, part, device
        if key not in self._pairs:
            self._pairs[key] = self.pairs(dim, factors, device, part)
        return self._pairs[key]

    def pairs(self, dim: int, factors: Factors, device: torch.device, part: RotatedPart) -> Pairs:
        """Finds the pairs by rotating every unit vector, and proves them on random vectors.

        Args:
            dim: Size of a head.
            factors: The model's own, (P, R), at positions from 0; at least two.
            device: Where the pairs shall be.
            part: The channels that rotate; some do.

        Raises:
            UnsupportedModel: the model's function doesn't turn pairs of dimensions.
        """
        width = factors[0].shape[-1]
        unit = torch.eye(dim, dtype=torch.float64)[None, None]
        # With cos = 0 a pair (m, n) turns by a right angle: m to n, n to -m; sin tells the column that was used.
        sin = torch.arange(1.0, width + 1, dtype=torch.float64).expand(dim, width)
        turned = self.apply(unit, (torch.zeros_like(sin), sin), part)[0, 0]
        still = [m for m in range(dim) if turned[m, m] != 0]
        first = [m for m in range(dim) if turned[m].max() > 0 and m not in still]
        second = [int(turned[m].argmax()) for m in first]
        order = [m for pair in zip(first, second, strict=True) for m in pair] + still
        if sorted(order) != list(range(dim)) or len(still) % 2:
            raise UnsupportedModel("the rotary embedding doesn't turn pairs of dimensions, as far as fairpos can see")
        columns = [round(float(turned[m, n])) - 1 for m, n in zip(first, second, strict=True)]
        found = Pairs(
            order=torch.tensor(order, device=device),
            inverse=torch.tensor(order, device=device).argsort(),
            columns=torch.tensor(columns, device=device),
        )
        x = torch.sin(torch.arange(1.0, dim + 1, device=device, dtype=factors[0].dtype)).expand(1, 1, 1, dim)
        start, end = (self.apply(x, (factors[0][[i]], factors[1][[i]]), part) for i in (0, -1))
        moved = torch.view_as_real(found.of(start) * found.phases(factors)[-1]).flatten(-2)[..., found.inverse]
        if not torch.allclose(moved, end.to(moved.dtype), atol=1e-3):
            raise UnsupportedModel("the rotary embedding turns pairs of dimensions by different angles")
        return found
