"""The agent loop, on a scripted model and with real tools."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_tools import ADD, add, broken, run, slow
from agentkit import (
    Agent,
    AssistantMessage,
    Document,
    MessageError,
    ModelError,
    ModelRequest,
    Retrieval,
    Retry,
    RunFinished,
    RunResult,
    ScoredDocument,
    ScriptedModel,
    StepFinished,
    SystemMessage,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    ToolContext,
    ToolDefinition,
    ToolExecutionError,
    ToolMessage,
    ToolResult,
    ToolTimeoutError,
    UserMessage,
    example_call,
    tool,
)


def test_a_call_its_result_and_an_answer() -> None:
    with ScriptedModel([ADD, "It is 5."]) as model:
        result = run(model, add, system="Be terse.")
    assert result.output == "It is 5."
    assert result.stop_reason == "answer"
    assert result.messages == (
        SystemMessage("Be terse."),
        UserMessage("go"),
        AssistantMessage("", (ADD,)),
        ToolMessage("5", ADD.id, "add"),
        AssistantMessage("It is 5."),
    )
    assert [(c.call, c.status, c.observation) for c in result.calls] == [(ADD, "ok", "5")]
    assert len(result.steps) == 2
    assert result.usage.sampled_tokens > 0
    assert model.requests[0].tools == [add.definition]


def test_plain_functions_become_tools() -> None:
    def double(x: int) -> int:
        """Double a number."""
        return 2 * x

    with ScriptedModel([ToolCall(name="double", arguments={"x": 4}), "8"]) as model:
        assert run(model, double).calls[0].observation == "8"


def test_events_tell_the_run_as_it_happens() -> None:
    async def events() -> list[Any]:
        with ScriptedModel(["Let me see. <tool_call>\n" + _json(ADD) + "\n</tool_call>", "5"]) as m:
            return [event async for event in Agent(m, [add]).stream("2 + 3?")]

    kinds = [type(event) for event in asyncio.run(events())]
    assert kinds[-1] is RunFinished
    order = [k for k in kinds if k in (ToolCallStarted, ToolResult, StepFinished, RunFinished)]
    assert order == [ToolCallStarted, ToolResult, StepFinished, StepFinished, RunFinished]
    assert kinds.index(TextDelta) < kinds.index(ToolCallStarted)


def test_parallel_calls_run_side_by_side_and_answer_in_call_order() -> None:
    calls = [
        ToolCall(name="slow", arguments={"seconds": 0.3, "name": "first"}),
        ToolCall(name="slow", arguments={"seconds": 0.01, "name": "second"}),
    ]
    finished: list[str] = []

    async def go() -> RunResult:
        with ScriptedModel([calls, "done"]) as model:
            async for event in Agent(model, [slow]).stream("go"):
                if isinstance(event, ToolResult):
                    finished.append(event.record.observation)
                if isinstance(event, RunFinished):
                    return event.result
        raise AssertionError

    result = asyncio.run(go())
    assert finished == ["second waited", "first waited"]
    assert [c.observation for c in result.calls] == ["first waited", "second waited"]
    assert [m.content for m in result.messages if isinstance(m, ToolMessage)] == [
        "first waited",
        "second waited",
    ]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (ToolCall(name="add", arguments={"a": 2}), "$.b"),
        (ToolCall(name="add", arguments={"a": 2, "b": "soon"}), "soon"),
        (ToolCall(name="ad", arguments={"a": 2, "b": 3}), "add"),
        ("<tool_call>\n{nonsense\n</tool_call>", "valid JSON"),
        ("<tool_call>\n42\n</tool_call>", "Error"),
    ],
)
def test_an_invalid_call_is_explained_to_the_model_and_retried(step: Any, told: str) -> None:
    async def go() -> list[Any]:
        with ScriptedModel([step, ADD, "5"]) as model:
            return [event async for event in Agent(model, [add], rewind=0).stream("go")]

    events = asyncio.run(go())
    (retry,) = [event for event in events if isinstance(event, Retry)]
    assert told in retry.reason
    assert retry.attempt == 1
    result = events[-1].result
    assert [c.status for c in result.calls] == ["invalid", "ok"]
    assert result.output == "5"
    # Every call of the conversation has its answer.
    calls = [c.id for m in result.messages if isinstance(m, AssistantMessage) for c in m.tool_calls]
    answers = [m.tool_call_id for m in result.messages if isinstance(m, ToolMessage)]
    assert calls == answers


def test_harmless_mistakes_are_mended_and_counted() -> None:
    step = '<tool_call>{"name": "add", "arguments": "{\\"a\\": \\"2\\", \\"b\\": 3.0}"}</tool_call>'
    with ScriptedModel([step, "5"]) as model:
        result = run(model, add)
    assert result.calls[0].observation == "5"
    assert result.calls[0].call.arguments == {"a": 2, "b": 3}
    assert len(result.repairs) >= 2


def test_a_tools_failure_is_told_to_the_model() -> None:
    steps = [
        ToolCall(name="broken", arguments={"how": "politely"}),
        ToolCall(name="broken", arguments={"how": "way"}),
        "sorry",
    ]
    with ScriptedModel(steps) as model:
        result = run(model, broken)
    assert [c.observation for c in result.calls] == [
        "Error: say please",
        "Error: broken failed with ValueError: no way",
    ]
    assert [c.status for c in result.calls] == ["failed", "failed"]


def test_a_tools_failure_can_end_the_run() -> None:
    model = ScriptedModel([ToolCall(name="broken", arguments={"how": "way"})])
    with pytest.raises(ToolExecutionError, match="'broken' failed: no way"):
        run(model, broken, on_tool_error="raise")


def test_a_slow_tool_is_stopped_and_told() -> None:
    stopped = threading.Event()

    @tool(timeout=0.05)
    def endless(context: ToolContext) -> str:
        """Never return by itself."""
        while not context.cancelled.wait(0.01):
            pass
        stopped.set()
        return "late"

    with ScriptedModel([ToolCall(name="endless", arguments={}), "gave up"]) as model:
        result = run(model, endless)
    assert result.calls[0].status == "timeout"
    assert "0.05 seconds" in result.calls[0].observation
    assert stopped.wait(5)
    with pytest.raises(ToolTimeoutError):
        run(
            ScriptedModel([ToolCall(name="slow", arguments={"seconds": 9, "name": "x"})]),
            slow,
            tool_timeout=0.05,
            on_tool_error="raise",
        )


@pytest.mark.parametrize("value", [None, b"\xff", float("nan"), {1, 2}, object(), {"k": {3}}])
def test_whatever_a_tool_returns_becomes_text(value: Any) -> None:
    class Odd:
        definition = ToolDefinition(name="odd")
        timeout = None

        async def call(self, arguments: Any, context: ToolContext) -> Any:
            return value

    with ScriptedModel([ToolCall(name="odd", arguments={}), "ok"]) as model:
        result = run(model, Odd())
    assert isinstance(result.calls[0].observation, str)
    assert result.calls[0].status == "ok"


def test_a_required_call_is_required_once() -> None:
    with ScriptedModel([ADD, "5"]) as model:
        run(model, add, tool_choice="required")
    assert [r.tool_choice for r in model.requests] == ["required", "auto"]


class Shelf:
    """A retriever of one document."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        self.queries.append(query)
        return [ScoredDocument(Document(text="The lab is in Zürich.", doc_id=1, source="kb"), 0.9)]


def test_a_retriever_fills_the_documents_section() -> None:
    shelf = Shelf()

    async def go() -> list[Any]:
        with ScriptedModel(["In Zürich."]) as model:
            agent = Agent(model, retriever=shelf)
            events = [event async for event in agent.stream("Where is the lab?")]
            assert [d.text for d in model.requests[0].documents] == ["The lab is in Zürich."]
            return events

    events = asyncio.run(go())
    assert isinstance(events[0], Retrieval)
    assert [hit.document.source for hit in events[-1].result.sources] == ["kb"]
    assert shelf.queries == ["Where is the lab?"]


def test_a_follow_up_is_searched_with_the_question_before_it() -> None:
    shelf = Shelf()
    with ScriptedModel(["In Zürich.", "Since 1956."]) as model:
        agent = Agent(model, retriever=shelf)
        first = agent.run_sync("Where is the lab?")
        agent.run_sync("Since when?", history=first)
    assert shelf.queries[1] == "Where is the lab?\nSince when?"


def test_a_retriever_as_a_tool() -> None:
    shelf = Shelf()
    call = ToolCall(name="search_documents", arguments={"query": "lab"})
    with ScriptedModel([call, "In Zürich."]) as model:
        result = run(model, retriever=shelf, retrieval="tool")
    assert "Zürich" in result.calls[0].observation
    assert [hit.document.doc_id for hit in result.sources] == [1]
    assert model.requests[0].documents == ()


def test_a_conversation_goes_on_from_a_result_and_from_a_file(tmp_path: Path) -> None:
    with ScriptedModel([ADD, "5", "6"]) as model:
        agent = Agent(model, [add], system="Be terse.")
        first = agent.run_sync("2 + 3?")
        first.save(tmp_path / "run.json")
        loaded = RunResult.load(tmp_path / "run.json")
        assert loaded == first
        second = agent.run_sync("one more?", history=loaded)
    assert second.messages[: len(first.messages)] == first.messages
    assert second.new_messages == (UserMessage("one more?"), AssistantMessage("6"))
    assert second.messages.count(SystemMessage("Be terse.")) == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 99}', '{"version": 1}', "\x00"])
def test_a_file_that_is_no_saved_run_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(MessageError):
        RunResult.load(path)


def test_a_result_is_plain_json() -> None:
    with ScriptedModel([ADD, "5"]) as model:
        result = run(model, add)
    data = json.loads(json.dumps(result.to_dict()))
    assert data["steps"][0]["calls"][0]["arguments"] == {"a": 2, "b": 3}
    assert RunResult.from_dict(data) == result


def test_examples_stand_before_the_prompt_and_not_in_the_result() -> None:
    shown = example_call("1 + 1?", "add", {"a": 1, "b": 1}, "2", "It is 2.")
    with ScriptedModel(["5"]) as model:
        result = run(model, add, system="Be terse.", examples=shown)
    assert list(model.requests[0].messages) == [
        SystemMessage("Be terse."),
        *shown,
        UserMessage("go"),
    ]
    assert result.messages == (
        SystemMessage("Be terse."),
        UserMessage("go"),
        AssistantMessage("5"),
    )


def test_tools_find_what_the_program_hands_to_the_run() -> None:
    @tool
    def whoami(context: ToolContext) -> str:
        """Say who asks."""
        return f"{context.deps} at step {context.step} by {context.call_id}"

    call = ToolCall(name="whoami", arguments={}, id="c1")
    with ScriptedModel([call, "ok"]) as model:
        result = Agent(model, [whoami]).run_sync("go", deps="Ada")
    assert result.calls[0].observation == "Ada at step 0 by c1"


def test_closing_a_stream_early_cancels_tools_and_model() -> None:
    cancelled = asyncio.Event()

    @tool
    async def forever() -> str:
        """Never return."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    async def go() -> set[asyncio.Task[Any]]:
        stream = Agent(ScriptedModel([ToolCall(name="forever", arguments={})]), [forever]).stream(
            "x"
        )
        async for event in stream:
            if isinstance(event, ToolCallStarted):
                break
        await asyncio.sleep(0)
        await stream.aclose()  # type: ignore[attr-defined]
        assert cancelled.is_set()
        return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]

    assert asyncio.run(go()) == set()


def test_cancelling_a_run_leaves_no_task_behind() -> None:
    async def go() -> set[asyncio.Task[Any]]:
        call = ToolCall(name="slow", arguments={"seconds": 60, "name": "x"})
        task = asyncio.create_task(Agent(ScriptedModel([call]), [slow]).run("x"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]

    assert asyncio.run(go()) == set()


def test_an_exception_of_the_model_reaches_the_caller() -> None:
    with pytest.raises(ModelError, match="out of memory"):
        run(ScriptedModel([ModelError("out of memory")]))


def test_a_model_that_ends_without_a_response_is_an_error() -> None:
    class Silent(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[Any]:
            yield TextDelta("half a")

    with pytest.raises(ModelError, match="without a ModelResponse"):
        run(Silent([]))


def _json(call: ToolCall) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments})


def test_runs_share_nothing() -> None:
    async def go() -> list[RunResult]:
        agents = [Agent(ScriptedModel([ADD, str(i)]), [add]) for i in range(20)]
        return await asyncio.gather(*(agent.run("go") for agent in agents))

    outputs = [result.output for result in asyncio.run(go())]
    assert outputs == [str(i) for i in range(20)]
