"""Keys, limits, the queue, clients that leave, and the server's end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from agentkit import UserError
from agentkit.server import ApiKey, ServerOptions, create_app
from agentkit.server.auth import Caller, KeyRing, read_keys, read_keys_file
from agentkit.server.errors import ApiError
from agentkit.server.limits import RateLimits
from server_support import WordModel, figures, hello, http, running, wait_for

CHAT = "/v1/chat/completions"
KEYS = (ApiKey(name="ann", key="s3cret-a"), ApiKey(name="bob", key="s3cret-b"))


def test_keys_open_what_is_locked() -> None:
    options = ServerOptions(api_keys=KEYS, metrics="key")
    with running(create_app(WordModel(), options=options)) as server, http(server) as client:
        for place in ("/v1/models", "/metrics"):
            reply = client.get(place)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
            wrong = client.get(place, headers={"Authorization": "Bearer s3cret"})
            assert wrong.json()["error"]["code"] == "invalid_api_key"
            assert (
                client.get(place, headers={"Authorization": "Bearer s3cret-b"}).status_code == 200
            )
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        # The door is shut before the body is looked at.
        assert client.post(CHAT, content=b"{").status_code == 401


def test_keys_are_read(tmp_path: Path) -> None:
    text = "ann:k1 # Ann's\n\nk2,bob:k:3\n"
    found = [(key.name, key.key) for key in read_keys(text, where="it")]
    assert found == [("ann", "k1"), ("key-2", "k2"), ("bob", "k:3")]
    assert "k1" not in repr(read_keys(text, where="it"))
    file = tmp_path / "keys"
    file.write_text(text)
    assert len(read_keys_file(file)) == 3
    with pytest.raises(UserError, match="cannot be read"):
        read_keys_file(tmp_path / "none")
    with pytest.raises(UserError, match="holds no API key"):
        read_keys("# none\n", where="the variable")
    with pytest.raises(UserError, match="two keys have the same name"):
        ServerOptions(api_keys=(KEYS[0], KEYS[0]))


@pytest.mark.parametrize("sent", ["Bearer s3cret-a", "bearer  s3cret-a ", "BEARER s3cret-a"])
def test_how_a_key_is_sent(sent: str) -> None:
    assert KeyRing(KEYS).caller(Headers({"authorization": sent}), "address").name == "ann"


def test_rates_of_each_caller() -> None:
    now = 0.0
    options = ServerOptions(requests_per_minute=2, tokens_per_minute=100)
    rates = RateLimits(options, clock=lambda: now)
    ann, bob = Caller(name="ann"), Caller(name="bob")
    rates.admit(ann)
    rates.admit(ann)
    with pytest.raises(ApiError) as caught:
        rates.admit(ann)
    assert caught.value.status == 429
    assert 29 < (caught.value.retry_after or 0) < 32
    rates.admit(bob)
    now = 30.0
    rates.admit(ann)
    rates.spend(bob, 250)
    with pytest.raises(ApiError, match="100 tokens a minute"):
        rates.admit(bob)
    now = 30.0 + 61 * 1.5
    rates.admit(bob)
    own = Caller(name="eve", key=ApiKey(name="eve", key="k", requests_per_minute=1))
    rates.admit(own)
    with pytest.raises(ApiError):
        rates.admit(own)


def test_too_many_requests_are_told_when_to_come_again() -> None:
    options = ServerOptions(requests_per_minute=1)
    with running(create_app(WordModel(), options=options)) as server, http(server) as client:
        assert client.post(CHAT, json=hello()).status_code == 200
        reply = client.post(CHAT, json=hello())
        assert (reply.status_code, reply.json()["error"]["type"]) == (429, "rate_limit_error")
        assert 1 <= int(reply.headers["retry-after"]) <= 61


@pytest.mark.parametrize("chunked", [False, True])
def test_large_requests_are_refused(chunked: bool) -> None:
    options = ServerOptions(max_body_bytes=1000)
    with running(create_app(WordModel(), options=options)) as server, http(server) as client:
        body = b'{"model": "' + b"x" * 2000 + b'"}'
        content: Any = iter([body[:700], body[700:]]) if chunked else body
        reply = client.post(CHAT, content=content, headers={"content-type": "application/json"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


def test_the_queue_is_bounded() -> None:
    model = WordModel(held=True)
    app = create_app(model, options=ServerOptions(max_running=2, max_queued=3))
    with running(app) as server, http(server) as client, ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(client.post, CHAT, json=hello()) for _ in range(5)]
        gate = app.state.agentkit.gate
        wait_for(lambda: (gate.running, gate.queued) == (2, 3))
        seen = figures(client)
        assert (seen["agentkit_running"], seen["agentkit_queue_length"]) == (2, 3)
        reply = client.post(CHAT, json=hello(stream=True))
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "server_busy")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.get("/health").status_code == 200
        model.release()
        assert [future.result().status_code for future in asked] == [200] * 5
        assert model.most_running == 2
        wait_for(lambda: (gate.running, gate.queued) == (0, 0))


def test_waiting_has_an_end() -> None:
    model = WordModel(held=True)
    options = ServerOptions(max_running=1, queue_timeout=0.1)
    with running(create_app(model, options=options)) as server, http(server) as client:
        with client.stream("POST", CHAT, json=hello(stream=True)) as first:
            lines = first.iter_lines()
            next(lines)
            assert client.post(CHAT, json=hello()).status_code == 429
            model.release()
            assert "data: [DONE]" in list(lines)
        assert client.post(CHAT, json=hello()).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_an_end(stream: bool) -> None:
    model = WordModel(held=True)
    app = create_app(model, options=ServerOptions(request_timeout=0.3))
    with running(app) as server, http(server) as client:
        reply = client.post(CHAT, json=hello(stream=stream))
        assert (reply.status_code, '"code":"timeout"' in reply.text) == (
            200 if stream else 504,
            True,
        )
        assert (model.running, model.stopped) == (0, 1)
        assert app.state.agentkit.gate.running == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(stream: bool) -> None:
    model = WordModel(held=True)
    app = create_app(model, options=ServerOptions(max_running=1))
    with running(app) as server:
        client = http(server)
        with pytest.raises(httpx.ReadTimeout):
            client.post(CHAT, json=hello(stream=stream), timeout=0.5)
        client.close()
        wait_for(lambda: (model.running, model.stopped) == (0, 1))
        # And one that leaves while it waits.
        with http(server) as first, http(server) as second:
            with first.stream("POST", CHAT, json=hello(stream=True)) as held:
                lines = held.iter_lines()
                next(lines)
                with pytest.raises(httpx.ReadTimeout):
                    second.post(CHAT, json=hello(stream=stream), timeout=0.5)
                second.close()
                wait_for(lambda: app.state.agentkit.gate.queued == 0)
                model.release()
                assert "data: [DONE]" in list(lines)
            wait_for(lambda: figures(first)["agentkit_running"] == 0)
            assert len(model.requests) == 2
            statuses = [line for line in figures(first) if 'status="499"' in line]
            assert statuses or stream


def test_silence_is_filled() -> None:
    model = WordModel(held=True)
    app = create_app(model, options=ServerOptions(heartbeat=0.05))
    with running(app) as server, http(server) as client:
        threading.Timer(0.4, model.release).start()
        text = client.post(CHAT, json=hello(stream=True)).text
        assert text.count(": waiting\n\n") >= 2
        assert text.endswith("data: [DONE]\n\n")


def test_other_web_pages_are_let_in_only_if_named() -> None:
    origin = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    with running(create_app(WordModel())) as server, http(server) as client:
        assert client.options(CHAT, headers=origin).status_code == 405
        assert "access-control-allow-origin" not in client.get("/health", headers=origin).headers
    options = ServerOptions(cors_origins=(origin["Origin"],), api_keys=KEYS)
    with running(create_app(WordModel(), options=options)) as server, http(server) as client:
        reply = client.options(CHAT, headers=origin)
        assert reply.headers["access-control-allow-origin"] == origin["Origin"]


def test_host_names_can_be_held_to() -> None:
    options = ServerOptions(allowed_hosts=("127.0.0.1",))
    with running(create_app(WordModel(), options=options)) as server, http(server) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 400


def test_a_model_that_cannot_be_loaded_is_not_ready() -> None:
    class Missing(WordModel):
        def load(self) -> None:
            from agentkit import ModelLoadError

            raise ModelLoadError("there is no such file")

    with running(create_app(Missing())) as server, http(server) as client:
        wait_for(lambda: client.get("/ready").json()["status"] == "failed")
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200


SERVED = """
import sys, threading
sys.path.insert(0, {tests!r})
from agentkit.server import ServerOptions, create_app, serve
from server_support import WordModel
model = WordModel(held=True)
threading.Thread(target=lambda: (sys.stdin.readline(), model.release()), daemon=True).start()
app = create_app(model, options=ServerOptions(drain_seconds={drain}))
serve(app, port=0, log_level="critical", on_started=lambda url: print(url, flush=True))
"""


@pytest.mark.parametrize(("drain", "whole"), [(60, True), (0.2, False)])
def test_sigterm_lets_running_requests_finish(drain: float, whole: bool) -> None:
    code = SERVED.format(tests=str(Path(__file__).parent), drain=drain)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.match(r"http://127\.0\.0\.1:\d+$", url)
        with (
            httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
            client.stream("POST", CHAT, json=hello(stream=True)) as reply,
        ):
            lines = reply.iter_lines()
            next(lines)
            os.kill(process.pid, signal.SIGTERM)
            if whole:
                wait_for(lambda: httpx.get(f"{url}/ready", trust_env=False).status_code == 503)
                refused = httpx.post(f"{url}{CHAT}", json=hello(), trust_env=False)
                assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
                process.stdin.write("go on\n")
                process.stdin.flush()
                assert "data: [DONE]" in list(lines)
            else:
                with contextlib.suppress(httpx.HTTPError):
                    assert "data: [DONE]" not in list(lines)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
