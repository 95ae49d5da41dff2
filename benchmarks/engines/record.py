"""Records what a real server replies to one call of each kind, for the tests.

    python -m benchmarks.engines.record llama.cpp [--url URL] --output tests/data/engines/llama_cpp.json

Lists of alternatives are cut to those that could be part of a label, so that the file stays small.
"""

from __future__ import annotations

import argparse
import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.engines.agreement import opened
from benchmarks.engines.servers import ENGINES
from fairpos import FairModel
from fairpos.backends.openai import OpenAIBackend, connect
from fairpos.types import Output

_LABELS = "0123456789.ABCDEFGHJKLM"  # what is asked for is made of these


def ask_everything(fair: FairModel) -> dict[str, Any]:
    """One call of each kind, and what came of it; digits below a millionth are left out."""
    backend = fair.backend
    assert isinstance(backend, OpenAIBackend)
    abilities = backend.client.wait_for(backend.find_abilities)
    passages = ["Cats purr when they are at ease.", "Dogs bark at strangers.", "Fish are silent."]
    return {
        "abilities": {"engine": abilities.server.engine, "exact": abilities.exact},
        "rank": _result(fair.rank("What barks?", passages)),
        "rank_twelve": _result(fair.rank("What barks?", [f"Thing {i}." for i in range(11)] + passages[1:2])),
        "judge": _result(fair.judge("Name a prime number.", ["4", "7"])),
        "choose": _result(fair.choose("Which is a fruit?", ["an apple", "a stone"])),
        "list": _result(fair.rank("What barks?", passages, ranker="generate")),
        "vote": _result(fair.answer("What barks?", passages, methods="permutation:views=3", max_new_tokens=8)),
    }


def _result(output: Output) -> dict[str, Any]:
    return {
        "status": output.status,
        "text": output.text,
        "ranking": list(output.ranking),
        "scores": {id: round(score, 6) for id, score in output.scores.items()},
        "mass": [None if view.mass is None else round(view.mass, 6) for view in output.views],
    }


class _Recorder(BaseHTTPRequestHandler):
    upstream: str
    calls: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._pass_on("GET", {})

    def do_POST(self) -> None:
        self._pass_on("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _pass_on(self, method: str, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode() if method == "POST" else None
        asked = urllib.request.Request(self.upstream + self.path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked) as response:
                status, content = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        if status == 200:
            found = json.loads(content)
            if self.path != "/v1/completions":  # whose lists are the votes
                found = _trimmed(found)
            self.calls.append({"method": method, "path": self.path, "body": body, "response": found})
            content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silent."""


def _trimmed(response: Any) -> Any:
    """The response with what is read of it alone."""
    if not isinstance(response, dict):
        return response
    if "choices" in response:
        for choice in response["choices"]:
            for entry in (choice.get("logprobs") or {}).get("content") or []:
                entry["top_logprobs"] = [each for each in entry["top_logprobs"] if _may_be_label(each["token"])]
        return {"choices": response["choices"], "usage": response["usage"]}
    if "data" in response:
        return {"data": [{"id": model["id"], "owned_by": model["owned_by"]} for model in response["data"]]}
    return {
        name: response[name] for name in ("tokens", "content", "prompt", "version", "build_info") if name in response
    }


def _may_be_label(token: str) -> bool:
    return token.startswith("token_id:") or (len(token.strip()) == 1 and token.strip() in _LABELS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--url")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    calls: list[dict[str, Any]] = []
    with opened(arguments.engine, arguments.url, arguments.folder) as url:
        kind = type("Recorder", (_Recorder,), {"upstream": url.removesuffix("/v1"), "calls": calls})
        server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        backend = connect(
            f"openai:http://127.0.0.1:{server.server_address[1]}/v1#smollm2", concurrency=1, timeout_s=600
        )
        with backend.client:
            results = ask_everything(FairModel(backend))
        server.shutdown()
        server.server_close()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(call, ensure_ascii=False) for call in calls)
    arguments.output.write_text(f'{{"results": {json.dumps(results)},\n"calls": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
