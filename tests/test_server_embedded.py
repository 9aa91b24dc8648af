"""The server with the embedded model, asked by openai's and LangChain's clients as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from langchain_core.tools import tool as langchain_tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import OpenAI
from pydantic import BaseModel, SecretStr

from agentkit import Agent, Limits, TransformersModel, tool
from agentkit.server import create_app
from agentkit.server.running import GracefulServer
from hashing_embedder import HashingEmbedder
from server_support import figures, http, openai_client, running

pytestmark = pytest.mark.model
MODEL = "SmolLM2-135M-Tools"
USER: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}},
            "required": ["city"],
        },
    },
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(scope="module")
def server(embedded: TransformersModel) -> Iterator[GracefulServer]:
    agent = Agent(embedded, [add], tool_choice="add", limits=Limits(max_steps=2))
    app = create_app(
        embedded, agents={"adder": agent}, embedder=HashingEmbedder(), close_models=False
    )
    with running(app) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: GracefulServer) -> OpenAI:
    return openai_client(server)


def langchain(server: GracefulServer, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{server.url}/v1", api_key=SecretStr("unused"), model=MODEL, **options
    )


def test_whole_and_streamed_answers_are_the_same(client: OpenAI) -> None:
    create: Any = client.chat.completions.create
    options = {"model": MODEL, "messages": USER, "max_tokens": 12, "logprobs": True}
    whole = create(**options)
    text = whole.choices[0].message.content
    assert "Paris" in text
    assert "".join(score.token for score in whole.choices[0].logprobs.content) == text
    chunks = list(create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == text
    # The second time the prompt is in the cache.
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 20


def test_a_call_is_forced_and_streamed(client: OpenAI) -> None:
    options: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Weather in Oslo?"}],
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_tokens": 60,
    }
    create: Any = client.chat.completions.create
    whole = create(**options).choices[0].message.tool_calls[0].function
    assert json.loads(whole.arguments)["city"]
    pieces = []
    for chunk in create(**options, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or ():
            pieces.append(delta.function.arguments)
    assert len(pieces) > 2
    assert json.loads("".join(pieces)) == json.loads(whole.arguments)


class City(BaseModel):
    name: str
    country: str


def test_an_answer_by_a_schema(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Paris is in France. Give name and country."}],
        response_format=City,
        max_tokens=60,
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_a_run_of_an_agent(server: GracefulServer) -> None:
    with http(server) as plain:
        body = {"input": "Add 2 and 3", "stream": True, "max_tokens": 40}
        text = plain.post("/v1/agents/adder/runs", json=body).text
        assert "event: tool_call_started" in text
        last = json.loads(text.strip().rpartition("data: ")[2])
        assert last["run"]["result"]["steps"][0]["calls"][0]["status"] == "ok"
        seen = figures(plain)
        assert seen['agentkit_tokens_total{kind="forced"}'] > 0
        assert seen['agentkit_tool_calls_total{agent="adder",outcome="ok"}'] >= 1


def test_langchain_asks_and_streams(server: GracefulServer) -> None:
    model = langchain(server, max_tokens=12, temperature=0)
    answer = model.invoke("What is the capital of France?")
    assert "Paris" in answer.content
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    assert "".join(str(c.content) for c in model.stream("What is the capital of France?")) == (
        answer.content
    )


def test_langchain_calls_tools_and_reads_structures(server: GracefulServer) -> None:
    @langchain_tool
    def multiply(a: int, b: int) -> int:
        """Multiply two numbers."""
        return a * b

    model = langchain(server, max_tokens=60, temperature=0)
    called = model.bind_tools([multiply], tool_choice="multiply").invoke("What is 3 times 4?")
    assert [call["name"] for call in called.tool_calls] == ["multiply"]
    assert set(called.tool_calls[0]["args"]) == {"a", "b"}
    city = model.with_structured_output(City, method="json_schema").invoke("Paris, France.")
    assert isinstance(city, City)


def test_embeddings(server: GracefulServer, client: OpenAI) -> None:
    embedder = HashingEmbedder()
    texts = ["a red fox", "blue whales", "a red fox"]
    expected = embedder.embed_documents(texts)
    # The client asks for base64 by itself.
    reply = client.embeddings.create(model=embedder.model_name, input=texts)
    assert np.allclose([item.embedding for item in reply.data], expected, atol=1e-6)
    floats = client.embeddings.create(
        model=embedder.model_name, input="a red fox", encoding_format="float"
    )
    assert np.allclose(floats.data[0].embedding, expected[0], atol=1e-6)
    found = OpenAIEmbeddings(
        base_url=f"{server.url}/v1",
        api_key=SecretStr("unused"),
        model=embedder.model_name,
        check_embedding_ctx_length=False,
    ).embed_documents(texts)
    assert np.allclose(found, expected, atol=1e-6)
