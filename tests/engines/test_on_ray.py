"""Actors of a real Ray, where it is installed: `make ray-test`. What the pool does with them is in test_pool.py."""

import json
import os
import signal
import sys
from contextlib import closing
from unittest import mock

import pytest

from fairpos.backends.openai import connect
from fairpos.engines import on_ray
from fairpos.engines.on_ray import Ray
from fairpos.engines.pooled import PooledBackend
from fairpos.errors import BackendError, InvalidOption, MissingDependency, ModelUnavailable, TooLong
from fairpos.passages import as_segments
from fairpos.types import Request
from tests.command_line import run_here
from tests.fake_endpoint import FakeEndpoint, Text

REQUESTS = [Request("rank", f"question {i}", as_segments(["one", "two", "three"])) for i in range(6)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"cpus": 0.0}, "cpus must be above 0, got 0.0"),
        ({"gpus": 1.5}, "a part of one or a whole number, got 1.5"),
        ({"gpus": -1.0}, "a part of one or a whole number, got -1.0"),
    ],
)
def test_a_share_of_a_cluster_that_cannot_be_is_refused(options, why):
    with pytest.raises(InvalidOption, match=why):
        Ray(**options)


def test_without_ray_the_command_that_brings_it_is_named():
    with mock.patch.dict(sys.modules, {"ray": None}), pytest.raises(MissingDependency, match=r"\[ray\]"):
        on_ray.load("smollm2")


def test_options_for_actors_want_the_engine(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "1", "query": "q", "passages": [{"id": "a", "text": "b"}]}))
    for command in (["rank", "a.jsonl"], ["answer", "a.jsonl"], ["calibrate", "icr", "--data", "a.jsonl"]):
        done = run_here(*command, "--actors", "2", "--model", "nowhere", cwd=tmp_path)
        assert (done.status, "--actors: for --engine ray" in done.stderr) == (2, True), done.stderr


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this process's own, with one core for each of two actors."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    yield Ray(workers=2)
    ray.shutdown()


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    """A tiny model on disk, as every node would have it."""
    from fairpos.testing.tiny import tiny_backend

    folder = tmp_path_factory.mktemp("tiny")
    backend = tiny_backend()
    backend.model.save_pretrained(folder)
    backend.tokenizer.save_pretrained(folder)
    return folder


def process_of(_, __):
    return os.getpid()


def killed(_, items):
    """Kills the actor in which it runs the first time: the file that it leaves says so."""
    for path in items:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "the second time"
        os.kill(os.getpid(), signal.SIGKILL)
    return None


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_local_model_in_actors(cluster, tiny_folder, tmp_path):
    from fairpos.opening import load

    fair, alone = on_ray.load(str(tiny_folder), cluster), load(str(tiny_folder))
    with closing(fair.backend) as backend:
        assert isinstance(backend, PooledBackend)
        assert (backend.capabilities, backend.context) == (alone.backend.capabilities, alone.backend.context)
        assert backend.revision == alone.backend.revision
        assert backend.on_one_worker(process_of) != os.getpid()
        assert fair.run(REQUESTS, "permutation:views=3") == alone.run(REQUESTS, "permutation:views=3")
        with pytest.raises(TooLong):
            fair.answer("x " * 5000, ["one", "two"])
        assert backend.on_one_worker(killed, [str(tmp_path / "was here")]) == "the second time"
        assert fair.run(REQUESTS, "permutation:views=3") == alone.run(REQUESTS, "permutation:views=3")


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_not_there_is_said_as_in_one_process(cluster):
    fair = on_ray.load("no-such-folder/no-such-model", cluster)
    with closing(fair.backend), pytest.raises(ModelUnavailable, match="no-such-model"):
        fair.run(REQUESTS)


@pytest.mark.filterwarnings("ignore")
def test_an_endpoint_asked_by_actors(cluster):
    with FakeEndpoint(lambda body, nth: Text("[2] > [1] > [3]")) as server:
        endpoint = connect(f"openai:{server.url}#m")
        fair = on_ray.load_endpoint(endpoint, cluster)
        with closing(fair.backend):
            outputs = fair.run(REQUESTS, "none", ranker="generate")
    assert [output.ranking for output in outputs] == [("2", "1", "3")] * 6
    assert server.total == 6


def test_a_machine_without_room_for_one_actor_is_said(cluster):
    with pytest.raises(InvalidOption, match="room for 0 of 1 actors with 1 cores and 8 GPUs"):
        Ray(gpus=8.0).connect()


def test_nobody_at_the_address_is_said_at_once():
    pytest.importorskip("ray")
    with mock.patch("ray.is_initialized", return_value=False), pytest.raises(BackendError, match="no Ray cluster"):
        Ray(address="127.0.0.1:1").connect()
