"""Agents with many tools show the model few."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from agentkit import (
    Agent,
    AssistantMessage,
    Event,
    Message,
    ScriptedModel,
    ToolCall,
    ToolContext,
    ToolDefinition,
    ToolSelector,
    ToolsSelected,
    UserError,
    UserMessage,
    example_call,
)
from agentkit.tool_selection import tool_views
from benchmarks.tool_selection import read_set, recall
from hashing_embedder import HashingEmbedder

TOPICS = ["weather", "flights", "stocks", "recipes", "lights", "movies"]


class Named:
    """A tool that says its name."""

    timeout = None

    def __init__(self, topic: str) -> None:
        self.definition = ToolDefinition(
            name=f"get_{topic}",
            description=f"Get {topic}",
            parameters={"type": "object", "properties": {"where": {"type": "string"}}},
        )

    async def call(self, arguments: Any, context: ToolContext) -> str:
        return self.definition.name


TOOLS = [Named(topic) for topic in TOPICS]


def selector(max_tools: int = 2, **options: Any) -> ToolSelector:
    return ToolSelector(max_tools, embedder=HashingEmbedder(), **options)


def shown(model: ScriptedModel) -> list[list[str]]:
    return [[tool.name for tool in request.tools] for request in model.requests]


def test_the_likely_tools_are_shown_in_the_agents_order() -> None:
    with ScriptedModel(["ok"]) as model:
        agent = Agent(model, TOOLS, tool_selection=selector())
        result = agent.run_sync("the movies and the weather please")
    assert shown(model) == [["get_weather", "get_movies"]]
    assert result.tools == ("get_weather", "get_movies")


async def test_the_choice_stays_within_a_run_and_is_told() -> None:
    call = ToolCall(name="get_weather", arguments={})
    with ScriptedModel([call, call, "ok"]) as model:
        agent = Agent(model, TOOLS, tool_selection=selector(1))
        events: list[Event] = [event async for event in agent.stream("weather")]
    assert shown(model) == [["get_weather"]] * 3
    assert [e.names for e in events if isinstance(e, ToolsSelected)] == [("get_weather",)]


def test_tools_that_were_called_stay() -> None:
    call = ToolCall(name="get_weather", arguments={})
    with ScriptedModel([call, "sunny", "here they are"]) as model:
        agent = Agent(model, TOOLS, tool_selection=selector(1))
        first = agent.run_sync("weather")
        agent.run_sync("stocks stocks stocks", history=first)
    assert shown(model)[2] == ["get_weather", "get_stocks"]


def test_a_follow_up_finds_the_tool_of_the_question_before_it() -> None:
    history: list[Message] = [UserMessage("recipes recipes recipes"), AssistantMessage("Which?")]
    with ScriptedModel(["ok"]) as model:
        Agent(model, TOOLS, tool_selection=selector(1)).run_sync("with leeks", history=history)
    assert shown(model) == [["get_recipes"]]


@pytest.mark.parametrize(
    ("options", "agent_options"),
    [
        ({"always": ["get_lights"]}, {}),
        ({"always": "get_lights"}, {}),
        ({}, {"tool_choice": "get_lights"}),
        ({}, {"examples": example_call("dark", "get_lights", {}, "on", "They are on.")}),
    ],
)
def test_some_tools_are_always_shown(options: Any, agent_options: Any) -> None:
    with ScriptedModel(["ok"]) as model:
        agent = Agent(model, TOOLS, tool_selection=selector(1, **options), **agent_options)
        agent.run_sync("stocks")
    assert shown(model) == [["get_stocks", "get_lights"]]


def test_few_tools_are_all_shown_and_nothing_is_embedded() -> None:
    embedder = HashingEmbedder()
    with ScriptedModel(["ok"]) as model:
        agent = Agent(model, TOOLS, tool_selection=ToolSelector(6, embedder=embedder))
        assert agent.run_sync("stocks").tools == ()
    assert len(shown(model)[0]) == 6
    assert embedder.embedded == []


def test_tools_are_embedded_once() -> None:
    embedder = HashingEmbedder()
    chosen = ToolSelector(2, embedder=embedder)
    for _ in range(3):
        Agent(ScriptedModel(["ok"]), TOOLS, tool_selection=chosen).run_sync("stocks")
    assert len(embedder.embedded) == len(set(embedder.embedded))


def test_a_tool_that_is_not_shown_still_runs() -> None:
    """A model that knows of a tool from elsewhere made a valid call."""
    call = ToolCall(name="get_lights", arguments={})
    with ScriptedModel([call, "ok"]) as model:
        result = Agent(model, TOOLS, tool_selection=selector(1)).run_sync("stocks")
    assert result.calls[0].observation == "get_lights"


def test_a_paused_run_goes_on_with_the_same_tools() -> None:
    call = ToolCall(name="get_weather", arguments={})
    with ScriptedModel([call, "ok"]) as model:
        agent = Agent(model, TOOLS, tool_selection=selector(2), approvals="ask")
        agent.resume_sync(agent.run_sync("weather stocks"), True)
    assert shown(model)[0] == shown(model)[1] == ["get_weather", "get_stocks"]


def test_any_object_may_select() -> None:
    class First:
        async def select(
            self, tools: Sequence[ToolDefinition], messages: Sequence[Message]
        ) -> Iterable[str]:
            return [tools[0].name]

    with ScriptedModel(["ok"]) as model:
        Agent(model, TOOLS, tool_selection=First()).run_sync("anything")
    assert shown(model) == [["get_weather"]]


async def test_embedding_does_not_block_the_loop() -> None:
    import time

    class Slow(HashingEmbedder):
        def embed_query(self, text: str) -> Any:
            time.sleep(0.002)
            return super().embed_query(text)

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    chosen = ToolSelector(2, embedder=Slow())
    await Agent(ScriptedModel(["ok"]), TOOLS, tool_selection=chosen).run("stocks")
    ticking.cancel()
    assert ticks > 3


def test_names_and_parameters_are_read_as_words() -> None:
    definition = ToolDefinition(
        name="getHTTPStatus_v2", parameters={"type": "object", "properties": {"siteURL": {}}}
    )
    assert tool_views(definition) == ["get http status v 2", "get http status v 2 (site url)"]


def test_misuse() -> None:
    with pytest.raises(UserError, match="at least 1"):
        ToolSelector(0)
    with pytest.raises(UserError, match="embed_documents"):
        ToolSelector(embedder=42)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'get_nothing'"):
        Agent(ScriptedModel([]), TOOLS, tool_selection=selector(always=["get_nothing"]))


@pytest.mark.model
def test_the_default_embedder_finds_most_tools_of_the_benchmark() -> None:
    tools, questions = read_set()
    assert len(tools) >= 120
    assert len(questions) >= 150
    assert len({tool.name for tool in tools}) == len(tools)
    found = recall(tools, questions, (1, 8))
    assert found[8] > 0.85
    assert found[1] > 0.45
