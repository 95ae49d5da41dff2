"""Prompts of different shapes as one left-padded batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fairpos.layout import Layout


class Batch:
    """Layouts side by side, padded on the left to one width.

    `generate` may run more rows than there are prompts (beams, several samples of one prompt): row r then belongs to
    prompt r // (rows / prompts), as transformers expands them.

    Args:
        layouts: One per prompt, already canonical.
        width: Wider than the longest of them, where a row's place must not depend on it.
    """

    def __init__(self, layouts: Sequence[Layout], width: int = 0) -> None:
        self.layouts = tuple(layouts)
        self.width = max(width, *(len(layout) for layout in layouts))

    def pad(self, layout: Layout) -> int:
        """Number of padding tokens before this prompt."""
        return self.width - len(layout)

    def rows(self, n: int) -> list[Layout]:
        """The layout of each of n rows."""
        if n % len(self.layouts):
            raise ValueError(f"{n} rows for {len(self.layouts)} prompts")
        repeat = n // len(self.layouts)
        return [layout for layout in self.layouts for _ in range(repeat)]

    def input_ids(self, pad_id: int, device: torch.device | str = "cpu") -> Tensor:
        """Token ids of shape (B, width)."""
        rows = [[pad_id] * self.pad(layout) + list(layout.input_ids) for layout in self.layouts]
        return torch.tensor(rows, device=device)

    def attention_mask(self, device: torch.device | str = "cpu") -> Tensor:
        """1 for tokens, 0 for padding, of shape (B, width)."""
        rows = [[0] * self.pad(layout) + [1] * len(layout) for layout in self.layouts]
        return torch.tensor(rows, device=device)
