"""What a run may spend, in calls or in tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from fairpos.errors import InvalidOption
from fairpos.types import Usage


@dataclass(slots=True)
class Budget:
    """What may still be spent. A record is only started if the costliest one so far would fit.

    Args:
        text: "500 calls" or "20000 tokens" (prompt and new ones); cached calls are free.

    Raises:
        InvalidOption: something else.
    """

    text: str
    left: int = field(init=False)
    unit: str = field(init=False)
    costliest: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        match = re.fullmatch(r"\s*(\d+)\s*(calls?|tokens?)\s*", self.text)
        if match is None:
            raise InvalidOption(f"a budget is like '500 calls' or '20000 tokens', got {self.text!r}")
        self.left = int(match.group(1))
        self.unit = match.group(2).removesuffix("s") + "s"

    def fits(self, wanted: int) -> int:
        """How many of so many records may run together now: one until a cost is known."""
        if self.costliest == 0:
            return min(wanted, 1) if self.left > 0 else 0
        return max(0, min(wanted, self.left // self.costliest))

    def spend(self, usages: Sequence[Usage]) -> None:
        """Subtracts what a batch cost from what is left."""
        for usage in usages:
            tokens = usage.prompt_tokens + usage.completion_tokens  # those of cached calls are counted elsewhere
            cost = usage.calls if self.unit == "calls" else tokens
            self.left -= cost
            self.costliest = max(self.costliest, cost)
