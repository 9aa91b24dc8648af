"""Tools run while the model is still writing; records and limits keep the order of the calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent_tools import ADD, add, broken, slow
from agentkit import (
    Agent,
    AssistantMessage,
    CallRecord,
    Event,
    Limits,
    ModelError,
    ModelRequest,
    ParsedCall,
    RunFinished,
    RunResult,
    ScriptedModel,
    StepFinished,
    ToolCall,
    ToolCallStarted,
    ToolExecutionError,
    ToolMessage,
    ToolResult,
    tool,
)
from agentkit.models.base import CallParsed, ModelEvent
from agentkit.tool_execution import ToolExecutor, ToolSet


def wait(seconds: float, name: str) -> ToolCall:
    return ToolCall(name="slow", arguments={"seconds": seconds, "name": name})


async def events_of(agent: Agent) -> list[Event]:
    return [event async for event in agent.stream("go")]


async def test_a_tool_begins_before_the_turn_is_written() -> None:
    """The model writes its second call only when the first one's tool has run."""
    ran = asyncio.Event()

    @tool
    async def first() -> str:
        """Run."""
        ran.set()
        return "first"

    class Waiting(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            async for event in super().stream(request):
                if isinstance(event, CallParsed) and event.index == 1:
                    await asyncio.wait_for(ran.wait(), 5)
                yield event

    calls = [ToolCall(name="first", arguments={}), ADD]
    with Waiting([calls, "done"]) as model:
        result = await Agent(model, [first, add]).run("go")
    assert [c.observation for c in result.calls] == ["first", "5"]


async def test_without_overlap_tools_wait_for_the_turn() -> None:
    seen: list[str] = []

    class Noting(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            async for event in super().stream(request):
                await asyncio.sleep(0.01)
                if isinstance(event, CallParsed):
                    seen.append("call")
                yield event

    async for event in Agent(Noting([[ADD, ADD], "done"]), [add], overlap=False).stream("go"):
        if isinstance(event, ToolCallStarted):
            seen.append("tool")
    assert seen == ["call", "call", "tool", "tool"]


async def test_records_limits_and_messages_keep_the_order_of_the_calls() -> None:
    calls = [wait(0.1, "a"), ADD, wait(0.01, "b"), ADD, ADD]
    with ScriptedModel([calls, "done"], delay=0.005) as model:
        agent = Agent(model, [slow, add], limits=Limits(max_calls_per_tool={"add": 2}))
        events = await events_of(agent)
    result = events[-1].result  # type: ignore[union-attr]
    assert [c.observation for c in result.calls][:4] == ["a waited", "5", "b waited", "5"]
    assert [c.status for c in result.calls] == ["ok"] * 4 + ["refused"]
    asked = [c.id for m in result.messages if isinstance(m, AssistantMessage) for c in m.tool_calls]
    told = [m.tool_call_id for m in result.messages if isinstance(m, ToolMessage)]
    assert asked == told == [c.call.id for c in result.calls]
    finished = [e.record.call.id for e in events if isinstance(e, ToolResult)]
    assert sorted(finished) == sorted(asked)
    assert finished[-1] == asked[0]  # the slow one


async def test_overlapped_time_is_not_counted_twice() -> None:
    begin = time.perf_counter()
    with ScriptedModel([[wait(0.15, "a"), ADD], "done"], delay=0.1) as model:
        result = await Agent(model, [slow, add]).run("go")
    wall = time.perf_counter() - begin
    step = result.steps[0]
    parts = sum(s.model_seconds + s.tool_seconds + s.overhead_seconds for s in result.steps)
    assert parts <= wall
    # The tool began with a fifth of a second of the turn to go.
    assert 0 < step.overlap_seconds <= step.model_seconds
    assert step.calls[0].seconds > step.tool_seconds
    assert result.steps[1].overlap_seconds == 0


async def test_a_turn_that_fails_takes_its_tools_along() -> None:
    cancelled = asyncio.Event()
    audited: list[Any] = []

    @tool
    async def forever() -> str:
        """Never return."""
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    class Failing(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            async for event in super().stream(request):
                if isinstance(event, CallParsed) and event.index == 2:
                    await asyncio.sleep(0.02)
                    raise ModelError("out of memory")
                yield event

    model = Failing([[ADD, ToolCall(name="forever", arguments={}), ADD]])
    with pytest.raises(ModelError, match="out of memory") as info:
        await Agent(model, [add, forever], audit=audited.append).run("go")
    assert cancelled.is_set()
    # What was done is not lost: it is in the result so far, and in the audit.
    result = info.value.result
    assert result is not None
    assert result.stop_reason == "error"
    assert [c.status for c in result.calls] == ["ok", "cancelled"]
    assert next(m.content for m in result.messages if isinstance(m, ToolMessage)) == "5"
    assert {(r.tool, r.outcome) for r in audited} == {("add", "ok"), ("forever", "cancelled")}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    # And the conversation can go on from there.
    with ScriptedModel(["ok"]) as model:
        assert (await Agent(model, [add]).run("again", history=result)).output == "ok"


async def test_a_deadline_amid_a_turn_keeps_what_tools_have_done() -> None:
    with ScriptedModel([[ADD, wait(60, "x")]], delay=0.01) as model:
        result = await Agent(model, [add, slow], limits=Limits(max_seconds=0.3)).run("go")
    assert result.stop_reason == "max_seconds"
    assert [c.status for c in result.calls] == ["ok", "cancelled"]
    assert [m.content for m in result.messages if isinstance(m, ToolMessage)] == [
        "5",
        "Error: the run ended before this call did.",
    ]
    assert RunResult.from_dict(result.to_dict()) == result
    assert result.usage.prefilled_tokens > 0  # as far as the model said


async def test_a_failing_tool_that_raises_stops_the_model() -> None:
    closed = asyncio.Event()

    class Endless(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            try:
                async for event in super().stream(request):
                    yield event
                    if isinstance(event, CallParsed):
                        await asyncio.sleep(60)
            finally:
                closed.set()

    model = Endless([ToolCall(name="broken", arguments={"how": "way"})])
    with pytest.raises(ToolExecutionError, match="no way") as info:
        await Agent(model, [broken], on_tool_error="raise").run("go")
    assert isinstance(info.value.__cause__, ValueError)
    assert closed.is_set()


async def test_cancelling_a_run_waits_for_its_tools() -> None:
    ended: list[str] = []

    @tool
    async def careful() -> str:
        """Take a moment to clean up."""
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            ended.append("clean")
        return ""

    call = ToolCall(name="careful", arguments={})
    task = asyncio.create_task(Agent(ScriptedModel([[call, call]]), [careful]).run("go"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["clean", "clean"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_model_that_tells_of_its_calls_only_at_the_end() -> None:
    class Late(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            async for event in super().stream(request):
                if not isinstance(event, CallParsed):
                    yield event

    with Late([[ADD, ADD], "done"]) as model:
        result = await Agent(model, [add]).run("go")
    records: list[CallRecord] = list(result.calls)
    assert [r.observation for r in records] == ["5", "5"]


async def test_an_executor_by_itself_runs_calls_in_order() -> None:
    """What servers use, who have tools but no run."""
    seen: list[str] = []
    executor = ToolExecutor(
        ToolSet([add, broken]), limits=Limits(), timeout=1, on_error="feedback", deps=None
    )
    calls = [
        ParsedCall(raw="", name="add", arguments={"a": 2, "b": "3"}),
        ParsedCall(raw="", name="nothing", arguments={}),
        ParsedCall(raw="", name="broken", arguments={"how": "politely"}),
    ]
    records = await executor.run(
        calls,
        started=lambda call: seen.append(f"{call.name} begins"),
        finished=lambda record: seen.append(record.status),
    )
    assert [r.status for r in records] == ["ok", "invalid", "failed"]
    assert [r.error for r in records] == ["", "UnknownTool", "ToolError"]
    assert sorted(seen) == ["add begins", "broken begins", "failed", "invalid", "ok"]
    raising = ToolExecutor(
        ToolSet([broken]), limits=Limits(), timeout=1, on_error="raise", deps=None
    )
    with pytest.raises(ToolExecutionError, match="no way"):
        await raising.run([ParsedCall(raw="", name="broken", arguments={"how": "way"})])


async def test_each_event_of_a_call_comes_once() -> None:
    with ScriptedModel([[ADD, ADD], "done"], delay=0.001) as model:
        events = await events_of(Agent(model, [add]))
    kinds = [type(e) for e in events]
    assert [kinds.count(k) for k in (ToolCallStarted, ToolResult, StepFinished, RunFinished)] == [
        2,
        2,
        2,
        1,
    ]
