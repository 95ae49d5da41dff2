"""How long to wait before a call that failed is tried again. Pure: nothing here waits or reads a clock."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass

from fairpos.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a call is tried again.

    Attributes:
        first_s: Seconds before the 2nd attempt; doubled for each further one. A random half of it is taken off, so that
            calls that failed together don't come back together.
        most_s: No wait is longer, whatever the server asks for.
    """

    first_s: float = 0.5
    most_s: float = 60.0

    def __post_init__(self) -> None:
        if not (self.first_s >= 0 and self.most_s >= 0):
            raise InvalidOption(f"first_s and most_s must be at least 0, got {self.first_s} and {self.most_s}")

    def seconds(self, attempt: int, asked_s: float | None, share: float) -> float:
        """The wait after a failed attempt.

        Args:
            attempt: Number of the attempt that failed, from 1.
            asked_s: What the server's Retry-After says; the wait is at least that long, up to `most_s`.
            share: A random number between 0 and 1.
        """
        own = self.first_s * 2.0 ** min(attempt - 1, 60) * (0.5 + share / 2)
        return min(self.most_s, (asked_s or 0.0) + own)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait: `Retry-After-Ms`, or `Retry-After` in seconds or as a date.

    Args:
        headers: Of the response; names in lower case.
        now: Seconds since the epoch, for a date.
    """
    for header, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(header, "")
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
