"""The model that a command asks: a local one, or an endpoint with its cache and limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fairpos.errors import InvalidOption
from fairpos.model import FairModel, load

_PREFIX = "openai:"
_ENDPOINT = "Endpoints"

Cache = Annotated[
    Path | None,
    typer.Option(
        help="SQLite file of responses, so that no call is paid twice; where not given, beside the output file.",
        rich_help_panel=_ENDPOINT,
    ),
]
Concurrency = Annotated[int, typer.Option(help="Calls at once.", rich_help_panel=_ENDPOINT)]
Timeout = Annotated[float, typer.Option(help="Seconds for one call.", rich_help_panel=_ENDPOINT)]
Attempts = Annotated[int, typer.Option(help="Calls per request, at the most.", rich_help_panel=_ENDPOINT)]


@dataclass(frozen=True)
class EndpointOptions:
    """How an endpoint is called: a group of options (see `fairpos.cli.groups`)."""

    cache: Cache = None
    concurrency: Concurrency = 16
    timeout: Timeout = 120.0
    attempts: Attempts = 6


def open_model(
    name: str,
    *,
    dtype: str,
    cache: Path | None,
    output: Path | None,
    concurrency: int,
    timeout_s: float,
    attempts: int,
) -> FairModel:
    """The model of that name. An endpoint's responses are kept beside the output file, unless `cache` says where.

    Raises:
        InvalidOption: a cache for a local model, or a limit outside of what is allowed.
        FairposError: the model can't be loaded.
    """
    if not name.startswith(_PREFIX):
        if cache is not None:
            raise InvalidOption(f"--cache keeps an endpoint's responses; {name!r} is a local model")
        return load(name, dtype=dtype)
    from fairpos.backends.openai import connect
    from fairpos.backends.response_cache import ResponseCache

    if cache is None and output is not None:
        cache = output.with_name(output.name + ".responses.sqlite")
    responses = None if cache is None else ResponseCache(cache)
    backend = connect(name, cache=responses, concurrency=concurrency, timeout_s=timeout_s, attempts=attempts)
    return FairModel(backend)
