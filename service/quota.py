"""How often a client may ask, and how many tokens it may spend: windows that the `limits` library counts.

In memory each process counts for itself; several replicas share their counts in Redis.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from fairpos.errors import InvalidOption
from fairpos.extras import missing_extra

from .errors import ServiceError

if TYPE_CHECKING:
    from limits import RateLimitItem


class Quota:
    """Counts requests and tokens of each client.

    Args:
        requests: "60/minute"; empty: as many as they like.
        tokens: "100000/day"; empty: as many as they like.
        storage: Where counts are kept: "memory://" or "redis://host:6379".

    Raises:
        InvalidOption: a window or a storage that can't be read.
        MissingDependency: the library isn't installed.
    """

    def __init__(self, requests: str = "", tokens: str = "", storage: str = "memory://") -> None:
        self._requests = self._tokens = None
        if not (requests or tokens):
            return
        try:
            from limits import parse
            from limits.aio.strategies import FixedWindowRateLimiter
            from limits.storage import storage_from_string
        except ImportError as error:
            raise missing_extra("quotas need `limits`", "service", error) from None
        try:
            self._requests = parse(requests) if requests else None
            self._tokens = parse(tokens) if tokens else None
            # redis-py: what limits takes otherwise, coredis, wants a `packaging` that is older than others' oldest.
            client = {"implementation": "redispy"} if storage.startswith("redis") else {}
            kept = storage_from_string(f"async+{storage}", **client)
        except Exception as error:  # the library has no error of its own for each of these
            if "prerequisite not available" in str(error):
                raise missing_extra(
                    f"counts kept at {storage.split('://')[0]}:// need a client", "redis", error
                ) from None
            raise InvalidOption(f"a quota is like '60/minute', its storage like 'memory://': {error}") from None
        self._windows = FixedWindowRateLimiter(kept)

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are to be told to `spend`."""
        return self._tokens is not None

    async def check(self, client: str) -> None:
        """Counts one request.

        Raises:
            ServiceError: 429 with the time when the window ends.
        """
        if self._requests is not None and not await self._windows.hit(self._requests, "requests", client):
            raise await self._refusal_of(self._requests, "requests", client)
        if self._tokens is not None and not await self._windows.test(self._tokens, "tokens", client):
            raise await self._refusal_of(self._tokens, "tokens", client)

    async def spend(self, client: str, tokens: int) -> None:
        """Counts the tokens of a reply. The last one may go over the budget: it isn't known beforehand."""
        if self._tokens is not None and tokens > 0:
            await self._windows.hit(self._tokens, "tokens", client, cost=tokens)

    async def _refusal_of(self, window: RateLimitItem, what: str, client: str) -> ServiceError:
        ends, _ = await self._windows.get_window_stats(window, what, client)
        wait = max(1, math.ceil(ends - time.time()))
        return ServiceError(
            429,
            "rate_limited" if what == "requests" else "budget_spent",
            f"{window.amount} {what} in {window.get_expiry()} s are allowed for each client; try again in {wait} s",
            headers={"retry-after": str(wait)},
        )
