"""Settings: from the environment (`FAIRPOS_...`), a `.env` file, and the TOML file that FAIRPOS_CONFIG names.

The environment wins over `.env`, and that over the TOML file.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

_PREFIX = "FAIRPOS_"
_OF_THE_LIBRARY = frozenset({"FAIRPOS_CONFIG", "FAIRPOS_CACHE", "FAIRPOS_PROFILES"})
# What Kubernetes writes into every container where a Service is called fairpos.
_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_[0-9]+_(TCP|UDP)")


class Settings(BaseSettings):
    """Everything that an operator can set. Lists are comma-separated in the environment."""

    model_config = SettingsConfigDict(env_prefix="FAIRPOS_", env_file=".env", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")

    models: Annotated[list[str], NoDecode] = Field(
        [], description="Local models: an embedded name, a folder or a hub id each, or name=folder to rename it."
    )
    aliases: dict[str, str] = Field(
        {}, description="Other names for models (JSON), for clients whose model name can't be changed."
    )
    dtype: str = Field("float32", description="Of local models.")
    device: str | None = Field(None, description="Of local models; a CUDA device where there is one, else the CPU.")
    batch_invariance: Literal["order_free", "always", "never"] = Field(
        "order_free",
        description="Whose replies don't depend on what they were batched with, to the bit: methods that are "
        "order-free, all, none.",
    )
    adapter: str | None = Field(
        None,
        description="Folder of an adapter from `fairpos tune`, for the one local model; requests with another method "
        "are refused.",
    )
    upstream: str | None = Field(None, description="An OpenAI-compatible server: http://host:8000/v1.")
    upstream_key: SecretStr | None = Field(
        None, description="Sent upstream. Without it, and without api_keys, a client's own key is passed on."
    )
    upstream_timeout_s: float = Field(300.0, gt=0, description="Longest silence of the upstream, in seconds.")
    upstream_connect_s: float = Field(5.0, gt=0, description="To reach the upstream, in seconds.")
    upstream_connections: int = Field(256, ge=1, description="Connections to the upstream at once.")
    upstream_calls: int = Field(64, ge=1, description="Calls of methods that ask the upstream themselves, at once.")
    upstream_calls_per_client: int = Field(16, ge=1, description="Those of one client, by key, else by address.")
    proxied: Annotated[list[str], NoDecode] = Field(
        [
            "/v1/completions",
            "/v1/embeddings",
            "/v1/responses",
            "/v1/messages",
            "/v1/messages/count_tokens",
            "/v1/models/*",
            "/v1/audio/*",
            "/v1/images/*",
            "/v1/moderations",
            "/tokenize",
            "/detokenize",
        ],
        description="Paths that are passed to the upstream as they are; `*` at the end stands for anything.",
    )

    methods: str = Field("none", description="Methods of requests with documents that name none.")
    rerank_methods: str = Field(
        "permutation:views=5",
        description="Methods of /rerank requests that name none; their clients have no place for methods. `none` is a "
        "fifth of the price, and favours a place in the list.",
    )
    judge_methods: str = Field("none", description="Methods of /v1/judge requests that name none.")
    fit: str = Field(
        "error",
        description="More documents than the context holds: error, keep or groups, where a request doesn't say.",
    )
    ranker: str = Field(
        "auto",
        description="How a view is asked to rank, where a request doesn't say; auto: first_token where the model gives "
        "log-probabilities, else generate.",
    )

    plugins: Annotated[list[str], NoDecode] = Field(
        [], description="Modules or files that register methods, rankers or relevances; installed packages need none."
    )

    api_keys: Annotated[list[SecretStr], NoDecode] = Field(
        [], description="Bearer keys that may use the service; empty: everybody may."
    )
    admin_keys: Annotated[list[SecretStr], NoDecode] = Field(
        [], description="Bearer keys that may also calibrate, see profiles and drain."
    )
    rate_limit: str = Field("", description="Requests of one client: 60/minute, 5/second; empty: no limit.")
    token_budget: str = Field("", description="Tokens of one client: 100000/day; empty: no limit.")
    quota_storage: str = Field(
        "memory://", description="Where both are counted: memory:// (each process for itself), redis://host:6379."
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        [], description="Origins whose pages may call the service from a browser; * is all."
    )
    header_timeout_s: float = Field(10.0, gt=0, description="In which the head of a request must have come.")
    body_timeout_s: float = Field(60.0, gt=0, description="In which the body of a request must have come; else 408.")
    send_timeout_s: float = Field(60.0, gt=0, description="In which a client must take the next piece of a reply.")
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="Of a request body; over it 413.")
    max_values: int = Field(
        200_000, ge=1000, description="Commas in a request body: a parser can't be interrupted; over it 422."
    )
    max_documents: int = Field(1000, ge=1, description="In one request; over it 422.")
    max_prompt_tokens: int = Field(32768, ge=16, description="Of one prompt on a local model; over it 422.")
    max_new_tokens: int = Field(1024, ge=1, description="Of one completion on a local model; a request gets no more.")
    vote_tokens: int = Field(
        32768, ge=64, description="Padded tokens of views that decode together and vote; over it 422."
    )
    max_calls: int = Field(2000, ge=1, description="Model calls that one step of one request may make; over it 422.")
    queue: int = Field(256, ge=1, description="Requests that wait or run, per local model; over it 429.")
    batch_tokens: int = Field(8192, ge=64, description="Padded tokens of one batch, prompts and new ones.")
    batch_calls: int = Field(32, ge=1, description="Calls of one batch.")
    drain_s: float = Field(30.0, ge=0, description="On shutdown, how long requests may take to finish.")
    drain_notice_s: float = Field(
        0.0, ge=0, description="Of these, how long readiness says so before the port is closed; for load balancers."
    )
    workers: int = Field(1, ge=1, description="Processes that share the port; each loads its models itself.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning, error.")
    log_format: Literal["json", "text"] = Field("json", description="json: an object a line; or text.")

    @field_validator("models", "api_keys", "admin_keys", "cors_origins", "proxied", "plugins", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        """`a,b` as a list."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("upstream")
    @classmethod
    def _as_base_url(cls, value: str | None) -> str | None:
        if not value:
            return None
        value = value.rstrip("/")
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"upstream must begin with http:// or https://, got {value!r}")
        if value.endswith("/chat/completions"):
            raise ValueError(f"upstream must be what comes before /chat/completions, got {value!r}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order in which sources win."""
        sources = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        file = os.environ.get("FAIRPOS_CONFIG")
        if file:
            if not Path(file).is_file():
                raise ValueError(f"FAIRPOS_CONFIG names {file}, and there is no such file")
            return (*sources, TomlConfigSettingsSource(settings_cls, toml_file=file))
        return sources


def refuse_unknown_names(env_file: Path = Path(".env")) -> None:
    """Refuses FAIRPOS_ names that mean nothing, in the environment, the `.env` file and the TOML file.

    A misspelt name would leave the service without what it was meant to set: open, without its keys.

    Raises:
        ValueError: there is one; says where, and the nearest that exists.
    """
    known = {_PREFIX + name.upper() for name in Settings.model_fields} | _OF_THE_LIBRARY
    places = {"the environment": list(os.environ)}
    if env_file.is_file():
        places[str(env_file)] = list(dotenv_values(env_file))
    file = os.environ.get("FAIRPOS_CONFIG")
    if file and Path(file).is_file():
        with Path(file).open("rb") as opened:
            places[file] = [_PREFIX + name for name in tomllib.load(opened)]
    for place, names in places.items():
        for name in names:
            if name.upper().startswith(_PREFIX) and name.upper() not in known and not _OF_KUBERNETES.search(name):
                near = difflib.get_close_matches(name.upper(), known, 1)
                raise ValueError(
                    f"{place} has {name}, which is no setting{f'; did you mean {near[0]}?' if near else ''}"
                )
