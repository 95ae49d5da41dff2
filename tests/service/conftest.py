"""One service with a tiny local model, for tests that need nothing special of it."""

from collections.abc import Iterator

import pytest

from fairpos import FairModel
from tests.service.replica import THROUGH_RAY
from tests.service.running import Running, running, tiny
from tests.service.upstream import Scripted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a replica nobody sees the service's log, nor what a test changes in its own process; Ray speaks HTTP there."""
    for item in items if THROUGH_RAY else ():
        unseen = {"caplog", "monkeypatch"} & set(getattr(item, "fixturenames", ()))
        if unseen:
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(sorted(unseen))}: of this process alone"))
        if item.get_closest_marker("own_server") is not None:
            item.add_marker(pytest.mark.skip(reason="of the HTTP server that fairpos starts, not of Ray's proxy"))


@pytest.fixture(scope="session")
def tiny_fair() -> FairModel:
    """A random Llama that writes bytes."""
    return tiny()


@pytest.fixture(scope="session")
def service(tiny_fair: FairModel) -> Iterator[Running]:
    """A local model and nothing else."""
    with running({"tiny": tiny_fair}, max_new_tokens=64) as it:
        yield it


@pytest.fixture(scope="session")
def upstream() -> Iterator[Scripted]:
    """An upstream that answers and streams as it should."""
    with Scripted() as it:
        yield it


@pytest.fixture(scope="session")
def proxy(upstream: Scripted) -> Iterator[Running]:
    """That upstream and nothing else."""
    with running(upstream=upstream.url) as it:
        yield it
