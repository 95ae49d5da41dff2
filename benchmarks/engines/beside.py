"""rank-llm and rerankers beside fairpos: the same lists at the same server, and the same malformed replies.

    python -m benchmarks.engines.beside llama.cpp [--folder FOLDER]      sets server and peers up from nothing

Ten lists of 20 passages (NQ-open), given to each tool together, one call a list by its own prompt: calls that the
server got, seconds (medians of `--rounds` in turns; neither importing a tool counts nor the three short calls by which
fairpos finds out, once, what a server can do), passages that are missing from a result or stand in it twice. rank-llm
and rerankers go through the lists one by one, fairpos has 16 calls on their way. Then a server that answers what a
model shouldn't: for each reply, whether a tool gives an order that nobody gave. rank-llm and rerankers ask for a list
in words; fairpos does so too ("generate"), and by the first token's log-probabilities ("first_token"), which is its
default. Writes results/engines-beside.json and its table in docs/endpoints.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from benchmarks.engines.agreement import HERE, opened
from benchmarks.engines.servers import ENGINES, environment
from benchmarks.pages import fill
from fairpos import FairModel, Request
from fairpos.backends.openai import connect
from fairpos.passages import as_segments

PACKAGES = ("rank-llm==0.25.7", "rerankers==0.10.0")
# What the two import on the way; rank-llm also names vLLM and faiss, which aren't needed to ask a server.
NEEDED = (
    "litellm==1.83.0",
    "ftfy",
    "dacite",
    "python-dotenv",
    "tiktoken",
    "tqdm",
    "pandas",
    "torch==2.13.0",
    "transformers<5",
)
PEERS = Path(__file__).with_name("peers.py")
SIZE = 20
ALL = [str(i) for i in range(1, SIZE + 1)]
# Name -> (reply, what it ranks first, best first; None: it ranks nothing).
REPLIES: dict[str, tuple[str, list[int] | None]] = {
    "a whole list": (" > ".join(f"[{i}]" for i in reversed(ALL)), list(range(SIZE, 0, -1))),
    "a refusal": ("I'm sorry, but I can't rank these 20 passages: 3 of them are empty.", None),
    "prose with numbers": ("Passages [4] and [2] are about 1066; passage [7] is from 2 years later.", None),
    "a denial": ("None of [1], [2], [3] answers the query.", None),
    "the worst first": ("From the least to the most relevant: [3] < [1] < [2]", None),
    "numbers out of range": ("[25] > [3] > [99] > [1]", [3, 1]),
    "duplicates": ("[2] > [2] > [5] > [2] > [1]", [2, 5, 1]),
    "a numbered list": ("1. [3]\n2. [1]\n3. [2]", [3, 1, 2]),
    "an empty reply": ("", None),
}
Ranked = list[int] | str  # numbers of documents as they came back, from 0; or what was raised


class Relay(ThreadingHTTPServer):
    """Passes calls to a server and counts them, or answers by itself.

    Attributes:
        upstream: Base URL of the server; None where `script` answers.
        script: Query -> reply.
        calls: Completions that were asked for.
    """

    daemon_threads = True

    def __init__(self, upstream: str | None, script: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), RelayHandler)
        self.upstream, self.script, self.calls = upstream, script, 0
        self.http = httpx.Client(timeout=600)
        self.lock = threading.Lock()

    def count_anew(self) -> None:
        """Forgets the calls so far."""
        self.calls = 0

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class RelayHandler(BaseHTTPRequestHandler):
    """One request."""

    server: Relay

    def do_GET(self) -> None:
        """What a client wants to know of the server."""
        self.answer(b"")

    def do_POST(self) -> None:
        """A completion, or what else is posted."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("completions"):
            with self.server.lock:
                self.server.calls += 1
        self.answer(body)

    def answer(self, body: bytes) -> None:
        """Passes it on, or says what the script has for the query in it."""
        if self.server.upstream is not None:
            root = self.server.upstream.removesuffix("/v1")
            kept = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "accept")}
            reply = self.server.http.request(self.command, root + self.path, content=body, headers=kept)
            self.send(reply.status_code, reply.content)
            return
        text = next((reply for query, reply in self.server.script.items() if query.encode() in body), None)
        if not self.path.endswith("chat/completions") or text is None:
            self.send(404, b'{"error": {"message": "not here"}}')
            return
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "smollm2", "choices": [choice]}
        self.send(200, json.dumps({**whole, "usage": usage}).encode())

    def send(self, status: int, body: bytes) -> None:
        """One JSON reply."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def relayed(upstream: str | None, script: dict[str, str]) -> Iterator[Relay]:
    """A relay while it is needed."""
    relay = Relay(upstream, script)
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    try:
        yield relay
    finally:
        relay.shutdown()
        relay.server_close()


Lists = Sequence[dict[str, object]]
# The orders, and the seconds that they took; a tool may say when it begins with them.
Tool = Callable[[str, Lists, Callable[[], None]], tuple[list[Ranked], float]]


def peer(name: str, python: str) -> Tool:
    """A tool that runs in an environment of its own."""

    def rank(url: str, lists: Lists, _: Callable[[], None]) -> tuple[list[Ranked], float]:
        with tempfile.TemporaryDirectory() as folder:
            asked, out = Path(folder, "lists.json"), Path(folder, "out.json")
            asked.write_text(json.dumps(lists), encoding="utf-8")
            # -P: this folder has modules that are called as packages are.
            words = [python, "-P", str(PEERS), name, url, str(asked), str(out)]
            done = subprocess.run(words, capture_output=True, text=True, timeout=1800)
            if done.returncode:
                raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
            ranked = json.loads(out.read_text(encoding="utf-8"))
        return ranked["found"], ranked["seconds"]

    return rank


def ours(ranker: str) -> Tool:
    """fairpos with one order, all lists in one run. What the reply doesn't rank is left out, and the status says so."""

    def rank(url: str, lists: Lists, begin: Callable[[], None]) -> tuple[list[Ranked], float]:
        requests = [Request("rank", str(each["query"]), as_segments(each["documents"])) for each in lists]
        backend = connect(f"openai:{url}#smollm2", timeout_s=600)
        with backend.client:
            backend.client.wait_for(backend.find_abilities)
            begin()
            started = time.monotonic()
            outputs = FairModel(backend).run(requests, ranker=ranker)
        seconds = time.monotonic() - started
        found: list[Ranked] = [
            [int(id) - 1 for id in output.ranking] if output.ranking else f"status: {output.status}"
            for output in outputs
        ]
        return found, seconds

    return rank


def real_lists() -> list[dict[str, object]]:
    """Ten questions, the passages of two groups each."""
    lines = (HERE / "data" / "nq_groups10.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line) for line in lines]
    passages = [[f"{p['title']}: {p['text']}" for p in group["passages"]] for group in groups]
    return [
        {"query": group["questions"][0]["question"], "documents": passages[i] + passages[(i + 1) % len(groups)]}
        for i, group in enumerate(groups[:10])
    ]


def verdict(found: Ranked, listed: list[int] | None) -> str:
    """What a tool made of a reply: the order that it gives, in words."""
    if isinstance(found, str):
        return "no order, said so" if found.startswith("status") else f"raised {found.split(':')[0]}"
    order = [number + 1 for number in found]
    if listed is None:
        return "the order shown, as a ranking" if order == list(range(1, SIZE + 1)) else "an order that nobody gave"
    if order[: len(listed)] != listed:
        return "another order"
    return "the order given" if len(order) == len(listed) else "the order given, then the order shown"


def malformed(tools: dict[str, Tool]) -> dict[str, dict[str, str]]:
    """Reply -> tool -> what it made of it."""
    queries = {name: f"question {number} of a kind" for number, name in enumerate(REPLIES, 100)}
    lists = [{"query": queries[name], "documents": [f"Text number {i}." for i in ALL]} for name in REPLIES]
    script = {queries[name]: reply for name, (reply, _) in REPLIES.items()}
    found: dict[str, dict[str, str]] = {name: {} for name in REPLIES}
    with relayed(None, script) as relay:
        for tool, rank in tools.items():
            orders, _ = rank(relay.url, lists, relay.count_anew)
            for name, order in zip(REPLIES, orders, strict=True):
                found[name][tool] = verdict(order, REPLIES[name][1])
    return found


def real(tools: dict[str, Tool], url: str, rounds: int) -> dict[str, dict[str, float]]:
    """Tool -> calls, seconds, and what became of the passages."""
    lists = real_lists()
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    figures: dict[str, dict[str, float]] = {}
    with relayed(url, {}) as relay:
        for _ in range(rounds):
            for tool, rank in tools.items():
                relay.count_anew()
                found, taken = rank(relay.url, lists, relay.count_anew)
                seconds[tool].append(taken)
                orders = [order for order in found if not isinstance(order, str)]
                figures[tool] = {
                    "calls": relay.calls,
                    "seconds": round(statistics.median(seconds[tool]), 1),
                    "raised_or_refused": len(found) - len(orders),
                    "not_ranked": sum(SIZE - len(set(order)) for order in orders),
                    "twice": sum(len(order) - len(set(order)) for order in orders),
                    "as_shown": sum(order == list(range(SIZE)) for order in orders),
                }
                print(tool, figures[tool], flush=True)
    return figures


def tables(found: dict[str, Any]) -> str:
    """Both tables."""
    columns = ["calls", "seconds", "raised_or_refused", "not_ranked", "twice", "as_shown"]
    heads = ["calls", "s", "lists without an order", "passages not ranked", "twice", "lists in the order shown"]
    lines = ["| ten lists of 20 | server | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for engine, rows in found.get("real", {}).items():
        for tool, row in rows.items():
            lines.append(f"| {tool} | {engine} | " + " | ".join(str(row[column]) for column in columns) + " |")
    tools = list(next(iter(found["malformed"].values())))
    lines += ["", "| a reply that is | " + " | ".join(tools) + " |", "|---" * (len(tools) + 1) + "|"]
    for name, row in found["malformed"].items():
        lines.append(f"| {name} | " + " | ".join(str(row[tool]) for tool in tools) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures, and writes results and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--url", help="a server that is there, which calls the model smollm2")
    parser.add_argument("--folder", type=Path, default=Path(".engines"), help="where servers and peers are installed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", nargs="+", help="on the real lists only these, as they are called in the table")
    parser.add_argument("--only", choices=["real", "malformed"], help="the other figures stay as they are")
    options = parser.parse_args()
    python = environment(options.folder / "peers", *NEEDED, alone=PACKAGES)
    tools = {"rank-llm": peer("rank-llm", python), "rerankers": peer("rerankers", python)}
    path = HERE / "results" / "engines-beside.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if options.only != "real":
        found["malformed"] = malformed({**tools, "fairpos, generate": ours("generate")})
    if options.only != "malformed":
        with opened(options.engine, options.url, options.folder) as url:
            own = {"fairpos, generate": ours("generate"), "fairpos, first_token": ours("first_token")}
            asked = {name: tool for name, tool in (tools | own).items() if name in (options.tools or [name])}
            found.setdefault("real", {}).setdefault(options.engine, {}).update(real(asked, url, options.rounds))
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    fill("endpoints.md", "beside", tables(found))


if __name__ == "__main__":
    main()
