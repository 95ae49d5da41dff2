"""Where an endpoint is, and what every call to it carries: address, key and headers.

`https://NAME.openai.azure.com/openai/deployments/MODEL?api-version=2024-10-21` is Azure's form: the version goes on
every call, and the key is sent as `api-key`. No other query is taken, because that is where people put keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairpos.errors import InvalidOption
from fairpos.extras import missing_extra

_AZURE = "api-version"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint's address and credentials. Pickles, so that another process can connect anew.

    Attributes:
        base_url: What the path `/chat/completions` follows, as in the OpenAI clients: "http://host:8000/v1".
        api_key: Sent as a bearer token; never logged, cached, or part of a cache key. None: the environment variable
            OPENAI_API_KEY (of Azure first AZURE_OPENAI_API_KEY); "": none, whatever the environment says.
        headers: Further headers of every call; they replace ours of the same name, and aren't shown either.
        stands_for: The address under which responses are kept, where several servers hold the same model; empty: its
            own.

    Raises:
        InvalidOption: an address, a key or a header that can't be used.
        MissingDependency: httpx2 isn't installed.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    stands_for: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _checked_url(self.base_url))
        key = self.api_key
        if key is None:
            key = os.environ.get("OPENAI_API_KEY", "")
            key = os.environ.get("AZURE_OPENAI_API_KEY", key) if self.is_azure else key
        object.__setattr__(self, "api_key", key.strip())
        if not (key.isascii() and key.strip().isprintable()):
            raise InvalidOption("api_key must be printable ASCII, and what was given is not; it is not shown here")
        object.__setattr__(self, "headers", dict(self.headers))
        for name, value in self.headers.items():
            if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
                raise InvalidOption(f"a header's name is made of letters, digits, - and _, got {name!r}")
            if not (value.isascii() and value.isprintable()):
                raise InvalidOption(f"header {name} must be printable ASCII, and what was given is not")

    @property
    def is_azure(self) -> bool:
        """Whether the address is of Azure's form."""
        return f"?{_AZURE}=" in self.base_url

    def url(self, path: str) -> str:
        """The address of a path below the base URL: "/chat/completions"."""
        return _joined_url(self.base_url, path)

    @property
    def kept_under(self) -> str:
        """The address in the keys of responses."""
        return self.stands_for or self.base_url

    def key_url(self, path: str) -> str:
        """`url`, as it is in the keys of responses."""
        return _joined_url(self.kept_under, path)

    def root_url(self, path: str) -> str:
        """The address of a path beside the API's: servers have "/version" and "/props" there, not below "/v1"."""
        return self.base_url.partition("?")[0].removesuffix("/v1") + path

    def call_headers(self) -> dict[str, str]:
        """The headers of every call."""
        ours = {}
        if self.api_key:
            ours = {"api-key": self.api_key} if self.is_azure else {"Authorization": f"Bearer {self.api_key}"}
        given = {name.lower() for name in self.headers}
        return {name: value for name, value in ours.items() if name.lower() not in given} | dict(self.headers)

    def without_secrets(self, text: str) -> str:
        """The text with the key, and what the headers hold, as "***"."""
        for secret in (self.api_key or "", *self.headers.values()):
            if len(secret) > 3:
                text = text.replace(secret, "***")
        return text


def _joined_url(base_url: str, path: str) -> str:
    base, mark, query = base_url.partition("?")
    return base + path + mark + query


def _checked_url(base_url: str) -> str:
    try:
        import httpx2
    except ImportError as error:
        raise missing_extra("an endpoint is asked through httpx2", "remote") from error
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise InvalidOption(f"base_url must look like http://host:8000/v1, got {base_url!r}: {error}") from error
    if url.userinfo or url.fragment or set(url.params) - {_AZURE}:  # not shown: these are places where people put keys
        raise InvalidOption(
            "base_url must be without a user, a fragment and a query (but Azure's api-version); a key goes into api_key"
        )
    if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 65536:
        raise InvalidOption(f"base_url must look like http://host:8000/v1, got {base_url!r}")
    if url.path.rstrip("/").endswith("/chat/completions"):
        raise InvalidOption(f"base_url must be what comes before /chat/completions, got {base_url!r}")
    base, mark, query = str(url).partition("?")
    return base.rstrip("/") + (mark + query if query else "")
