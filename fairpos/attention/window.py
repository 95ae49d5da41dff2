"""How far a layer sees: a sliding window, or chunks. Both are counted in positions, not in stored tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Keys that a query may see of those before it.

    Attributes:
        size: In positions.
        chunked: False: a window that slides, the key less than `size` before the query (Mistral, Gemma 2). True: the
            positions are cut into chunks of `size`, and a query sees its own chunk (Llama 4).
    """

    size: int
    chunked: bool = False

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether the key's position is within reach of the query's; shapes broadcast, positions may be fractions."""
        if self.chunked:
            return (query // self.size) == (key // self.size)
        return query - key < self.size

    def covers(self, last: float) -> bool:
        """Whether nothing is cut off from positions 0 to `last`."""
        return last < self.size
