"""Limits of a run, and options that make no sense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_tools import ADD, add, run, slow
from agentkit import (
    Agent,
    InvalidToolCallError,
    LimitExceededError,
    Limits,
    ModelRequest,
    ModelResponse,
    ParsedCall,
    Sampling,
    SchemaError,
    ScriptedModel,
    ToolCall,
    ToolContext,
    ToolDefinition,
    ToolMessage,
    Usage,
    UserError,
)


def test_too_many_failures_end_in_an_answer_without_tools() -> None:
    bad = ToolCall(name="add", arguments={})
    with ScriptedModel([bad, bad, "I cannot."]) as model:
        result = run(model, add, rewind=0, limits=Limits(max_retries=1))
    assert (result.output, result.stop_reason) == ("I cannot.", "max_retries")
    assert model.requests[-1].tool_choice == "none"


def test_too_many_failures_can_raise_with_the_result_so_far() -> None:
    bad = ToolCall(name="add", arguments={})
    model = ScriptedModel([bad, bad])
    with pytest.raises(
        InvalidToolCallError, match=r"(?s)2 steps in a row.*Limits\.max_retries"
    ) as info:
        run(model, add, rewind=0, limits=Limits(max_retries=1, on_exceeded="raise"))
    assert info.value.result is not None
    assert len(info.value.result.steps) == 2


def test_success_resets_the_count_of_failures() -> None:
    bad = ToolCall(name="add", arguments={})
    with ScriptedModel([bad, ADD, bad, ADD, "5"]) as model:
        assert run(model, add, rewind=0, limits=Limits(max_retries=1)).stop_reason == "answer"


def test_the_limit_of_steps() -> None:
    with ScriptedModel([ADD, ADD, "5 so far"]) as model:
        result = run(model, add, limits=Limits(max_steps=2))
    assert (result.output, result.stop_reason) == ("5 so far", "max_steps")
    with pytest.raises(LimitExceededError) as info:
        run(ScriptedModel([ADD, ADD]), add, limits=Limits(max_steps=2, on_exceeded="raise"))
    assert info.value.limit == "max_steps"


def test_the_limit_of_tokens() -> None:
    usage = Usage(prefilled_tokens=40, reused_tokens=1000, sampled_tokens=10)

    def step(request: ModelRequest) -> ModelResponse:
        call = ParsedCall(raw="", name="add", arguments={"a": 1, "b": 1})
        return ModelResponse(text="thinking", calls=(call,), usage=usage)

    model = ScriptedModel([step, step])
    result = run(model, add, limits=Limits(max_tokens=100))
    assert result.stop_reason == "max_tokens"
    assert result.output == "thinking"
    assert model.requests[1].sampling.max_tokens == 50


def test_the_limit_of_time_stops_model_and_tools() -> None:
    call = ToolCall(name="slow", arguments={"seconds": 60, "name": "x"})
    with ScriptedModel([call]) as model:
        result = run(model, slow, limits=Limits(max_seconds=0.1))
    assert result.stop_reason == "max_seconds"
    # The open call is answered, so that the conversation can go on.
    assert isinstance(result.messages[-1], ToolMessage)
    with pytest.raises(LimitExceededError, match=r"0\.1 s"):
        run(ScriptedModel([call]), slow, limits=Limits(max_seconds=0.1, on_exceeded="raise"))


def test_the_limit_of_calls_of_one_tool() -> None:
    with ScriptedModel([[ADD, ADD, ADD], "enough"]) as model:
        result = run(model, add, limits=Limits(max_calls_per_tool={"add": 2}))
    assert [c.status for c in result.calls] == ["ok", "ok", "refused"]
    with pytest.raises(LimitExceededError, match="more than 2 times"):
        run(
            ScriptedModel([[ADD, ADD, ADD]]),
            add,
            limits=Limits(max_calls_per_tool=2, on_exceeded="raise"),
        )


class TestMisuse:
    def test_two_tools_of_one_name(self) -> None:
        with pytest.raises(UserError, match="two tools are named 'add'"):
            Agent(ScriptedModel([]), [add, add])

    def test_something_that_is_no_tool(self) -> None:
        with pytest.raises(UserError, match="is not a tool"):
            Agent(ScriptedModel([]), ["add"])  # type: ignore[list-item]

    def test_a_tool_with_a_broken_schema(self) -> None:
        class Bad:
            definition = ToolDefinition(
                name="bad", parameters={"type": "object", "properties": {"x": {"type": "strin"}}}
            )
            timeout = None

            async def call(self, arguments: Any, context: ToolContext) -> Any: ...

        with pytest.raises(SchemaError, match=r"bad.*strin"):
            Agent(ScriptedModel([]), [Bad()])

    def test_a_choice_of_no_tool(self) -> None:
        with pytest.raises(UserError, match="'auto', 'required', 'none' or the name"):
            Agent(ScriptedModel([]), [add], tool_choice="sub")
        with pytest.raises(UserError, match="no tools to call"):
            Agent(ScriptedModel([])).run_sync("go", tool_choice="required")

    def test_an_empty_prompt(self) -> None:
        with pytest.raises(UserError, match="prompt is empty"):
            Agent(ScriptedModel([])).run_sync([])

    def test_a_model_that_is_none(self) -> None:
        with pytest.raises(UserError, match="pass a hub id"):
            Agent(42)  # type: ignore[arg-type]

    def test_run_sync_inside_an_event_loop(self) -> None:
        async def go() -> None:
            Agent(ScriptedModel(["x"])).run_sync("go")

        with pytest.raises(UserError, match=r"await agent\.run"):
            asyncio.run(go())

    @pytest.mark.parametrize(
        "options", [{"max_steps": 0}, {"max_seconds": 0}, {"on_exceeded": "explode"}]
    )
    def test_limits_that_make_no_sense(self, options: Any) -> None:
        with pytest.raises(UserError, match=next(iter(options))):
            Limits(**options)

    @pytest.mark.parametrize(
        "options",
        [{"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_k": 0}, {"stop": "end"}],
    )
    def test_sampling_that_makes_no_sense(self, options: Any) -> None:
        with pytest.raises(UserError, match=next(iter(options))):
            Sampling(**options)
