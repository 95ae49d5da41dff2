"""`fairpos serve`: the HTTP service."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fairpos.cli.app import app
from fairpos.errors import InvalidOption
from fairpos.extras import missing_extra


@app.command()
def serve(
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A local model to serve; may be given several times.")
    ] = None,
    upstream: Annotated[str | None, typer.Option(help="An OpenAI-compatible server: http://host:8000/v1.")] = None,
    methods: Annotated[str | None, typer.Option(help="Methods of requests with documents that name none.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port, each with its models.")] = None,
    config: Annotated[str | None, typer.Option(help="A TOML file with settings.")] = None,
) -> None:
    """Serve chat, rerank and judge over HTTP, to clients as they are.

    Every setting can also come from the environment (FAIRPOS_UPSTREAM, FAIRPOS_API_KEYS, ...); docs/service.md lists
    them. Without a model and an upstream, smollm2 is served.
    """
    try:
        from pydantic import ValidationError

        from fairpos_service.serving import run
        from fairpos_service.settings import Settings, refuse_unknown_names
    except ImportError as error:
        raise missing_extra("the service needs its packages", "service", error) from None
    if config is not None:
        os.environ["FAIRPOS_CONFIG"] = config
    given = {"models": model, "upstream": upstream, "methods": methods, "host": host, "port": port, "workers": workers}
    try:
        refuse_unknown_names()
        settings = Settings(**{name: value for name, value in given.items() if value not in (None, [])})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InvalidOption(f"settings: {problems}") from None
    except ValueError as error:
        raise InvalidOption(f"settings: {error}") from None
    if not settings.models and settings.upstream is None:
        settings = settings.model_copy(update={"models": ["smollm2"]})
    run(settings)
