"""Traces, as a collector receives them that speaks OTLP over HTTP; none where the operator named no collector."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fairpos_service.traces import collector_is_named

# The service in a process of its own: a process has one provider of traces, for good.
SCRIPT = """
import asyncio, httpx2, json, sys
from tests.service.running import running, tiny
from tests.service.upstream import Scripted

TEXTS = {"documents": ["alpha", "beta", "gamma"]}
QUESTION = {"messages": [{"role": "user", "content": "SECRET question"}], "max_tokens": 2}

async def ask(url, *methods):
    async with httpx2.AsyncClient(timeout=60) as client:
        posts = [client.post(url + "/v1/chat/completions", json={**QUESTION, **TEXTS, "fairpos": {"methods": m}})
                 for m in methods]
        assert {reply.status_code for reply in await asyncio.gather(*posts)} == {200}

with running({"tiny": tiny()}) as local, Scripted() as up, running(upstream=up.url) as proxy:
    asyncio.run(ask(local.url, "permutation:views=3,aggregation=majority", "set_based"))
    asyncio.run(ask(proxy.url, "permutation:views=3", "none"))
    httpx2.get(proxy.url + "/v1/models")
"""


class Collector:
    """A server that takes traces; `spans` has those that came."""

    def __init__(self):
        self.spans = []
        self.paths = []
        self.bodies = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.paths.append(self.path)
                collector.bodies += body
                if self.path == "/v1/traces":
                    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                        collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def serve_with(**variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment = {**kept, "OMP_NUM_THREADS": "1", "OTEL_EXPORTER_OTLP_COMPRESSION": "none", **variables}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.fixture(scope="module")
def collector():
    collector = Collector()
    serve_with(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def attributes(span):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def request_with(collector, methods):
    """The span of the request with these methods, and those below it."""
    [found] = [span for span in collector.spans if attributes(span).get("fairpos.methods") == methods]
    below = [span for span in collector.spans if span.trace_id == found.trace_id and span is not found]
    return attributes(found), [(span.name, attributes(span)) for span in below]


def test_a_local_models_batches_are_in_the_trace_of_their_request(collector):
    told, below = request_with(collector, "permutation:views=3,aggregation=majority")
    assert (told["fairpos.views"], told["fairpos.calls"], told["fairpos.segments"]) == (3, 3, 3)
    assert told["fairpos.order_free"] is True
    batches = [each for name, each in below if name == "fairpos.batch"]
    assert sum(each["fairpos.calls"] for each in batches) == 3
    assert all(each["fairpos.batch_calls"] >= each["fairpos.calls"] for each in batches)
    assert {each["fairpos.kind"] for each in batches} == {"generate"}
    told, below = request_with(collector, "set_based")
    assert told["fairpos.completion_tokens"] == 2
    assert [name for name, _ in below if name.startswith("fairpos.")] == ["fairpos.batch"]


def test_calls_of_an_upstream_are_in_the_trace_of_their_request(collector):
    _, below = request_with(collector, "permutation:views=3")
    calls = [each for name, each in below if name == "fairpos.upstream_call"]
    assert len(calls) == 3
    assert {each["http.response.status_code"] for each in calls} == {200}
    _, below = request_with(collector, "none")
    assert [each["fairpos.path"] for name, each in below if name == "fairpos.relay"] == ["/chat/completions"]


def test_no_texts_are_told(collector):
    assert collector.spans
    assert b"SECRET" not in collector.bodies
    assert b"alpha" not in collector.bodies


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_SERVICE_NAME": "fairpos"}, False),
    ],
)
def test_nothing_is_sent_unless_a_collector_is_named(monkeypatch, variables, named):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert collector_is_named() is named
