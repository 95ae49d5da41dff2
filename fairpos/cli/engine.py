"""Where a command's model runs: in this process, or in actors of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from fairpos.backends.base import Backend
from fairpos.cli.app import plugins_named
from fairpos.cli.options import LocalOptions
from fairpos.engines import on_ray
from fairpos.engines.on_ray import Ray
from fairpos.errors import InvalidOption
from fairpos.model import FairModel

PANEL = "Past one process (docs/scale.md)"


@dataclass(frozen=True)
class EngineOptions:
    """Where the model runs: a group of options (see `fairpos.cli.groups`)."""

    engine: Annotated[
        Literal["process", "ray"],
        typer.Option(help="process: in this one; ray: in actors of Ray, one model each.", rich_help_panel=PANEL),
    ] = "process"
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Of a Ray cluster: auto, host:6379; RAY_ADDRESS where not given, else one of its own on this machine.",
            rich_help_panel=PANEL,
        ),
    ] = None
    actors: Annotated[
        int | None, typer.Option(min=1, help="How many; what the cluster has room for.", rich_help_panel=PANEL)
    ] = None
    actor_cpus: Annotated[float | None, typer.Option(help="Cores of an actor: 1.", rich_help_panel=PANEL)] = None
    actor_gpus: Annotated[float | None, typer.Option(help="GPUs of an actor: 0.", rich_help_panel=PANEL)] = None
    more_endpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--also-at",
            help="A further address of an endpoint's model, http://host:8000/v1; may be repeated: actors take turns.",
            rich_help_panel=PANEL,
        ),
    ] = None

    @property
    def is_process(self) -> bool:
        """Whether the model runs in this process.

        Raises:
            InvalidOption: it does, and there is an option for actors.
        """
        if self.engine == "ray":
            return False
        refuse_given(
            {
                "--ray-address": self.ray_address,
                "--actors": self.actors,
                "--actor-cpus": self.actor_cpus,
                "--actor-gpus": self.actor_gpus,
                "--also-at": self.more_endpoints,
            }
        )
        return True

    def open_local(self, name: str, local: LocalOptions) -> FairModel:
        """The local model of that name.

        Raises:
            FairposError: it can't be loaded so.
        """
        if self.is_process:
            return local.load(name)
        if self.more_endpoints:
            raise InvalidOption(f"--also-at is for an endpoint; {name!r} is a local model")
        if local.adapter is not None:
            raise InvalidOption("--adapter is for --engine process: actors load the model as it is")
        return on_ray.load(name, self._ray(), dtype=local.dtype, device=local.device, batch_invariance=local.invariance)

    def around_endpoint(self, fair: FairModel) -> FairModel:
        """An endpoint's model, asked by this process or by actors.

        Raises:
            FairposError: there can be no actors.
        """
        if self.is_process:
            return fair
        from fairpos.backends.openai import OpenAIBackend

        assert isinstance(fair.backend, OpenAIBackend)
        return on_ray.load_endpoint(fair.backend, self._ray(), more=self.more_endpoints or ())

    def _ray(self) -> Ray:
        return Ray(
            self.ray_address,
            self.actors,
            1.0 if self.actor_cpus is None else self.actor_cpus,
            self.actor_gpus or 0.0,
            plugins_named(),
        )


def refuse_given(options: Mapping[str, object]) -> None:
    """Refuses options that mean something with --engine ray alone.

    Raises:
        InvalidOption: one of them is given.
    """
    useless = [option for option, value in options.items() if value not in (None, [])]
    if useless:
        raise InvalidOption(f"{', '.join(useless)}: for --engine ray")


def together(backend: Backend, count: int) -> int:
    """Records that run together: so many for each process that holds the model."""
    workers = getattr(backend, "workers", 1)
    return count * (workers if isinstance(workers, int) else 1)
