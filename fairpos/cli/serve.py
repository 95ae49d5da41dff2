"""`fairpos serve`: the HTTP service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from fairpos.cli.app import app
from fairpos.cli.engine import PANEL, refuse_given
from fairpos.cli.groups import grouped
from fairpos.engines.on_ray import Ray
from fairpos.errors import InvalidOption
from fairpos.extras import missing_extra


@dataclass(frozen=True)
class ReplicaOptions:
    """Where the service runs: a group of options (see `fairpos.cli.groups`)."""

    engine: Annotated[
        Literal["process", "ray"],
        typer.Option(help="process: this one, or --workers; ray: replicas of Ray Serve.", rich_help_panel=PANEL),
    ] = "process"
    replicas: Annotated[int | None, typer.Option(min=1, help="How many: 1.", rich_help_panel=PANEL)] = None
    replica_cpus: Annotated[float | None, typer.Option(help="Cores of a replica: 1.", rich_help_panel=PANEL)] = None
    replica_gpus: Annotated[float | None, typer.Option(help="GPUs of a replica: 0.", rich_help_panel=PANEL)] = None
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, as in `fairpos judge`.", rich_help_panel=PANEL)
    ] = None

    def cluster(self) -> Ray | None:
        """Where replicas run, and what one takes of it; None: the service runs in this process.

        Raises:
            InvalidOption: it does, and there is an option for replicas; or a number outside of what is allowed.
        """
        if self.engine == "ray":
            cpus = 1.0 if self.replica_cpus is None else self.replica_cpus
            return Ray(self.ray_address, self.replicas or 1, cpus, self.replica_gpus or 0.0)
        refuse_given(
            {
                "--replicas": self.replicas,
                "--replica-cpus": self.replica_cpus,
                "--replica-gpus": self.replica_gpus,
                "--ray-address": self.ray_address,
            }
        )
        return None


@app.command()
@grouped
def serve(
    where: ReplicaOptions,
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
    cluster = where.cluster()
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
    if cluster is None:
        run(settings)
    else:
        from fairpos_service.replicas import run_replicas

        run_replicas(settings, cluster)
