"""What the event loop of a fresh process imports while it answers: `python -m tests.service.imports_in_the_loop`.

A loop that imports stands still for all clients, up to seconds on a busy machine.
"""

import json
import sys
import threading

import httpx2

from tests.service.running import running, tiny
from tests.service.upstream import Scripted, completion

QUESTION = [{"role": "user", "content": "Which?"}]
DOCUMENTS = ["alpha", "beta", "gamma"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
CHAT = {"messages": QUESTION, "max_tokens": 4}
VOTES = {"methods": "permutation:views=2", "fit": "keep"}
BODIES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    ("/v1/chat/completions", CHAT | {"n": 2, "logprobs": True, "top_logprobs": 2}),
    ("/v1/chat/completions", CHAT | {"documents": DOCUMENTS, "fairpos": {"methods": "set_based", "citations": True}}),
    ("/v1/chat/completions", CHAT | {"documents": DOCUMENTS, "fairpos": VOTES}),
    ("/v1/chat/completions", CHAT | {"documents": DOCUMENTS, "fairpos": {"methods": "no such method"}}),
    (
        "/v1/chat/completions",
        CHAT | {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    ),
    ("/v1/completions", {"prompt": "x", "max_tokens": 2, "logprobs": 1, "echo": True}),
    ("/v1/responses", {"input": "q", "max_output_tokens": 4}),
    ("/v1/responses", {"input": "q", "max_output_tokens": 4, "stream": True}),
    ("/v1/messages", CHAT),
    ("/v1/messages", CHAT | {"stream": True}),
    ("/v1/messages/count_tokens", {"messages": QUESTION}),
    ("/v2/chat", CHAT | {"documents": DOCUMENTS}),
    ("/rerank", {"query": "q", "documents": DOCUMENTS}),
    ("/score", {"text_1": "q", "text_2": DOCUMENTS}),
    ("/v1/judge", {"instruction": "i", "answers": DOCUMENTS}),
    ("/v1/arrange", {"query": "q", "documents": DOCUMENTS, "fairpos": {"methods": "edges"}}),
    ("/v1/embeddings", {"input": "x"}),
    ("/v1/calibrations", {"records": [{"query": "q", "documents": DOCUMENTS}] * 2, "count": 3}),
]
PAGES = ["/", "/page.js", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/v1/models", "/v1/methods"]


class ImportsOfThread:
    """A finder that finds nothing and remembers what one thread looked for."""

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        self.names: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if threading.current_thread() is self.thread:
            self.names.append(name)


def main() -> None:
    found = {}
    with Scripted(completion) as up:
        for kind, loaded, settings in (("upstream", {}, {"upstream": up.url}), ("local", {"tiny": tiny()}, {})):
            with running(loaded, **settings) as service, httpx2.Client(base_url=service.url, timeout=60) as client:
                imports = ImportsOfThread(service._thread)
                sys.meta_path.insert(0, imports)
                for path in PAGES:
                    client.get(path)
                for path, body in BODIES:
                    client.post(path, json=body)
                sys.meta_path.remove(imports)
                found[kind] = imports.names
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
