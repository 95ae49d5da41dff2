"""Whatever is sent, the service answers as its OpenAPI says, and never with a fault of its own."""

import itertools
import json

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_headers_conformance, response_schema_conformance

from tests.service.running import running, tiny
from tests.service.upstream import Scripted

pytestmark = pytest.mark.filterwarnings("ignore")  # of the tools

CHATS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v2/chat",
         "/v1/messages/count_tokens"]  # fmt: skip
PATHS = [*CHATS, "/rerank", "/v1/score", "/v1/judge", "/v1/arrange", "/v1/calibrations"]
FIELDS = [
    "model", "messages", "documents", "texts", "query", "instruction", "answers", "response_a", "response_b", "fairpos",
    "top_n", "stream", "n", "stop", "temperature", "max_tokens", "records", "count", "stream_options", "seed", "tools",
    "prompt", "echo", "logprobs", "top_logprobs", "input", "instructions", "text", "system", "stop_sequences",
    "response_format", "output_format", "output_config", "citation_options", "max_output_tokens", "top_p", "p",
    "include", "text_1", "text_2", "best_of", "thinking", "store", "top_k",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def profiles(tmp_path_factory):
    """Calibrations go where nobody looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRPOS_PROFILES", str(tmp_path_factory.mktemp("profiles")))
        yield


@pytest.fixture(scope="module")
def small():
    """A service whose limits keep every answer short."""
    with running(
        {"tiny": tiny(context=512)}, max_new_tokens=4, max_documents=8, max_calls=20, max_body_bytes=100_000
    ) as s:
        yield s


@pytest.fixture(scope="module")
def small_proxy():
    with Scripted() as up, running(upstream=up.url, max_documents=8, max_calls=20) as s:
        yield s


def test_openapi(small):
    schema = schemathesis.openapi.from_url(small.url + "/openapi.json")
    failed = []
    for operation in (result.ok() for result in schema.get_all_operations()):

        @settings(
            max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def probe(case):
            case.call_and_validate(
                checks=[not_a_server_error, response_schema_conformance, response_headers_conformance]
            )

        try:
            probe()
        except Exception as error:
            failed.append(f"{operation.label}: {error}")
    assert not failed, "\n\n".join(failed)


def test_every_example_in_the_schema_is_good(small):
    schema = httpx2.get(small.url + "/openapi.json").json()
    parts = schema["components"]["schemas"]
    paths = {
        "ChatRequest": "/v1/chat/completions",
        "CompletionRequest": "/v1/completions",
        "ResponsesRequest": "/v1/responses",
        "MessagesRequest": "/v1/messages",
        "CohereChatRequest": "/v2/chat",
        "TokenCountRequest": "/v1/messages/count_tokens",
        "RerankRequest": "/v2/rerank",
        "JudgeRequest": "/v1/judge",
        "ArrangeRequest": "/v1/arrange",
    }
    for name, path in paths.items():
        for example in parts[name]["examples"]:
            example.pop("model", None)
            reply = httpx2.post(small.url + path, json=example)
            assert reply.status_code == 200, (name, reply.text)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(
    ["tiny", "none", "user", "system", "assistant", "permutation", "pine+ms_poe", "attn_rank", "edges:relevance=bm25",
     "windows:size=2", "\ud800", "<|im_end|>", "icr", "none:", "set_based:x", "swap", "+", "query_twice"]
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["role", "content", "text", "id", "title", "data", "score", "type", "source", "methods", "seed",
                         "on_unsupported", "template", "passages", "query", "gold", "answers", "pairs"])
        | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
inner_texts = st.just("x") | st.lists(st.just({"type": "text", "text": "x"}) | values, max_size=2) | values
sources = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "content", "base64", "url"])},
    optional={"data": inner_texts, "content": inner_texts},
)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "input_text", "output_text", "search_result", "document", "image", "tool_use"])},
    optional={
        "text": st.just("q") | values, "source": st.just("s") | sources | values, "title": scalars,
        "content": inner_texts, "document": st.just({"id": "d", "data": {"text": "x"}}) | values, "data": values,
        "id": scalars, "citations": st.fixed_dictionaries({"enabled": scalars}) | values,
    },
)  # fmt: skip
messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "user", "system", "assistant", "developer", "tool"]),
            "content": st.just("q") | st.lists(blocks, max_size=3) | values,
        },
        optional={"type": st.just("message") | values, "id": scalars, "status": scalars},
    ),
    max_size=3,
)
schemas = st.fixed_dictionaries(
    {"type": st.sampled_from(["json_schema", "json_object", "text"])},
    optional={"schema": st.just({"type": "object"}) | values, "json_schema": values, "format": values},
)
likely = {
    "n": st.integers(0, 3) | values,
    "logprobs": st.booleans() | st.integers(0, 3) | values,
    "top_logprobs": st.integers(0, 3) | values,
    "stream": st.booleans() | values,
    "echo": st.booleans() | values,
    "include": st.lists(st.just("message.output_text.logprobs") | scalars, max_size=2) | values,
    "system": st.lists(blocks, max_size=2) | values,
    "citation_options": st.fixed_dictionaries({"mode": st.sampled_from(["FAST", "ACCURATE", "OFF"]) | values}) | values,
    "output_config": st.fixed_dictionaries({"format": schemas | values}) | values,
    "text_1": st.just("q") | values,
    "text_2": st.lists(st.text(max_size=8) | values, max_size=3),
    "prompt": st.text(max_size=8) | st.lists(st.integers(0, 300), max_size=4) | values,
    "input": messages | values,
    "text": st.fixed_dictionaries({"format": schemas | values}),
    "response_format": schemas | values,
    "output_format": schemas | values,
    "max_tokens": st.integers(0, 4) | values,
    "messages": messages | st.just([{"role": "user", "content": "q"}]),
    "documents": st.lists(st.text(max_size=8) | values, max_size=4) | st.just(["a", "b"]),
    "query": st.just("q") | values,
    "instruction": st.just("i") | values,
    "answers": st.lists(st.text(max_size=8) | values, max_size=3),
    "records": st.lists(values, max_size=2),
    "fairpos": st.fixed_dictionaries(
        {},
        optional={
            "methods": scalars | values,
            "seed": scalars,
            "ranker": scalars,
            "citations": scalars,
            "votes": scalars,
            "fit": scalars,
        },
    )
    | values,
}
GOOD = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "q"}], "documents": ["a", "b"], "max_tokens": 2},
    "/v1/completions": {"prompt": "q", "max_tokens": 2},
    "/v1/responses": {"input": "q", "documents": ["a", "b"], "max_output_tokens": 2},
    "/v1/messages": {"messages": [{"role": "user", "content": "q"}], "documents": ["a", "b"], "max_tokens": 2},
    "/v2/chat": {"messages": [{"role": "user", "content": "q"}], "documents": ["a", "b"], "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "q"}], "documents": ["a", "b"]},
    "/rerank": {"query": "q", "documents": ["a", "b"]},
    "/v1/score": {"text_1": "q", "text_2": ["a", "b"]},
    "/v1/judge": {"instruction": "i", "answers": ["a", "b"]},
    "/v1/arrange": {"query": "q", "documents": ["a", "b"]},
    "/v1/calibrations": {"records": [{"id": "1", "query": "q", "passages": ["a", "b"]}], "count": 2, "layers": "all"},
}


@st.composite
def requests(draw, paths=tuple(PATHS)):
    """A path, and a good body for it in which some fields are others, more or fewer."""
    path = draw(st.sampled_from(paths))
    names = draw(st.lists(st.sampled_from(FIELDS), max_size=3, unique=True))
    changed = {name: draw(likely.get(name, values)) for name in names}
    left_out = draw(st.sets(st.sampled_from(sorted(GOOD[path])), max_size=1)) if draw(st.integers(0, 4)) == 0 else set()
    return path, {name: value for name, value in (GOOD[path] | changed).items() if name not in left_out}


def fuzz(url, path, body):
    """Sends a body; anything but a clean answer or a clean refusal is our fault. Returns the status."""
    content = json.dumps(body).encode()
    reply = httpx2.post(url + path, content=content, headers={"content-type": "application/json"}, timeout=60)
    assert reply.status_code < 500 or reply.json()["error"]["code"].startswith(("upstream_", "model_")), (
        path, content, reply.text)  # fmt: skip
    if reply.status_code >= 400:
        assert reply.json()["error"]["message"] == reply.json()["detail"] == reply.json()["message"]
    elif path == "/rerank":
        found = reply.json()
        scores = (
            [r["score"] for r in found] if isinstance(found, list) else [r["relevance_score"] for r in found["results"]]
        )
        if not body.get("raw_scores"):
            assert all(0 <= score <= 1 for score in scores)
            assert all(a > b for a, b in itertools.pairwise(scores))
    return reply.status_code


@settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_fuzzed_bodies_on_a_local_model(small, request):
    fuzz(small.url, *request)


@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(request=requests(paths=CHATS))
def test_fuzzed_chats_on_an_upstream(small_proxy, request):
    fuzz(small_proxy.url, *request)
