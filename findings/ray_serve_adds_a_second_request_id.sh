#!/usr/bin/env bash
# ray[serve] 2.60.0, Python 3.11: a reply that carries an `x-request-id` of its application leaves the proxy with two.
# OpenAI's API and the servers that copy it name every reply in that header, and clients show it in their errors
# (`_request_id` of the OpenAI client). Ray's proxy adds one with its own id (the client's where the request had one)
# to every reply, beside the one that is there, not in its place. HTTP clients join headers of one name, so that what a
# client reports is found in nobody's log. Where the application takes the request's id over, it stands there twice:
#
#   under uvicorn:     ['req-of-the-app'] ['of-the-client']
#   own id:            ['req-of-the-app', 'of-the-client'] -> a client reads 'req-of-the-app, of-the-client'
#   taken over:        ['of-the-client', 'of-the-client']
#
# Without fairpos, on loopback. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'ray[serve]==2.60.0' 'fastapi==0.165.0' 'starlette==1.10.0' 'uvicorn==0.54.0' \
  'httpx==0.28.1' 'pydantic==2.14.4'
cat > "$folder/seen.py" <<'PYTHON'
import os
import socket
import sys
import threading
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import httpx
import ray
import uvicorn
from fastapi import FastAPI, Request, Response
from ray import serve


def build():
    app = FastAPI()

    @app.get("/own")
    def own(response: Response):
        response.headers["x-request-id"] = "req-of-the-app"

    @app.get("/taken-over")
    def taken_over(request: Request, response: Response):
        response.headers["x-request-id"] = request.headers["x-request-id"]

    return app


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ids(port, path):
    reply = httpx.get(f"http://127.0.0.1:{port}{path}", headers={"x-request-id": "of-the-client"}, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.headers.get_list("x-request-id"), reply.headers["x-request-id"]


plain, served = free_port(), free_port()
server = uvicorn.Server(uvicorn.Config(build(), host="127.0.0.1", port=plain, log_level="error"))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.1)
under_uvicorn = ids(plain, "/own")[0], ids(plain, "/taken-over")[0]

ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False, logging_level="ERROR")
serve.start(http_options={"host": "127.0.0.1", "port": served})
serve.run(serve.deployment(serve.ingress(build)(), ray_actor_options={"num_cpus": 0.5}).bind())
own, read = ids(served, "/own")
taken_over, _ = ids(served, "/taken-over")
print("ray", ray.__version__)
print("under uvicorn:    ", *under_uvicorn)
print("own id:           ", own, "-> a client reads", repr(read))
print("taken over:       ", taken_over)
so = (
    under_uvicorn == (["req-of-the-app"], ["of-the-client"])
    and len(own) == 2
    and own.count("req-of-the-app") == 1
    and taken_over == ["of-the-client", "of-the-client"]
)
serve.shutdown()
ray.shutdown()
sys.exit(0 if so else 1)
PYTHON
"$folder/env/bin/python" "$folder/seen.py" 2> "$folder/stderr" || { status=$?; tail -n 5 "$folder/stderr" >&2; exit $status; }
