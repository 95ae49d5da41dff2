"""Replicas of Ray Serve: what they are made of, and, where Ray is installed (`make ray-test`), two of them at work."""

import asyncio
import socket
import sys
import time
from contextlib import asynccontextmanager
from unittest import mock

import httpx2
import pytest
from fastapi import FastAPI

from fairpos.engines.on_ray import Ray
from fairpos.errors import InvalidOption, MissingDependency, ModelUnavailable
from fairpos_service.app import create_app
from fairpos_service.replicas import WithoutRequestId, builder_of, deploy, with_models_loaded
from fairpos_service.settings import Settings
from tests.command_line import run_here


@asynccontextmanager
async def nothing(_: FastAPI):
    yield


class Loading:
    """A state whose model is loaded, or can't be, at the third look."""

    def __init__(self, fails: bool) -> None:
        self.looks, self.fails = 0, fails

    @property
    def ready(self) -> bool:
        self.looks += 1
        return self.looks > 2 and not self.fails

    @property
    def failed(self) -> dict[str, str]:
        return {"m": "no room"} if self.fails and self.looks > 2 else {}


def test_a_replica_begins_when_its_models_are_loaded():
    async def begin(state: Loading) -> int:
        async with with_models_loaded(nothing, state)(FastAPI()):  # type: ignore[arg-type]
            return state.looks

    assert asyncio.run(begin(Loading(fails=False))) == 3
    with pytest.raises(ModelUnavailable, match="'m' can't be loaded: no room"):
        asyncio.run(begin(Loading(fails=True)))


def test_the_application_is_the_same_as_in_one_process():
    settings = Settings(upstream="http://127.0.0.1:9/v1")
    built, plain = builder_of(settings)(), create_app(settings)
    assert built.openapi() == plain.openapi()
    around, *others = [middleware.cls for middleware in built.user_middleware]
    assert (around, others) == (WithoutRequestId, [middleware.cls for middleware in plain.user_middleware])


@pytest.mark.parametrize(
    ("settings", "why"), [({"workers": 2}, "take --replicas"), ({"port": 0}, "a port that is said")]
)
def test_what_replicas_cannot_do_is_refused(settings, why):
    with pytest.raises(InvalidOption, match=why):
        deploy(Settings(**settings), Ray())


def test_without_ray_the_command_that_brings_it_is_named():
    with mock.patch.dict(sys.modules, {"ray": None}), pytest.raises(MissingDependency, match=r"\[ray\]"):
        deploy(Settings(), Ray())


def test_options_for_replicas_want_the_engine():
    done = run_here("serve", "--replicas", "2", "--upstream", "http://127.0.0.1:9/v1")
    assert (done.status, "--replicas: for --engine ray" in done.stderr) == (2, True), done.stderr


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Two replicas with a tiny model, a key each for users and administrators, and one folder of profiles."""
    ray = pytest.importorskip("ray")
    from ray import serve

    from fairpos.testing.tiny import tiny_backend

    backend = tiny_backend()
    backend.model.save_pretrained(tmp_path / "tiny")
    backend.tokenizer.save_pretrained(tmp_path / "tiny")
    monkeypatch.setenv("FAIRPOS_PROFILES", str(tmp_path / "profiles"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    keys = {"api_keys": ["key"], "admin_keys": ["admin"]}
    deploy(Settings(models=[str(tmp_path / "tiny")], port=port, **keys), Ray(workers=2, cpus=0.5))
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        client.headers["Authorization"] = "Bearer key"
        yield client
    serve.shutdown()
    ray.shutdown()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_replicas_serve_as_one(served):
    documents = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "documents": documents, "max_tokens": 4}
    replies = [served.post("/v1/chat/completions", json=body | {"fairpos": {"methods": "set_based"}}) for _ in range(6)]
    assert {reply.status_code for reply in replies} == {200}, replies[0].text
    assert all("," not in reply.headers["x-request-id"] for reply in replies)
    assert len({reply.json()["choices"][0]["message"]["content"] for reply in replies}) == 1
    with served.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 2
    ranked = served.post("/v1/rerank", json={"query": "q", "documents": ["one", "two", "three"]})
    assert sorted(result["index"] for result in ranked.json()["results"]) == [0, 1, 2]
    wrong = [served.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer no"}) for _ in range(6)]
    assert {reply.status_code for reply in wrong} == {401}
    admin = {"Authorization": "Bearer admin"}
    pairs = [[str(i), str(i * 7)] for i in range(3)]
    records = [{"id": str(i), "query": str(i % 3), "pairs": pairs} for i in range(4)]
    made = served.post("/v1/calibrations", json={"count": 3, "records": records, "layers": "all"}, headers=admin)
    assert made.status_code == 200, made.text
    end = time.monotonic() + 5
    while time.monotonic() < end:  # whichever replica is asked knows the profile
        [card] = served.get("/v1/calibrations", headers=admin).json()["data"]
        assert card["id"] == made.json()["id"]
        time.sleep(0.2)
