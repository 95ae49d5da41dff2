"""The service of a test in one replica of Ray Serve, behind its proxy, where TEST_SERVICE_IN is "ray".

A replica is a process of its own: tests that look inside of the service, at its state, its loop or its log, are
skipped there. All else must be as it is in one process.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import NoReturn

import pytest

from fairpos import FairModel
from fairpos.backends.hf import HFBackend
from fairpos.engines.on_ray import Ray
from fairpos_service.replicas import start_application
from fairpos_service.settings import Settings

THROUGH_RAY = os.environ.get("TEST_SERVICE_IN") == "ray"
_REPLICA = Ray(cpus=0.01)  # several services are there at once, and all but one idle
_NUMBERS = itertools.count()


@cache
def _proxy_port() -> int:
    """Starts a cluster and its proxy, once."""
    import ray
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": None})
    atexit.register(ray.shutdown)
    return port


def _saved(fair: FairModel) -> str:
    """A folder with the model, from which a replica loads it."""
    backend = fair.backend
    if type(backend) is not HFBackend:
        pytest.skip(f"a {type(backend).__name__} can't be loaded in a replica")
    folder = tempfile.mkdtemp(prefix="fairpos-replica-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    backend.model.save_pretrained(folder)
    backend.tokenizer.save_pretrained(folder)
    return folder


class Replica:
    """A service in a replica: `tests.service.running.Running` without what is inside.

    Attributes:
        url: "http://127.0.0.1:PORT/PREFIX".
    """

    def __init__(self, settings: Settings, loaded: Mapping[str, FairModel]) -> None:
        models = [f"{name}={_saved(fair)}" for name, fair in loaded.items()]
        self._settings = settings.model_copy(update={"models": [*settings.models, *models]})
        self._name = f"service-{next(_NUMBERS)}"
        self.url = f"http://127.0.0.1:{_proxy_port()}/{self._name}"

    def start(self) -> None:
        """Returns when it can be asked."""
        start_application(self._settings, _REPLICA, self._name, f"/{self._name}")

    def stop(self) -> None:
        """Ends the replica."""
        from ray import serve

        serve.delete(self._name)

    def __getattr__(self, name: str) -> NoReturn:
        pytest.skip(f"`{name}` is inside of the service, which is another process")
