"""ChatGranite on the real embedded model: structured output, KV reuse, LangChain's agents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from agentkit import example_call
from agentkit.errors import UserError
from agentkit.langchain import ChatGranite
from agentkit.langchain.messages import GENERATION_KEY, messages_from_langchain

pytestmark = pytest.mark.model


def reused(message: Any) -> int:
    found: int = message.usage_metadata["input_token_details"]["cache_read"]
    return found


class Place(BaseModel):
    """A place on a map."""

    name: str = Field(max_length=12)
    kind: Literal["city", "river"]
    size: int = Field(ge=1, le=9)


class PlaceDict(TypedDict):
    """A place on a map."""

    name: Annotated[str, ..., "Its name"]
    kind: Literal["city", "river"]


ANY_SCHEMAS = [Place, PlaceDict, Place.model_json_schema(), {"type": "object", "properties": {}}]


@pytest.mark.parametrize("schema", ANY_SCHEMAS, ids=["pydantic", "typeddict", "json", "untitled"])
def test_structured_output_is_valid_at_any_temperature(llm: ChatGranite, schema: Any) -> None:
    hot = ChatGranite(**{**llm.model_dump(), "max_tokens": 48, "temperature": 2.0, "seed": 7})
    method: Any = "json_schema" if isinstance(schema, type) else "json_mode"
    found = hot.with_structured_output(schema, method=method).invoke("Paris")
    if schema is Place:
        assert isinstance(found, Place)
    elif schema is PlaceDict:
        assert found["kind"] in ("city", "river")
        assert isinstance(found["name"], str)
    elif "title" in schema:
        Place.model_validate(found)
    else:
        assert isinstance(found, dict)


def test_structured_output_keeps_its_word_without_constraints(llm: ChatGranite) -> None:
    free = ChatGranite(**{**llm.model_dump(), "max_tokens": 48, "constrain": False})
    found = free.with_structured_output(Place, include_raw=True).invoke("Paris")
    assert found["parsing_error"] is None
    assert isinstance(found["parsed"], Place)
    assert found["raw"].tool_calls[0]["name"] == "Place"
    with pytest.raises(UserError, match="needs a schema"):
        llm.with_structured_output(None)
    with pytest.raises(UserError, match="method"):
        llm.with_structured_output(Place, method="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize("streamed", [False, True])
async def test_next_turn_goes_on_from_the_cache(llm: ChatGranite, streamed: bool) -> None:
    messages: list[Any] = [HumanMessage(f"Tell me of a river ({streamed}).")]
    seen: list[int] = []
    known = 0
    for question in ("And a lake?", "And a sea?", ""):
        answer: Any = None
        if streamed:
            async for chunk in llm.astream(messages):
                answer = chunk if answer is None else answer + chunk
        else:
            answer = await llm.ainvoke(messages)
        seen.append(reused(answer))
        # All but the newest question was read or written before; only of a turn's last token the
        # model has not computed keys and values.
        assert seen[-1] >= known
        known = answer.usage_metadata["total_tokens"] - 1
        messages += [answer, HumanMessage(question)]
    assert seen[0] < seen[1] < seen[2]


def test_changed_message_is_encoded_anew(llm: ChatGranite) -> None:
    answer = llm.invoke("Hello")
    assert messages_from_langchain([answer])[0].generation is not None  # type: ignore[union-attr]
    changed = answer.model_copy(update={"content": "Something else"})
    called = answer.model_copy(update={"tool_calls": [{"name": "f", "args": {}, "id": "1"}]})
    for message in (changed, called):
        assert GENERATION_KEY in message.additional_kwargs
        assert messages_from_langchain([message])[0].generation is None  # type: ignore[union-attr]


def test_conversation_that_ends_in_a_tool_result(llm: ChatGranite) -> None:
    call = {"name": "get_time", "args": {}, "id": "1", "type": "tool_call"}
    answer = llm.invoke(
        [
            HumanMessage("What time is it?"),
            AIMessage("", tool_calls=[call]),
            ToolMessage("Noon", tool_call_id="1"),
        ]
    )
    assert answer.text


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"Sunny in {city}."


def weather_model() -> ChatGranite:
    example = example_call(
        "What is the weather in Rome?", "get_weather", {"city": "Rome"}, "Rain.", "It rains."
    )
    return ChatGranite(model="embedded", dtype="float32", max_tokens=48, examples=example)


async def test_langchain_agent_with_tools_checkpoints_and_streaming() -> None:
    agent = create_agent(weather_model(), [get_weather], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    question = {"messages": [HumanMessage("What is the weather in Paris?")]}
    tokens: list[AIMessageChunk] = []
    async for chunk, _ in agent.astream(question, config, stream_mode="messages"):
        if isinstance(chunk, AIMessageChunk):
            tokens.append(chunk)
    state = (await agent.aget_state(config)).values["messages"]
    assert [type(message).__name__ for message in state] == [
        "HumanMessage",
        "AIMessage",
        "ToolMessage",
        "AIMessage",
    ]
    assert state[2].content == "Sunny in Paris."
    assert any(chunk.tool_call_chunks for chunk in tokens)
    # The second step went on amid the first's call, of which only the end had to be read.
    assert reused(state[3]) > state[1].usage_metadata["input_tokens"] + 10
    # A second question in the thread goes on from what the checkpoint holds.
    result = await agent.ainvoke(
        {"messages": [HumanMessage("What is the weather in Bonn?")]}, config
    )
    answer = result["messages"][5]
    assert answer.tool_calls[0]["name"] == "get_weather"
    assert reused(answer) >= state[3].usage_metadata["total_tokens"] - 1


def test_langchain_agent_with_a_response_format(llm: ChatGranite) -> None:
    model = ChatGranite(model="embedded", dtype="float32", max_tokens=48)
    agent = create_agent(model, [], response_format=Place)
    result = agent.invoke({"messages": [HumanMessage("Paris is a city of size 9.")]})
    assert isinstance(result["structured_response"], Place)
