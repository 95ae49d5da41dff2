"""What the routes share: settings, models, upstream, metrics."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

from starlette.requests import Request

from fairpos import FairModel

from .connection import OpenRequests
from .endpoint import Endpoint
from .engine import Engine
from .errors import ServiceError
from .keys import Client, Keys
from .logs import log
from .metrics import Metrics
from .quota import Quota
from .settings import Settings
from .sizing import Limits
from .upstream import Upstream

Load = Callable[[], FairModel]


@dataclass
class State:
    """One app's state.

    Attributes:
        loads: Local models by name, and how each is loaded.
        engines: Those that are loaded.
        failed: Those that could not be loaded, and why.
        keys: Who may ask.
        quota: How often.
        open_requests: What is being answered.
        alone: Whether the process does nothing else than to serve.
        draining: Whether no more requests should be sent here: the process is about to end, or was told to drain.
    """

    settings: Settings
    metrics: Metrics
    loads: Mapping[str, Load]
    keys: Keys
    quota: Quota
    alone: bool = False
    upstream: Upstream | None = None
    engines: dict[str, Engine] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    open_requests: OpenRequests = field(default_factory=OpenRequests)
    draining: bool = False
    started: int = field(default_factory=lambda: int(time.time()))
    _closing: bool = False

    async def load(self) -> None:
        """Loads the local models, one after the other, beside the event loop."""
        await self._keep_what_is_there()
        for name, load in self.loads.items():
            try:
                fair = await asyncio.to_thread(load)
                await asyncio.to_thread(import_module, "fairpos_service.token_text")  # not at the first request
                await self._keep_what_is_there()
            except Exception as error:
                log.exception("model not loaded", extra={"model": name})
                self.failed[name] = str(error)
                continue
            if self._closing:
                return
            s = self.settings
            limits = Limits(s.queue, s.batch_tokens, s.batch_calls, s.max_prompt_tokens, s.vote_tokens, s.max_calls)
            engine = Engine(name, fair.backend, limits, self.metrics)  # type: ignore[arg-type]  # a local one
            engine.start()
            self.engines[name] = engine
            log.info("model ready", extra={"model": name})

    async def _keep_what_is_there(self) -> None:
        """Takes all that is loaded out of the garbage collector's sight.

        With a model, a full collection looks at half a million objects that stay for good, and all threads wait for a
        quarter of a second, in the middle of a request. In a process of others, their garbage would stay, too.
        """
        if self.alone:
            await asyncio.to_thread(gc.collect)
            gc.freeze()

    def end_requests(self) -> None:
        """Ends what is being answered: streams with an error event, all others with a 503."""
        self.draining = True
        for engine in self.engines.values():
            engine.cancel_all()
        self.open_requests.end()

    async def close(self) -> None:
        """Stops the engines, after what is being answered, then closes the upstream's connections."""
        self._closing = self.draining = True
        drain_s = 0.0 if self.open_requests.ending else self.settings.drain_s
        await asyncio.gather(*(engine.stop(drain_s) for engine in self.engines.values()))
        if self.upstream is not None:
            await self.upstream.close()

    def target(self, model: str | None) -> tuple[Engine | Upstream, str]:
        """Who answers for this model name, and the model's own name there.

        Raises:
            ServiceError: 404 there is no such model; 503 it isn't loaded yet.
        """
        name = self.settings.aliases.get(model or "", model or "")
        if not name:
            if self.loads:
                name = next(iter(self.loads))
            elif self.upstream is not None:
                return self.upstream, name
        if name in self.engines:
            engine = self.engines[name]
            if not engine.alive:
                raise ServiceError(503, "model_unavailable", f"the worker of {name!r} has ended; see the log")
            return engine, name
        if name in self.failed:
            raise ServiceError(503, "model_unavailable", f"{name!r} could not be loaded: {self.failed[name]}")
        if name in self.loads:
            raise ServiceError(
                503, "model_loading", f"{name!r} is being loaded; try again soon", headers={"retry-after": "5"}
            )
        if self.upstream is not None:
            return self.upstream, name
        known = ", ".join(self.loads) or "none (set FAIRPOS_MODELS or FAIRPOS_UPSTREAM)"
        raise ServiceError(
            404, "model_not_found", f"there is no model {name!r} here; there are: {known}", param="model"
        )

    @property
    def ready(self) -> bool:
        """Whether every model is loaded and can be asked."""
        return not self.draining and all(name in self.engines and self.engines[name].alive for name in self.loads)


def state_of(request: Request) -> State:
    """The state of the app that this request came to."""
    state: State = request.app.state.fairpos
    return state


def client_of(request: Request) -> str:
    """Whose request it is, for turns and quotas: who the gate found it to be."""
    client: Client = request.state.client
    return client.name


def check_admin(request: Request) -> None:
    """Lets administrators in.

    Raises:
        ServiceError: 403.
    """
    state_of(request).keys.check_admin(request.state.client)


def asked_by(request: Request, target: Engine | Upstream, model: str) -> Engine | Endpoint:
    """Who answers this request, where the library makes the calls.

    Raises:
        ServiceError: the upstream didn't answer a moment ago.
    """
    return target if isinstance(target, Engine) else target.endpoint(model, client_of(request))


async def spend_tokens(request: Request, tokens: int) -> None:
    """Counts a reply's tokens against its client's budget."""
    await state_of(request).quota.spend(client_of(request), tokens)
