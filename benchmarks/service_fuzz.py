"""Many fuzzed bodies against a running service: `python -m benchmarks.service_fuzz --bodies 20000 --raw 1000`.

The same bodies as the tests, only more of them and others every time; the upstream behind the proxy answers as asked,
so that any 5xx is the service's. Then bytes that are hardly HTTP, on raw connections. Prints how many got which status.
They are made in slices of `SLICE`, each from a seed of its own: what hypothesis remembers of one run grows with it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import tempfile
import time
from collections import Counter

import httpx2
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.service.running import running, tiny
from tests.service.test_schema import fuzz, requests
from tests.service.upstream import Connection, Received, Scripted, completion, whole

SLICE = 1000


async def answer(request: Received, connection: Connection) -> None:
    """A ranking where one is wanted, a verdict elsewhere: no 5xx is the upstream's."""
    if request.method == "GET" or request.body.get("stream"):
        await completion(request, connection)
        return
    ranked = re.search(rb"Rank all (\d+) passages", request.content)
    places = range(1, int(ranked[1]) + 1) if ranked else ()
    await connection.json(whole(" > ".join(f"[{place}]" for place in places) or "[[A]]"))


def raw_bytes(draw: random.Random) -> bytes:
    """A request of which some part is cut off, doubled, replaced or in the wrong place."""
    body = b'{"query": "q", "documents": ["a", "b"]}'
    parts = [
        draw.choice([b"POST", b"GET", b"HEAD", b"OPTIONS", b"PRI", b"\x16\x03\x01", b"post"]) + b" ",
        draw.choice([b"/rerank", b"/v1/chat/completions", b"*", b"//", b"/%ff%00", b"http://x/rerank", b"/" * 9000]),
        draw.choice([b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/9.9\r\n", b"\r\n", b" HTTP/1.1\n"]),
        draw.choice([b"Host: x\r\n", b"", b"Host: x\r\nHost: y\r\n", b"Host\r\n", b"\xff: \x00\r\n"]),
        draw.choice([b"Content-Length: %d\r\n" % len(body), b"Content-Length: -1\r\n", b"Content-Length: 1e9\r\n",
                     b"Content-Length: 99999999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
                     b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n"]),
        b"\r\n",
        draw.choice([body, b"5\r\nabcde\r\n0\r\n\r\n", b"zz\r\n", draw.randbytes(40), b""]),
    ]  # fmt: skip
    if draw.random() < 0.3:
        parts.insert(draw.randrange(len(parts)), draw.randbytes(draw.randint(1, 30)))
    whole_request = b"".join(parts)
    return whole_request[: draw.randint(1, len(whole_request))] if draw.random() < 0.3 else whole_request


def send_raw(url: str, content: bytes) -> int:
    """The status of what comes; 0: the connection was closed without an answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        try:
            received = connection.recv(4096)
        except ConnectionError:
            return 0
    return int(received[9:12]) if received.startswith(b"HTTP/1.1 ") else 0


def count_bodies(seen: Counter[tuple[str, int]], urls: tuple[str, str], count: int, seeded: int) -> None:
    """Sends so many bodies, one in six to the proxy."""
    local, proxy = urls

    @seed(seeded)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(request=requests(), upstream=st.integers(0, 5).map(lambda n: n == 0))
    def probe(request: tuple[str, dict[str, object]], upstream: bool) -> None:
        path, body = request
        url, name = (proxy, f"{path} (upstream)") if upstream else (local, path)
        seen[name, fuzz(url, path, body)] += 1

    probe()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--raw", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seen: Counter[tuple[str, int]] = Counter()
    began = time.monotonic()
    os.environ["FAIRPOS_PROFILES"] = tempfile.mkdtemp()
    limits = {"max_documents": 8, "max_calls": 20, "header_timeout_s": 0.2, "body_timeout_s": 0.2}
    with (
        Scripted(answer) as up,
        running({"tiny": tiny(context=512)}, max_new_tokens=4, **limits) as local,
        running(upstream=up.url, **limits) as proxy,
    ):
        for number, begin in enumerate(range(0, options.bodies, SLICE)):
            count_bodies(seen, (local.url, proxy.url), min(SLICE, options.bodies - begin), options.seed + number)
            print(f"{sum(seen.values())} bodies after {time.monotonic() - began:.0f} s", flush=True)
        draw = random.Random(options.seed)
        for _ in range(options.raw):
            seen["raw TCP", send_raw(local.url, raw_bytes(draw))] += 1
        assert httpx2.get(local.url + "/health/live").status_code == 200
    for (path, status), count in sorted(seen.items()):
        print(f"{path:36} {status} {count:7}")
    faults = sum(count for (_, status), count in seen.items() if status >= 500)
    print(f"{sum(seen.values())} bodies, {faults} with a 5xx; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
