"""Clients that people use, unmodified, against the service: `python -m benchmarks.clients --folder FOLDER`.

Each group of clients gets an environment of its own under the folder (a temporary one unless it is named; one that is
there already is used as it is), without torch and without fairpos. The service runs here, with a tiny local model and
in front of an upstream of the tests. Writes results/clients.json and the table in docs/service.md; ends with 1 where a
call that should work doesn't.

`--only NAME ...` takes some of them; `--npm` adds those of npm (which needs node), `--npm-only` takes those alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pages import fill
from tests.service.running import running, tiny
from tests.service.upstream import Connection, Received, Scripted, completion, whole

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "clients.json"
PIP = [sys.executable, "-m", "pip", "--python"]

# An environment -> the clients in it, pinned. What shares one agrees on the versions of everything else.
GROUPS: dict[str, tuple[str, ...]] = {
    "sdks": ("openai==3.57.0", "anthropic==2.14.0", "cohere==7.3.1", "mistralai==3.7.0", "huggingface-hub==2.4.0",
             "requests==2.34.2"),
    "instructor": ("instructor==1.17.0",),
    "voyageai": ("voyageai==0.5.0",),
    "litellm": ("litellm==1.110.2", "dspy==3.4.1"),
    "langchain": ("langchain-openai==1.7.4", "langchain-cohere==0.6.0", "langchain-anthropic==1.7.10"),
    "llamaindex": ("llama-index-llms-openai-like==0.8.1", "llama-index-postprocessor-cohere-rerank==0.10.0",
                   "llama-index-postprocessor-jinaai-rerank==0.6.0", "llama-index-postprocessor-tei-rerank==0.6.0"),
    "haystack": ("haystack-ai==3.4.1", "cohere-haystack==11.0.0", "anthropic-haystack==8.0.1"),
    "agents": ("pydantic-ai-slim[openai,anthropic]==2.68.0", "openai-agents==0.24.0"),
    "ag2": ("ag2[openai]==1.2.1",),
    "semantic-kernel": ("semantic-kernel==1.45.0",),
    "deepeval": ("deepeval==4.3.1",),
    # ragas imports a module that later versions of langchain-community don't have.
    "ragas": ("ragas==0.4.3", "langchain-community==0.3.31"),
}  # fmt: skip
NPM: tuple[str, ...] = ("openai@7.59.0", "@anthropic-ai/sdk@1.14.0", "cohere-ai@8.1.0", "ai@7.0.173",
                        "@ai-sdk/openai-compatible@3.0.92", "@langchain/openai@1.6.0")  # fmt: skip
# Calls that can't work, and why: the reason is shown in place of an error, and it has to fail.
KNOWN: dict[tuple[str, str], str] = {
    (
        "litellm",
        "rerank infinity/",
    ): "reads a document as bare text where Cohere's clients, at the same path, read an object",
}


async def answers(request: Received, connection: Connection) -> None:
    """Chats, embeddings, and a call of the first tool."""
    if request.path.endswith("/embeddings"):
        texts = request.body["input"]
        count = len(texts) if isinstance(texts, list) else 1
        data = [{"object": "embedding", "index": i, "embedding": [0.5, 0.5, 0.5, 0.5]} for i in range(count)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        await connection.json({"object": "list", "model": "m", "data": data, "usage": usage})
    elif request.method == "POST" and request.body.get("tools") and not request.body.get("stream"):
        call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        await connection.json(whole(None, tool_calls=[call]))
    else:
        await completion(request, connection)


def name_of(requirement: str) -> str:
    """The package's name."""
    return requirement.partition("==")[0].partition("[")[0]


def environment(folder: Path, group: str) -> Path:
    """The Python of a group's environment, made if it isn't there."""
    home = folder / group
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        subprocess.run([*PIP, str(python), "install", "--quiet", *GROUPS[group]], check=True)
        (home / "installed").touch()
    return python


def read_outcome(command: Sequence[str | Path], cwd: Path, urls: tuple[str, str]) -> dict[str, str]:
    """What a client's calls came to, from the last line that it prints."""
    quiet = {"HOME": str(cwd), "PATH": os.environ["PATH"], "DO_NOT_TRACK": "1", "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
             "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HAYSTACK_TELEMETRY_ENABLED": "False", "COHERE_API_KEY": "k",
             "RAGAS_DO_NOT_TRACK": "true", "OPENAI_API_KEY": "k"}  # fmt: skip
    try:
        ran = subprocess.run([*command, *urls], capture_output=True, text=True, timeout=300, cwd=cwd, env=quiet)
    except subprocess.TimeoutExpired:
        return {"all": "no end within 300 s"}
    try:
        found: dict[str, str] = json.loads(ran.stdout.strip().splitlines()[-1])
        return found
    except (ValueError, IndexError):
        return {"all": " ".join(ran.stderr.split())[-300:]}


def rows_of(found: dict[str, dict[str, object]]) -> str:
    """The table."""
    lines = ["| client | version | calls |", "|---|---|---|"]
    for name, entry in found.items():
        calls = entry["calls"]
        assert isinstance(calls, dict)
        told = "; ".join(what if came == "ok" else f"**{what}: {came}**" for what, came in calls.items())
        lines.append(f"| {name} | {entry['version']} | {told} |")
    return "\n".join(lines)


def explained(client: str, calls: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The outcomes with the reasons that are known, and those that shouldn't be so."""
    told, wrong = {}, []
    for what, came in calls.items():
        reason = KNOWN.get((client, what))
        if reason is not None and came != "ok":
            told[what] = f"doesn't work: {reason}"
        else:
            told[what] = came
            wrong += [f"{client}: {what}: {came}"] if came != "ok" or reason is not None else []
    return told, wrong


def try_python(folder: Path, only: Sequence[str], urls: tuple[str, str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Client -> its version, and what its calls came to."""
    found = {}
    for group, requirements in GROUPS.items():
        for requirement in requirements:
            name, version = name_of(requirement), requirement.rpartition("==")[2]
            if only and name not in only:
                continue
            command = [environment(folder, group), HERE / "client_calls.py", name]
            found[name] = version, read_outcome(command, folder, urls)
            print(name, version, found[name][1], flush=True)
    return found


def try_npm(folder: Path, only: Sequence[str], urls: tuple[str, str]) -> dict[str, tuple[str, dict[str, str]]]:
    """The same of npm's."""
    home = folder / "npm"
    home.mkdir(exist_ok=True)
    if not (home / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *NPM], check=True, cwd=home)
    (home / "client_calls.mjs").write_text((HERE / "client_calls.mjs").read_text(encoding="utf-8"), encoding="utf-8")
    found = {}
    for requirement in NPM:
        name, _, version = requirement.rpartition("@")
        if only and name not in only:
            continue
        found[f"{name} (npm)"] = version, read_outcome(["node", home / "client_calls.mjs", name], home, urls)
        print(name, version, found[f"{name} (npm)"][1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="of the environments")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--npm", action="store_true")
    parser.add_argument("--npm-only", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        Scripted(answers) as up,
        running({"tiny": tiny()}, max_new_tokens=64) as local,
        running(upstream=up.url) as proxy,
    ):
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        urls = local.url, proxy.url
        found = {} if options.npm_only else try_python(folder, options.only, urls)
        if options.npm or options.npm_only:
            found |= try_npm(folder, options.only, urls)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    faults = []
    for name, (version, calls) in found.items():
        told, wrong = explained(name, calls)
        known[name] = {"version": version, "calls": told}
        faults += wrong
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    fill("service.md", "clients", rows_of(known))
    print(f"{len(found)} clients, {sum(len(calls) for _, calls in found.values())} calls; {len(faults)} wrong")
    print("\n".join(faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
