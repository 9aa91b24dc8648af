"""Whatever is sent, the server makes no mistake of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from agentkit import Agent
from agentkit.server import create_app
from hashing_embedder import HashingEmbedder
from server_support import WordModel


def application() -> FastAPI:
    model = WordModel("fine")
    return create_app(model, agents={"clerk": Agent(model)}, embedder=HashingEmbedder())


# That it is not ready yet is what /ready has a 503 for.
schema = schemathesis.openapi.from_asgi("/openapi.json", application()).exclude(path="/ready")
modest = settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schema.parametrize()
@modest
def test_its_own_openapi_document(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=[not_a_server_error])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "function", "auto", 1 << 70, 1e400, "", "<tool_call>"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "function", "name", "parameters", "properties", "$ref", "role"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "words",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        "stop": ["x"],
        "documents": [{"text": "t"}],
        "stream": True,
        "seed": 1,
        "top_k": 1,
        "temperature": 1,
    },
    "/v1/agents/clerk/runs": {"input": "hi", "history": [], "documents": [{"text": "t"}]},
    "/v1/agents/clerk/runs/none/resume": {"approve": {"a": {"approve": True, "arguments": {}}}},
    "/v1/embeddings": {"model": "hashing", "input": ["a"], "dimensions": 8},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    if not isinstance(value, dict | list):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good request, in which one thing is replaced, or cut, or of another kind."""
    route = draw(st.sampled_from(sorted(BODIES)))
    body = json.loads(json.dumps(BODIES[route]))
    place = draw(st.sampled_from(places(body)))
    value = draw(VALUES)
    if place:
        holder = body
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = value
    else:
        body = value
    content = json.dumps(body).encode()
    match draw(st.integers(0, 9)):
        case 0:
            content = content[: draw(st.integers(0, len(content)))]
        case 1:
            content += draw(st.binary(max_size=5))
    return route, content


def test_spoilt_requests() -> None:
    transport = httpx.ASGITransport(application())  # raises what the server did not foresee
    client = httpx.AsyncClient(transport=transport, base_url="http://server")

    @given(spoilt())
    @settings(modest, max_examples=150)
    def send(request: tuple[str, bytes]) -> None:
        route, content = request
        reply = asyncio.run(
            client.post(route, content=content, headers={"content-type": "application/json"})
        )
        assert reply.status_code < 500, reply.text
        if reply.status_code >= 400:
            assert reply.json()["error"]["message"]

    send()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": "words", "messages": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"model": "words", "messages": [], "seed": ' + b"9" * 5000 + b"}",
        b'{"model": "words", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "words", "messages": [{"role": "user", "content": "\\u0000"}]}',
        b'{"model": NaN}',
    ],
)
async def test_bodies_that_are_hard_to_read(content: bytes) -> None:
    transport = httpx.ASGITransport(application())
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        reply = await client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
    assert reply.status_code in (200, 400)


async def test_half_a_character_reaches_no_model() -> None:
    model = WordModel("fine")
    body = {
        "model": "words",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a\ud800b"}]}],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"title": "\ud800"}}}
        ],
    }
    transport = httpx.ASGITransport(create_app(model))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        reply = await client.post(
            "/v1/chat/completions",
            content=json.dumps(body),
            headers={"content-type": "application/json"},
        )
    assert reply.status_code == 200
    request = model.requests[0]
    assert request.messages[0].content == "a?b"
    assert request.tools[0].parameters["title"] == "?"
