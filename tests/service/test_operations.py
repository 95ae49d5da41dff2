"""Keys, limits, probes, metrics, logs, settings, shutdown."""

import json
import logging
import re
import signal
import subprocess
import sys
import threading

import httpx2
import pytest
from pydantic import ValidationError

import fairpos
from fairpos_service.logs import JsonLines
from fairpos_service.settings import Settings
from tests.service.running import running, tiny, until
from tests.service.upstream import Scripted, chunk, stream

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "Which?"}]


def test_keys():
    with running({"tiny": tiny()}, api_keys="one,two") as s:
        for headers in ({}, {"authorization": "Bearer three"}, {"authorization": "Basic one"}, {"x-api-key": "on"}):
            reply = httpx2.get(s.url + "/v1/models", headers=headers)
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.json()["error"]["type"] == "authentication_error"
        for headers in ({"authorization": "Bearer two"}, {"authorization": "bearer one"}, {"x-api-key": "one"}):
            assert httpx2.get(s.url + "/v1/models", headers=headers).status_code == 200
        assert httpx2.get(s.url + "/metrics").status_code == 401
        assert httpx2.get(s.url + "/openapi.json").status_code == 401
        for path in ("/health/live", "/health/ready", "/"):
            assert httpx2.get(s.url + path).status_code == 200


def test_a_body_that_is_too_large():
    with running({"tiny": tiny()}, max_body_bytes=2000) as s:
        body = {"messages": QUESTION, "documents": ["x" * 3000]}
        for reply in (
            httpx2.post(s.url + CHAT, json=body),
            httpx2.post(s.url + "/rerank", json={"query": "q", "documents": ["x" * 3000]}),
            httpx2.post(s.url + CHAT, content=iter([b"x" * 1500] * 3)),  # no length said beforehand
        ):
            assert reply.status_code == 413, reply.text
            assert reply.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100000, b'{"a":NaN}'])
def test_a_body_that_is_no_json_object(service, content):
    for path in (CHAT, "/rerank", "/v1/judge", "/v1/arrange"):
        reply = httpx2.post(service.url + path, content=content, headers={"content-type": "application/json"})
        assert reply.status_code in (400, 422)
        assert reply.json()["error"]["message"] == reply.json()["detail"]


def test_an_unknown_path_and_a_wrong_verb(service):
    assert httpx2.get(service.url + "/nowhere").json()["error"]["code"] == "not_found"
    assert httpx2.get(service.url + "/rerank").status_code == 405


def test_a_full_queue_is_a_429_with_retry_after():
    with running({"tiny": tiny()}, queue=1) as s:
        body = {"messages": QUESTION, "max_tokens": 400, "stream": True}
        with httpx2.stream("POST", s.url + CHAT, json=body) as first:
            pieces = first.iter_raw()  # kept: when it is collected, the client hangs up
            next(pieces)
            reply = httpx2.post(s.url + CHAT, json={"messages": QUESTION, "max_tokens": 2})
            assert reply.status_code == 429
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["type"] == "rate_limit_error"
        until(lambda: s.state.engines["tiny"].waiting == 0)
        assert httpx2.post(s.url + CHAT, json={"messages": QUESTION, "max_tokens": 2}).status_code == 200


def test_readiness_tells_of_loading_and_of_failure():
    with running(upstream="http://127.0.0.1:9/v1") as s:
        assert httpx2.get(s.url + "/health/ready").json() == {"status": "ready", "models": {}}
    release = threading.Event()

    def slow():
        release.wait(10)
        raise fairpos.errors.ModelUnavailable("no weights")

    with running() as s:
        s.state.loads = {"late": slow}
        loading = __import__("asyncio").run_coroutine_threadsafe(s.state.load(), s.loop)
        reply = httpx2.get(s.url + "/health/ready")
        assert (reply.status_code, reply.json()["models"]) == (503, {"late": "loading"})
        assert httpx2.get(s.url + "/health/live").status_code == 200
        reply = httpx2.post(s.url + "/rerank", json={"query": "q", "documents": ["a"]})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_loading")
        assert reply.headers["retry-after"]
        release.set()
        loading.result(10)
        assert httpx2.get(s.url + "/health/ready").json()["models"] == {"late": "failed"}
        reply = httpx2.post(s.url + "/rerank", json={"query": "q", "documents": ["a"]})
        assert (reply.status_code, "no weights" in reply.json()["detail"]) == (503, True)


def test_aliases(tiny_fair):
    with running({"tiny": tiny_fair}, aliases={"rerank-v3.5": "tiny"}) as s:
        body = {"model": "rerank-v3.5", "query": "q", "documents": ["a", "b"]}
        assert httpx2.post(s.url + "/v2/rerank", json=body).json()["model"] == "tiny"


def test_metrics_count_what_happened(tiny_fair):
    with running({"tiny": tiny_fair}) as s:
        body = {"messages": QUESTION, "documents": ["a", "b"], "max_tokens": 5, "fairpos": {"methods": "pine"}}
        httpx2.post(s.url + CHAT, json=body)
        httpx2.post(s.url + CHAT, json={**body, "fairpos": {"methods": "no"}})
        httpx2.get(s.url + "/some/path/made/up")
        found = httpx2.get(s.url + "/metrics").text
        assert 'fairpos_requests_total{route="/v1/chat/completions",status="200"} 1.0' in found
        assert 'fairpos_requests_total{route="/v1/chat/completions",status="422"} 1.0' in found
        assert 'fairpos_methods_total{method="pine",task="answer"} 1.0' in found
        assert re.search(r'fairpos_tokens_total\{kind="completion",model="tiny"\} [1-5]\.0', found)
        assert 'fairpos_batch_calls_count{kind="generate",model="tiny"} 1.0' in found
        assert 'fairpos_queue_jobs{model="tiny"} 0.0' in found
        assert "made" not in found


def test_logs_have_ids_and_no_texts(tiny_fair, caplog):
    with caplog.at_level(logging.INFO), running({"tiny": tiny_fair}) as s:
        secret = "the document says so"
        body = {"messages": [{"role": "user", "content": secret}], "documents": [secret], "max_tokens": 2}
        headers = {"x-request-id": "r-1", "authorization": "Bearer hush"}
        httpx2.post(s.url + CHAT, json=body, headers=headers)
        httpx2.post(s.url + CHAT, json={**body, "documents": [1]}, headers=headers)
        until(lambda: sum(r.message == "request" for r in caplog.records) == 2)
    lines = [JsonLines().format(record) for record in caplog.records if record.name.startswith("fairpos")]
    assert all(secret not in line and "hush" not in line for line in lines)
    [first, second] = [json.loads(line) for line in lines if json.loads(line)["message"] == "request"]
    assert (first["route"], first["status"], second["status"]) == (CHAT, 200, 422)
    assert first["ms"] >= first["first_byte_ms"] > 0


@pytest.mark.own_server
def test_a_strange_request_id_is_replaced(service):
    for strange in ("x" * 200, "a b", "é".encode()):
        reply = httpx2.get(service.url + "/v1/models", headers={"x-request-id": strange})
        assert reply.headers["x-request-id"].startswith("req-")


def test_settings_come_from_everywhere(tmp_path, monkeypatch):
    file = tmp_path / "fairpos.toml"
    file.write_text('upstream = "http://a:1/v1/"\nqueue = 5\napi_keys = ["k"]\n')
    monkeypatch.setenv("FAIRPOS_CONFIG", str(file))
    monkeypatch.setenv("FAIRPOS_QUEUE", "7")
    monkeypatch.setenv("FAIRPOS_MODELS", "one, two=/folder")
    settings = Settings(_env_file=None)
    assert settings.upstream == "http://a:1/v1"
    assert settings.queue == 7
    assert settings.models == ["one", "two=/folder"]
    assert settings.api_keys[0].get_secret_value() == "k"
    assert "k" not in repr(settings.api_keys)
    monkeypatch.setenv("FAIRPOS_CONFIG", "/nowhere.toml")
    with pytest.raises(ValueError, match="no such file"):
        Settings()


@pytest.mark.parametrize(
    "wrong", [{"upstream": "host:8000"}, {"upstream": "http://h/v1/chat/completions"}, {"queue": 0}]
)
def test_settings_that_are_wrong(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_shutdown_under_load_lets_requests_finish():
    done: list[httpx2.Response] = []

    def ask(url, i):
        body = {"messages": QUESTION, "documents": [f"{i}"], "max_tokens": 60, "stream": i % 2 == 0}
        done.append(httpx2.post(url + CHAT, json=body, timeout=30))

    with running({"tiny": tiny()}) as s:
        threads = [threading.Thread(target=ask, args=(s.url, i)) for i in range(16)]
        for thread in threads:
            thread.start()
        until(lambda: s.state.metrics.open._value.get() == 16)
        s.server.handle_exit(signal.SIGTERM, None)
        assert s.state.draining
        for thread in threads:
            thread.join(30)
        s.stop()
    assert [r.status_code for r in done] == [200] * 16
    assert sum("[DONE]" in r.text for r in done) == 8


def test_sigterm_ends_the_command_when_its_streams_are_done():
    async def slow(request, connection):
        await stream(connection, [chunk(str(i)) for i in range(30)], wait_s=0.05)

    texts: list[str] = []

    def ask(url):
        texts.append(httpx2.post(url + CHAT, json={"messages": QUESTION, "stream": True}, timeout=30).text)

    with Scripted(slow) as up:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairpos", "serve", "--upstream", up.url, "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            url = json.loads(process.stderr.readline())["url"].rstrip("/")
            threads = [threading.Thread(target=ask, args=(url,)) for _ in range(20)]
            for thread in threads:
                thread.start()
            until(lambda: len(up.requests) == 20)
            process.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join(30)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
    assert [text.count("data: ") for text in texts] == [31] * 20
    assert process.returncode in (0, -signal.SIGTERM)  # uvicorn raises the signal again when it is done
    assert "Traceback" not in errors
