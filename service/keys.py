"""Who a client is, and what it may: by its key where there are keys, else by its address."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from .errors import ServiceError


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request.

    Attributes:
        name: For turns and quotas: never the key itself, and nothing that the client could make up.
        may_use: Whether it may use the service.
        may_administer: Whether it may also calibrate, see profiles and drain.
    """

    name: str
    may_use: bool
    may_administer: bool


class Keys:
    """The keys of the service.

    Args:
        users: Of those who may use it; with `admins` empty too: everybody may.
        admins: Of those who may also administer it.
    """

    def __init__(self, users: Sequence[str], admins: Sequence[str]) -> None:
        self._users = [key.encode() for key in users]
        self._admins = [key.encode() for key in admins]

    @property
    def any(self) -> bool:
        """Whether there are keys at all."""
        return bool(self._users or self._admins)

    def client_of(self, headers: Headers, address: tuple[str, int] | None) -> Client:
        """Who sent these headers. A key that isn't ours says nothing of who sent it."""
        where = address[0] if address else ""
        if not self.any:
            return Client(where, may_use=True, may_administer=True)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        bearer = given.strip() if scheme.lower() == "bearer" else ""
        key = bearer or headers.get("x-api-key") or headers.get("api-key") or ""
        is_admin = _matches_one(key.encode(), self._admins)
        is_user = _matches_one(key.encode(), self._users) or is_admin
        name = f"key {hashlib.sha256(key.encode()).hexdigest()[:12]}" if is_user else where
        # With keys for administrators alone, everybody may use what needs none.
        return Client(name, may_use=is_user or not self._users, may_administer=is_admin)

    def check(self, client: Client) -> None:
        """Lets a client in.

        Raises:
            ServiceError: 401.
        """
        if not client.may_use:
            raise ServiceError(
                401,
                "invalid_api_key",
                "this service wants `Authorization: Bearer KEY` with one of its keys",
                headers={"www-authenticate": "Bearer"},
            )

    def check_admin(self, client: Client) -> None:
        """Lets an administrator in.

        Raises:
            ServiceError: 403.
        """
        if not client.may_administer:
            raise ServiceError(
                403, "admin_only", "this wants one of the keys of FAIRPOS_ADMIN_KEYS, which the one given is not"
            )


def _matches_one(key: bytes, own: Sequence[bytes]) -> bool:
    """Whether a key is among ours; compares with all of them, in constant time."""
    found = False
    for candidate in own:
        found |= hmac.compare_digest(candidate, key)
    return found
