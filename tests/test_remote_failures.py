"""OpenAIModel against servers that misbehave: what is tried again, and what is said of the rest."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from typer.testing import CliRunner

from agentkit import (
    Agent,
    ContextLengthError,
    ModelAccessError,
    ModelConnectionError,
    ModelError,
    ModelNotFoundError,
    ModelRequest,
    ModelServerError,
    OpenAIModel,
    UserError,
    UserMessage,
)
from agentkit.messages import Generation
from agentkit.models.base import TextDelta, generate
from agentkit.remote.model import KEY_VARIABLE
from misbehaving import BEHAVIOURS, MisbehavingServer
from openai_server import chunk, drop, endless, error, fake_server, reply, says, stream

ASK = ModelRequest(messages=[UserMessage("Hello?")])
KEY = "sk-very-secret-123"


@pytest.fixture
async def server():
    async with fake_server() as fake:
        yield fake


@pytest.fixture
def no_waits(monkeypatch):
    """Retries at once; what would have been waited is recorded."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr("stamina._core._smart_sleep", sleep)
    return waits


async def failure(model, kind=ModelServerError, request=ASK):
    with pytest.raises(kind) as caught:
        await generate(model, request)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


async def collect(model, events):
    async for event in model.stream(ASK):
        events.append(event)


async def test_what_may_pass_is_tried_again(server, no_waits):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.replies += [
        drop,
        error(429, "slow down", "Retry-After: 7\r\n"),
        error(503, "loading", f"Retry-After: {soon}\r\n"),
        stream(done=False, end=False),
        says("At last."),
    ]
    response = await generate(OpenAIModel(server.url, "tiny", attempts=5), ASK)
    assert response.text == "At last."
    assert len(server.bodies) == 5
    assert no_waits[1] == 7
    assert 20 < no_waits[2] <= 30


async def test_the_last_try_tells_what_was_wrong(server, no_waits):
    server.replies += [error(500, "out of memory")] * 3
    message = await failure(OpenAIModel(server.url, "tiny", attempts=3))
    assert "500: out of memory" in message
    assert "after 3 tries" in message


async def test_a_wait_that_is_too_long_is_not_begun(server):
    server.replies += [error(429, "quota", "Retry-After: 3600\r\n"), says("never")]
    message = await failure(OpenAIModel(server.url, "tiny", max_wait=60))
    assert "429: quota" in message
    assert "3600" in message
    assert len(server.bodies) == 1


async def test_nothing_is_tried_again_once_text_was_given_out(server):
    server.replies += [
        stream(chunk({"content": "Once upon"}), done=False, end=False),
        stream(chunk({"content": "Once upon"}), done=False),
        says("never"),
    ]
    model = OpenAIModel(server.url, "tiny")
    for part in ("hung up", "without saying why, after 9 characters"):
        events: list[object] = []
        with pytest.raises(ModelConnectionError, match=part):
            await collect(model, events)
        assert events == [TextDelta("Once upon")]
    assert len(server.bodies) == 2


async def test_nobody_listens():
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    model = OpenAIModel(f"http://127.0.0.1:{port}/v1", "tiny", attempts=1)
    message = await failure(model, ModelConnectionError)
    assert "is the server running?" in message


async def test_keys_are_asked_for_and_never_shown(server, monkeypatch):
    server.replies += [error(401, f"bad key {KEY}"), error(401, "who?")]
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    model = OpenAIModel(server.url, "tiny")
    message = await failure(model, ModelAccessError)
    assert server.requests[0]["headers"]["authorization"] == f"bearer {KEY}"
    assert "does not take the API key" in message
    assert "[redacted]" in message
    assert KEY not in message + repr(model)
    monkeypatch.delenv(KEY_VARIABLE)
    # A key of OpenAI's stays with OpenAI.
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    message = await failure(OpenAIModel(server.url, "tiny"), ModelAccessError)
    assert f"set {KEY_VARIABLE}" in message
    assert "authorization" not in server.requests[1]["headers"]
    with pytest.raises(UserError, match="no header can hold") as caught:
        OpenAIModel(server.url, "tiny", api_key="geheim wört")
    assert "geheim" not in str(caught.value)


async def test_a_key_in_a_stream_is_not_shown(server):
    server.replies.append(
        stream(chunk({"content": "a"}), {"error": {"message": f"upstream refused {KEY}"}})
    )
    message = await failure(OpenAIModel(server.url, "tiny", api_key=KEY))
    assert "upstream refused [redacted]" in message


async def test_models_that_are_not_there(server):
    server.replies.append(error(404, "The model `huge` does not exist."))
    message = await failure(OpenAIModel(server.url, "huge"), ModelNotFoundError)
    assert "no model 'huge'; it has: tiny" in message
    message = await failure(OpenAIModel(server.url + "/v2", "tiny"), ModelNotFoundError)
    assert "mostly ends with /v1" in message
    assert "<html>" not in message
    message = await failure(OpenAIModel(server.url.removesuffix("/v1")), ModelNotFoundError)
    assert "mostly ends with /v1" in message


@pytest.mark.parametrize(
    ("behaviour", "kind", "part"),
    [
        (error(400, "too long", code="context_length_exceeded"), ContextLengthError, "too long"),
        (
            error(400, "This model's maximum context length is 8 tokens."),
            ContextLengthError,
            "does not fit",
        ),
        (
            error(400, '"auto" tool choice requires --enable-auto-tool-choice'),
            ModelServerError,
            "calls='json_schema'",
        ),
        (reply(302, b"", headers="Location: /elsewhere\r\n"), ModelNotFoundError, "redirects"),
        (reply(200, b"<html>Log in</html>", "text/html"), ModelServerError, "text/html"),
        (reply(200, b"{half"), ModelServerError, "not JSON"),
        (reply(200, b"[1]"), ModelServerError, "no object"),
        (stream(b"data: {half\n\n"), ModelServerError, "not JSON"),
        (stream(b"data: 7\n\n"), ModelServerError, "no object"),
        (stream(b"data: " + b"[" * 100_000 + b"\n\n"), ModelServerError, "not JSON"),
        (stream(b"data: " + b"x" * (17 << 20)), ModelServerError, "more than"),
        (stream({"choices": [7]}), ModelServerError, "unknown form"),
        (stream({"choices": 7}), ModelServerError, "unknown form"),
        (stream(chunk({"tool_calls": [{"index": 1}]})), ModelServerError, "no known call"),
        (stream(chunk(finish="content_filter")), ModelServerError, "content filter"),
        (
            stream(b'event: error\ndata: {"error": {"message": "CUDA"}}\n\n'),
            ModelServerError,
            "CUDA",
        ),
        (
            stream({"error": {"message": "x", "code": "context_length_exceeded"}}),
            ContextLengthError,
            "x",
        ),
    ],
)
async def test_answers_that_cannot_be_used(server, behaviour, kind, part):
    server.replies.append(behaviour)
    assert part in await failure(OpenAIModel(server.url, "tiny", attempts=1), kind)
    assert len(server.bodies) == 1


async def test_an_empty_answer_is_one(server):
    server.replies.append(stream(chunk(finish="stop")))
    response = await generate(OpenAIModel(server.url, "tiny"), ASK)
    assert (response.text, response.finish_reason) == ("", "stop")


async def test_silence_has_an_end(server):
    server.replies += [endless(), endless(chunk({"content": "Hm"}))]
    model = OpenAIModel(server.url, "tiny", timeout=0.2, attempts=1)
    assert "silent for too long" in await failure(model, ModelConnectionError)
    assert "silent for too long" in await failure(model, ModelConnectionError)


@pytest.mark.parametrize("way", ["cancel", "close", "cancel while waiting"])
async def test_cancelling_closes_the_connection(server, way):
    begun = asyncio.Event()
    waiting = way == "cancel while waiting"
    server.replies.append(endless() if waiting else endless(chunk({"content": "On and"})))
    model = OpenAIModel(server.url, "tiny")

    async def read():
        async for _ in model.stream(ASK):
            begun.set()

    if way == "close":
        events = model.stream(ASK)
        await anext(events)
        await events.aclose()
    else:
        task = asyncio.create_task(read())
        if waiting:
            await server.asked.wait()
        else:
            await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait_for(server.hung_up.wait(), 20)


async def test_a_turn_cannot_begin_with_a_prefill(server):
    request = ModelRequest(messages=ASK.messages, prefill=Generation(text="Well"))
    await failure(OpenAIModel(server.url, "tiny"), UserError, request)
    assert server.bodies == []


def test_one_model_in_several_event_loops():
    async def once(model):
        async with fake_server() as fake:
            fake.replies.append(says("Hi."))
            object.__setattr__(model._connection, "base_url", fake.url)
            return (await generate(model, ASK)).text

    model = OpenAIModel("http://127.0.0.1:1/v1", "tiny")
    assert [asyncio.run(once(model)) for _ in range(3)] == ["Hi."] * 3
    model.close()


@pytest.fixture(scope="module")
def misbehaving():
    server = MisbehavingServer()
    yield server
    server.close()


@pytest.mark.parametrize("name", sorted(BEHAVIOURS))
async def test_whatever_a_server_does_it_is_a_model_error(misbehaving, name, monkeypatch):
    # The server's behaviours are paths; a request ends with one of OpenAI's.
    monkeypatch.setitem(BEHAVIOURS, f"{name}/chat/completions", BEHAVIOURS[name])
    monkeypatch.setitem(BEHAVIOURS, f"{name}/models", BEHAVIOURS[name])
    model = OpenAIModel(f"{misbehaving.url}/{name}", "tiny", attempts=1, timeout=0.5)
    begin = time.monotonic()
    with pytest.raises(ModelError):
        async with asyncio.timeout(20):
            await generate(model, ASK)
    assert time.monotonic() - begin < 20
    await model.aclose()


async def test_the_command_line_takes_an_address(server):
    from agentkit.cli.app import app

    server.replies.append(says("Paris."))
    arguments = ["ask", "Capital of France?", "--model", f"{server.url}#tiny"]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert "Paris." in result.output
    assert server.bodies[0]["model"] == "tiny"


async def test_a_run_that_fails_keeps_what_was_done(server):
    server.replies.append(error(400, "no"))
    async with Agent(OpenAIModel(server.url, "tiny")) as agent:
        with pytest.raises(ModelServerError) as caught:
            await agent.run("Hello?")
    assert caught.value.status == 400
    assert caught.value.result.stop_reason == "error"
