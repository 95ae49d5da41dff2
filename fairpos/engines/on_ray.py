"""Models in actors of Ray: `fair = on_ray.load("smollm2", Ray(workers=4, gpus=1))`.

One actor holds one model (or the connections to one endpoint) and knows how to do pieces of work, nothing else: no
actor writes a file. What asks the model, and every journal, budget and cache, stays in the process that called `load`.
A dead actor is replaced by the pool, not by Ray, so that what is done again is known here.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fairpos.backends.base import Backend, BatchInvariance
from fairpos.engines.pool import Pool, Work, WorkerLost
from fairpos.engines.pooled import PooledBackend
from fairpos.errors import BackendError, FairposError, InvalidOption
from fairpos.extras import missing_extra
from fairpos.model import FairModel
from fairpos.opening import load as load_here
from fairpos.plugins import load_plugins

if TYPE_CHECKING:
    from fairpos.backends.openai import OpenAIBackend

_LOG = logging.getLogger(__name__)
_OWN = "local"  # Ray's word for a cluster that this process starts, and that ends with it
_OWN_STORE_BYTES = 128 * 2**20  # prompts and replies are small, and live there for a moment
_CONNECT_S = 5.0
_PIECES_OF_ENDPOINT = 6  # that a worker has at once: a quarter of its bound each, and some that wait
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Ray:
    """A cluster, and what an actor takes of it.

    Attributes:
        address: Of the cluster: "auto" for the one that was started on this machine, "host:6379"; None: the environment
            variable RAY_ADDRESS, and without it a cluster of this process's own on this machine, which ends with it.
        workers: Actors; None: as many as the cluster has room for now.
        cpus: Cores of an actor, more than 0; a local model has as many threads (at least one).
        gpus: GPUs of an actor; .5: two actors share one.
        plugins: Modules that register methods and the like, which every actor imports; see `fairpos.plugins`.

    Raises:
        InvalidOption: a number outside of what is allowed.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InvalidOption(f"workers must be at least 1, got {self.workers}")
        if not self.cpus > 0:
            raise InvalidOption(f"an actor's cpus must be above 0, got {self.cpus}")
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise InvalidOption(f"an actor's gpus must be a part of one or a whole number, got {self.gpus}")

    def connect(self) -> int:
        """Joins the cluster, or starts one; returns how many actors there shall be.

        Raises:
            MissingDependency: ray isn't installed.
            BackendError: nobody answers at the address.
            InvalidOption: this machine alone has no room for one actor; another cluster may grow, which is logged.
        """
        ray = _import_ray()
        address = self.address or os.environ.get("RAY_ADDRESS") or _OWN
        if not ray.is_initialized():
            _join_cluster(ray, address)
        room = sum(self._room_on(node["Resources"]) for node in ray.nodes() if node["Alive"])
        wanted = self.workers or max(1, room)
        if room < wanted:
            told = f"room for {room} of {wanted} actors with {self.cpus:g} cores and {self.gpus:g} GPUs"
            if not room and address == _OWN:
                raise InvalidOption(f"this machine has {told}")
            _LOG.warning("the cluster has %s; others start when it has more", told)
        return wanted

    def _room_on(self, resources: dict[str, float]) -> int:
        """Actors that a node can hold when it is empty."""
        room = resources.get("CPU", 0.0) / self.cpus
        return int(min(room, resources.get("GPU", 0.0) / self.gpus) if self.gpus else room)


def load(
    name: str,
    ray: Ray = Ray(),
    *,
    dtype: str = "float32",
    device: str | None = None,
    batch_invariance: BatchInvariance = "order_free",
) -> FairModel:
    """A local model in actors: each loads it by itself, so that name must mean the same on every node.

    Args:
        name: As `fairpos.load` takes it.
        ray: The cluster, and what an actor takes of it.
        dtype, device, batch_invariance: See `fairpos.load`.

    Raises:
        MissingDependency: ray isn't installed.
        BackendError: the cluster can't be joined, or its actors die.
        FairposError: the model can't be loaded there.
    """
    workers = ray.connect()
    opened = partial(_open_local, name, dtype, device, batch_invariance, max(1, int(ray.cpus)))
    return FairModel(PooledBackend(_pool_of(ray, workers, lambda _: opened, at_once=2, threads=1)))


def load_endpoint(endpoint: OpenAIBackend, ray: Ray = Ray(), *, more: Sequence[str] = ()) -> FairModel:
    """An endpoint that actors ask.

    Args:
        endpoint: From `fairpos.backends.openai.connect`, with its cache, its key and its bounds, which are each
            actor's; a limit of calls a minute is shared.
        ray: The cluster, and what an actor takes of it; a quarter of a core is enough for some hundred calls a second.
        more: Further addresses of the same model, "http://host:8000/v1"; actors take turns.

    Raises:
        MissingDependency: ray isn't installed.
        BackendError: the cluster can't be joined.
    """
    from fairpos.engines.pooled_endpoint import PooledEndpoint, backend_of_worker

    workers = ray.connect()
    addresses = [endpoint.client.base_url, *more]
    backends = [backend_of_worker(endpoint, address, workers) for address in addresses]
    pool = _pool_of(
        ray,
        workers,
        lambda number: partial(_open_endpoint, backends[number % len(backends)]),
        at_once=_PIECES_OF_ENDPOINT,
        threads=_PIECES_OF_ENDPOINT,
    )
    return FairModel(PooledEndpoint(endpoint, pool))


class Holder:
    """What an actor is: a model, and a way to work with it. FairposErrors are values here: Ray would wrap them."""

    def __init__(self, opened: Callable[[], Backend], plugins: Sequence[str]) -> None:
        self._opened = opened
        self._plugins = plugins
        self._backend: Backend | None = None

    def open(self) -> FairposError | None:
        """Loads the model; the error where it can't be loaded."""
        try:
            load_plugins(self._plugins)
            self._backend = self._opened()
        except FairposError as error:
            return error
        return None

    def do(self, work: Work[T, R], items: Sequence[T]) -> tuple[R | None, FairposError | None]:
        """Does a piece of work: (result, None), or (None, what was raised)."""
        assert self._backend is not None  # nothing is asked of an actor that isn't open
        try:
            return work(self._backend, items), None
        except FairposError as error:
            return None, error


class RayWorker:
    """One actor, as the pool sees it.

    Args:
        opened: Opens the model there.
        ray: What it takes of the cluster.
        threads: Pieces that it does at the same time.
    """

    def __init__(self, opened: Callable[[], Backend], ray: Ray, threads: int) -> None:
        self._actor = (
            _import_ray()
            .remote(Holder)
            .options(
                num_cpus=ray.cpus,
                num_gpus=ray.gpus,
                max_concurrency=threads,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )
            .remote(opened, ray.plugins)
        )

    def ready(self) -> Future[None]:
        """See `fairpos.engines.pool.Worker`."""
        return _with_pool_errors(self._actor.open.remote(), lambda error: (None, error))

    def ask(self, work: Work[T, R], items: Sequence[T]) -> Future[R]:
        """See `fairpos.engines.pool.Worker`."""
        return _with_pool_errors(self._actor.do.remote(work, items), lambda outcome: outcome)

    def close(self) -> None:
        """See `fairpos.engines.pool.Worker`."""
        ray = _import_ray()
        if ray.is_initialized():
            ray.kill(self._actor)


def _join_cluster(ray: Any, address: str) -> None:
    """Joins a cluster, or starts one of this process's own.

    Raises:
        BackendError: it can't be joined.
    """
    _refuse_silent(address)
    own = {"include_dashboard": False, "object_store_memory": _OWN_STORE_BYTES} if address == _OWN else {}
    try:
        ray.init(address=address, logging_level=logging.WARNING, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BackendError(f"can't join a Ray cluster at {address!r}: {error}") from None


def _refuse_silent(address: str) -> None:
    """Refuses an address where nobody listens: Ray would wait for minutes.

    Raises:
        BackendError: see above.
    """
    host, colon, port = address.rpartition(":")
    if colon and host and "//" not in host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise BackendError(f"no Ray cluster answers at {address!r}: {error}") from None


def _pool_of(
    ray: Ray, workers: int, opened: Callable[[int], Callable[[], Backend]], *, at_once: int, threads: int
) -> Pool:
    return Pool(lambda number: RayWorker(opened(number), ray, threads), workers, at_once=at_once)


def _with_pool_errors(reference: Any, outcome_of: Callable[[Any], tuple[Any, FairposError | None]]) -> Future[Any]:
    """A reference's future with the result, or the error, that the pool knows."""
    from ray.exceptions import ObjectLostError, RayActorError, RaySystemError

    translated: Future[Any] = Future()

    def translate(done: Future[Any]) -> None:
        try:
            result, error = outcome_of(done.result())
        except (RayActorError, ObjectLostError, RaySystemError) as lost:
            translated.set_exception(WorkerLost(str(lost)))
        except BaseException as fault:
            translated.set_exception(fault)
        else:
            if error is None:
                translated.set_result(result)
            else:
                translated.set_exception(error)

    reference.future().add_done_callback(translate)
    return translated


def _open_local(name: str, dtype: str, device: str | None, batch_invariance: BatchInvariance, threads: int) -> Backend:
    """At an actor: loads a local model, and gives torch the actor's cores."""
    fair = load_here(name, dtype=dtype, device=device, batch_invariance=batch_invariance)
    import torch

    torch.set_num_threads(threads)
    return fair.backend


def _open_endpoint(backend: OpenAIBackend) -> Backend:
    """At an actor: the endpoint came along."""
    return backend


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise missing_extra("--engine ray needs ray", "ray", error) from None
    return ray
