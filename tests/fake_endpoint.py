"""An OpenAI-compatible chat endpoint on a free loopback port that answers, and fails, as it is told.

    with FakeEndpoint(lambda body, nth: Text("hello")) as endpoint:
        ...  # ask endpoint.url
        endpoint.calls[canonical(body)]   # calls per distinct request body

The script gets the request body and the number of this call among those with the same body (from 1), and returns a
reply.
`in_turn(A(), B(), ...)` gives each body A first, then B, ..., the last one ever after.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

Body: TypeAlias = Mapping[str, Any]


def canonical(body: Body) -> str:
    """One string for one body, however its keys are ordered."""
    return json.dumps(body, sort_keys=True)


@dataclass(frozen=True)
class Reply:
    """What is sent back: `latency_s` after the request, the bytes, then the end of the connection if `cut`."""

    status: int = 200
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    cut: bool = False


def Text(  # noqa: N802  reads as the reply that it makes
    text: str | None,
    *,
    logprobs: Sequence[tuple[str, float, Mapping[str, float]]] | None = None,
    finish_reason: str = "stop",
    refusal: str | None = None,
    latency_s: float = 0.0,
    usage: tuple[int, int] = (7, 3),
) -> Reply:
    """A completion; `logprobs` has (token, logprob, {alternative: logprob}) per token."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": refusal},
        "finish_reason": finish_reason,
        "logprobs": None,
    }
    if logprobs is not None:
        choice["logprobs"] = {
            "content": [
                {
                    "token": token,
                    "logprob": logprob,
                    "bytes": list(token.encode()),
                    "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()],
                }
                for token, logprob, top in logprobs
            ]
        }
    return Json({"object": "chat.completion", "choices": [choice], "usage": _usage(*usage)}, latency_s=latency_s)


def Json(value: object, *, status: int = 200, latency_s: float = 0.0) -> Reply:  # noqa: N802
    """Any JSON."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"}, latency_s)


def Error(status: int, *, code: str = "failed", message: str = "told to fail", **headers: str) -> Reply:  # noqa: N802
    """An error in OpenAI's shape; headers by name with `_` for `-`: Error(429, retry_after="1")."""
    content = json.dumps({"error": {"message": message, "type": "fake", "param": None, "code": code}}).encode()
    return Reply(status, content, {name.replace("_", "-"): value for name, value in headers.items()})


def Refusal(by: str = "model") -> Reply:  # noqa: N802
    """A refusal: by the "model", by an output "filter", or by a filter on the "prompt" (HTTP 400)."""
    if by == "prompt":
        return Error(400, code="content_filter", message="the prompt was filtered")
    if by == "filter":
        return Text("half of an ans", finish_reason="content_filter")
    return Text(None, refusal="I can't help with that.")


def TruncatedJson() -> Reply:  # noqa: N802
    """The first half of a good response, as if that were all of it."""
    whole = Text("a text that is cut off").content
    return Reply(200, whole[: len(whole) // 2])


def TruncatedBody() -> Reply:  # noqa: N802
    """Fewer bytes than the headers promise."""
    whole = Text("a text that is cut off").content
    return Reply(200, whole[: len(whole) // 2], {"Content-Length": str(len(whole))}, cut=True)


def Disconnect() -> Reply:  # noqa: N802
    """No response at all."""
    return Reply(0, cut=True)


def Hang(seconds: float = 60.0) -> Reply:  # noqa: N802
    """Nothing for so long, or until the endpoint is closed; then the end of the connection."""
    return Reply(0, latency_s=seconds, cut=True)


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


Script: TypeAlias = Callable[[dict[str, Any], int], Reply]
Aside: TypeAlias = Callable[[str, str, dict[str, Any]], Reply]  # method, path and body of a call that is no completion


def in_turn(*replies: Reply) -> Script:
    """The first reply for a body's first call, and so on; the last one for every further call."""
    return lambda _, nth: replies[min(nth, len(replies)) - 1]


class FakeEndpoint:
    """The server. Counts are of completions alone, and complete as soon as a client has its response.

    Args:
        script: What a completion gets.
        aside: What any other call gets; None: 404.

    Attributes:
        url: Base URL, ends with /v1.
        calls: Calls per body (see `canonical`).
        answered: Of these, how many got a whole response.
        bodies: Every body in the order of arrival.
        headers: The headers of every call, names in lower case, in the same order.
        most_at_once: The largest number of calls that were open together.
    """

    def __init__(self, script: Script, aside: Aside | None = None) -> None:
        self.script = script
        self.aside = aside or (lambda method, path, _: Error(404, message=f"no such path: {method} {path}"))
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def total(self) -> int:
        """All calls."""
        return sum(self.calls.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        """Counts the call and waits until as long after its arrival as the reply says."""
        arrived = time.monotonic()
        with self._lock:
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            self.calls[canonical(body)] += 1
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            nth = self.calls[canonical(body)]
        try:
            reply = self.script(body, nth)
            self._closing.wait(max(0.0, arrived + reply.latency_s - time.monotonic()))
        finally:
            with self._lock:
                self._open -= 1
        if not reply.cut:
            with self._lock:
                self.answered[canonical(body)] += 1
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, endpoint: FakeEndpoint) -> None:
        self.endpoint = endpoint
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is none of our errors."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._send(self.server.endpoint.aside("GET", self.path, {}))

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.partition("?")[0] != "/v1/chat/completions":
            self._send(self.server.endpoint.aside("POST", self.path, json.loads(content)))
            return
        self._send(self.server.endpoint.reply(json.loads(content), self.headers))

    def _send(self, reply: Reply) -> None:
        if reply.status:
            self.send_response(reply.status)
            for name, value in ({"Content-Length": str(len(reply.content))} | dict(reply.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.content)
        self.close_connection = reply.cut

    def log_message(self, *_: object) -> None:
        """Silent."""


def wait_until(true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits for a condition; fails if it doesn't come."""
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s")
        time.sleep(0.005)
