"""Spans and metrics of runs, as OpenTelemetry's SDK receives them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agent_tools import ADD, add, broken, slow
from agentkit import (
    Agent,
    AssistantMessage,
    Document,
    LimitExceededError,
    Limits,
    ModelError,
    ModelResponse,
    RunFinished,
    ScoredDocument,
    ScriptedModel,
    ToolCall,
    ToolExecutionError,
    Usage,
    UserError,
    tool,
)
from agentkit.tracing import Tracing, conversation, instrument, uninstrument
from agentkit_tools import HTTPTool
from http_support import Service


class Recorder:
    """A tracer and a meter that keep what they are told."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def tracing(self, **options: Any) -> Tracing:
        return Tracing(tracer_provider=self.provider, meter_provider=self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """By their beginning."""
        return sorted(self.exporter.get_finished_spans(), key=lambda s: s.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, [span.name for span in self.spans]
        return found[0]

    def everything(self) -> str:
        """All that was told, as text."""
        return "".join(span.to_json() for span in self.spans)

    def points(self, metric: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def everywhere(recorder: Recorder) -> Iterator[Recorder]:
    instrument(recorder.tracing())
    yield recorder
    uninstrument()


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


TURN = ModelResponse(
    text="It is 5.",
    usage=Usage(
        prefilled_tokens=7, reused_tokens=40, sampled_tokens=6, forced_tokens=3, lookup_tokens=2
    ),
)


def test_a_run_is_a_tree_by_the_conventions(recorder: Recorder) -> None:
    agent = Agent(ScriptedModel([ADD, TURN], name="m"), [add], tracing=recorder.tracing(), name="a")
    result = agent.run_sync("2 + 3?")
    names = [span.name for span in recorder.spans]
    assert names[:2] == ["invoke_agent a", "chat m"]
    assert sorted(names[2:]) == ["chat m", "execute_tool add"]
    run, call, turn = (
        recorder.one("invoke_agent a"),
        recorder.one("execute_tool add"),
        (recorder.spans[-1]),
    )
    assert run.parent is None
    assert all(parent(span) == run.context.span_id for span in recorder.spans[1:])
    assert all(span.kind == SpanKind.INTERNAL for span in recorder.spans)
    assert all(span.status.status_code == StatusCode.UNSET for span in recorder.spans)
    wanted: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "agentkit",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 512,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 47,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "agentkit.usage.reused_tokens": 40,
        "agentkit.usage.forced_tokens": 3,
        "agentkit.usage.lookup_tokens": 2,
    }
    assert turn.attributes is not None
    assert wanted.items() <= dict(turn.attributes).items()
    assert call.attributes is not None
    assert dict(call.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.call.id": result.calls[0].call.id,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.description": "Add two numbers.",
        "gen_ai.agent.name": "a",
        "agentkit.step": 0,
        "agentkit.call.status": "ok",
    }
    assert run.attributes is not None
    assert run.attributes["agentkit.run.id"] == result.run_id
    assert run.attributes["agentkit.run.stop_reason"] == "answer"
    assert run.attributes["gen_ai.usage.input_tokens"] == result.usage.prompt_tokens


def test_metrics(recorder: Recorder) -> None:
    agent = Agent(ScriptedModel([ADD, TURN]), [add], tracing=recorder.tracing())
    result = agent.run_sync("2 + 3?")
    tokens = {
        point.attributes["gen_ai.token.type"]: (point.count, point.sum)
        for point in recorder.points("gen_ai.client.token.usage")
    }
    assert tokens == {
        "input": (2, result.usage.prompt_tokens),
        "output": (2, result.usage.generated_tokens),
    }
    kinds = {
        point.attributes["agentkit.token.kind"]: point.value
        for point in recorder.points("agentkit.tokens")
    }
    assert kinds["reused"] == 40
    assert kinds["forced"] == 3
    for metric, count in [
        ("gen_ai.invoke_agent.duration", 1),
        ("gen_ai.client.operation.duration", 2),
        ("gen_ai.client.operation.time_to_first_chunk", 2),
        ("gen_ai.execute_tool.duration", 1),
    ]:
        assert [point.count for point in recorder.points(metric)] == [count], metric


def test_nothing_said_is_told_unless_wanted(recorder: Recorder) -> None:
    def turns() -> ScriptedModel:
        call = ToolCall(name="broken", arguments={"how": "apricot"})
        return ScriptedModel([call, "Plum.", ModelError("quince")])

    def converse(tracing: Tracing) -> None:
        agent = Agent(turns(), [broken], system="Cherry.", tracing=tracing)
        history = agent.run_sync("Grape?")
        with pytest.raises(ModelError):
            agent.run_sync("Olive?", history=history)

    converse(recorder.tracing())
    quiet = recorder.everything()
    converse(recorder.tracing(capture_content=True))
    told = recorder.everything()
    for word in ("apricot", "Plum", "Cherry", "Grape", "Olive", "quince"):
        assert word not in quiet
        assert word in told


def test_content_has_the_conventions_form_and_no_secrets(recorder: Recorder) -> None:
    @tool
    def look(key: str) -> str:
        """Look."""
        return f"the key {key} is hunter22"

    agent = Agent(
        ScriptedModel([ToolCall(name="look", arguments={"key": "hunter22"}, id="c1"), "hunter22!"]),
        [look],
        redact=["hunter22"],
        tracing=recorder.tracing(capture_content=True),
    )
    agent.run_sync("use hunter22")
    assert "hunter22" not in recorder.everything()
    last = recorder.spans[-1].attributes
    assert last is not None
    assert json.loads(str(last["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": "use [redacted]"}]},
        {
            "role": "assistant",
            "parts": [
                {
                    "type": "tool_call",
                    "id": "c1",
                    "name": "look",
                    "arguments": {"key": "[redacted]"},
                }
            ],
        },
        {
            "role": "tool",
            "parts": [
                {
                    "type": "tool_call_response",
                    "id": "c1",
                    "response": "the key [redacted] is [redacted]",
                }
            ],
        },
    ]
    assert json.loads(str(last["gen_ai.output.messages"])) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "[redacted]!"}],
            "finish_reason": "stop",
        }
    ]


def test_failures_are_in_the_status(recorder: Recorder) -> None:
    tracing = recorder.tracing()
    model = ScriptedModel([ToolCall(name="broken", arguments={"how": "way"}), ModelError("gone")])
    with pytest.raises(ModelError):
        Agent(model, [broken], tracing=tracing).run_sync("go")
    failed = {
        span.name: span.attributes["error.type"]
        for span in recorder.spans
        if span.status.status_code == StatusCode.ERROR and span.attributes is not None
    }
    assert failed == {
        "execute_tool broken": "ValueError",
        "chat scripted": "ModelError",
        "invoke_agent agent": "ModelError",
    }
    run = recorder.one("invoke_agent agent").attributes
    assert run is not None
    assert run["agentkit.run.stop_reason"] == "error"  # what came before it is told as well
    kinds = {
        p.attributes.get("error.type") for p in recorder.points("gen_ai.execute_tool.duration")
    }
    assert kinds == {"ValueError"}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_tool_error": "raise"}, ToolExecutionError),
        ({"limits": Limits(max_retries=0, on_exceeded="raise")}, Exception),
        ({"limits": Limits(max_seconds=0.05, on_exceeded="raise")}, LimitExceededError),
    ],
)
def test_every_span_ends_however_the_run_does(
    recorder: Recorder, options: dict[str, Any], error: type[Exception]
) -> None:
    calls = [
        ToolCall(name="slow", arguments={"seconds": 0.2, "name": "x"}),
        ToolCall(name="broken", arguments={"how": "way"}),
    ]
    agent = Agent(ScriptedModel([calls]), [slow, broken], tracing=recorder.tracing(), **options)
    with pytest.raises(error):
        agent.run_sync("go")
    names = sorted(span.name for span in recorder.spans)
    assert names == [
        "chat scripted",
        "execute_tool broken",
        "execute_tool slow",
        "invoke_agent agent",
    ]
    assert recorder.one("invoke_agent agent").status.status_code == StatusCode.ERROR


async def test_a_cancelled_run_ends_its_spans(recorder: Recorder) -> None:
    call = ToolCall(name="slow", arguments={"seconds": 20, "name": "x"})
    agent = Agent(ScriptedModel([call]), [slow], tracing=recorder.tracing())
    task = asyncio.create_task(agent.run("go"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for name in ("execute_tool slow", "invoke_agent agent"):
        attributes = recorder.one(name).attributes
        assert attributes is not None
        assert attributes["error.type"] == "CancelledError"


def test_calls_that_do_not_run_are_noted_in_the_run(recorder: Recorder) -> None:
    bad = ToolCall(name="add", arguments={"a": 1})
    model = ScriptedModel([bad, bad, ADD, "done"])
    agent = Agent(model, [add], approvals={"add": "deny"}, tracing=recorder.tracing())
    agent.run_sync("go")
    run = recorder.one("invoke_agent agent")
    events = [(e.name, (e.attributes or {}).get("agentkit.call.status")) for e in run.events]
    assert events == [
        ("agentkit.rewind", None),
        ("agentkit.call_not_run", "invalid"),
        ("agentkit.retry", None),
        ("agentkit.call_not_run", "denied"),
        ("agentkit.retry", None),
    ]
    given_up = recorder.spans[1].attributes
    assert given_up is not None
    assert given_up["agentkit.turn.given_up"] is True
    assert given_up["gen_ai.usage.output_tokens"]


@pytest.mark.parametrize("is_async", [True, False])
def test_spans_of_tools_are_below_their_calls(recorder: Recorder, is_async: bool) -> None:
    own = recorder.provider.get_tracer("tool")

    @tool
    def look() -> str:
        """Look."""
        with own.start_as_current_span("inside"):
            return "seen"

    @tool(name="look")
    async def look_async() -> str:
        """Look."""
        with own.start_as_current_span("inside"):
            return "seen"

    model = ScriptedModel([AssistantMessage("Well.", (ToolCall(name="look", arguments={}),)), "ok"])
    agent = Agent(model, [look_async if is_async else look], tracing=recorder.tracing())
    with own.start_as_current_span("outside") as outside:
        agent.run_sync("go")
        assert trace.get_current_span() is outside
    run, call = recorder.one("invoke_agent agent"), recorder.one("execute_tool look")
    assert parent(recorder.one("inside")) == call.context.span_id
    assert parent(call) == run.context.span_id
    assert parent(run) == outside.get_span_context().span_id


async def test_runs_side_by_side_do_not_mix(recorder: Recorder) -> None:
    call = ToolCall(name="slow", arguments={"seconds": 0.02, "name": "x"})
    tracing = recorder.tracing()

    async def one(i: int) -> None:
        agent = Agent(
            ScriptedModel([call, "a b c"], delay=0.003), [slow], tracing=tracing, name=f"a{i}"
        )
        with conversation(f"c{i}"):
            async for event in agent.stream("go"):
                last = event
        assert isinstance(last, RunFinished)

    await asyncio.gather(*map(one, range(8)))
    for i in range(8):
        run = recorder.one(f"invoke_agent a{i}")
        inside = [s for s in recorder.spans if s.context.trace_id == run.context.trace_id]
        assert len(inside) == 4
        assert {(s.attributes or {})["gen_ai.conversation.id"] for s in inside} == {f"c{i}"}


def test_a_resumed_run_counts_its_own_part(recorder: Recorder) -> None:
    agent = Agent(
        ScriptedModel([ADD, TURN]), [add], approvals={"add": "ask"}, tracing=recorder.tracing()
    )
    paused = agent.run_sync("go")
    agent.resume_sync(paused, True)
    first, second = [s.attributes or {} for s in recorder.spans if s.name.startswith("invoke")]
    assert first["agentkit.run.stop_reason"] == "approval"
    assert first["agentkit.run.id"] == second["agentkit.run.id"]
    assert second["agentkit.run.resumed"] is True
    assert second["gen_ai.usage.input_tokens"] == TURN.usage.prompt_tokens


def test_searches(recorder: Recorder) -> None:
    class Finder:
        def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
            return [ScoredDocument(document=Document(text="x", doc_id="d1"), score=0.5)]

    agent = Agent(ScriptedModel(["ok"]), retriever=Finder(), tracing=recorder.tracing())
    agent.run_sync("where?")
    attributes = recorder.one("retrieval").attributes
    assert attributes is not None
    assert attributes["agentkit.retrieval.documents"] == 1
    assert "gen_ai.retrieval.query.text" not in attributes


def test_instrumenting_reaches_agents_that_have_no_setting(everywhere: Recorder) -> None:
    Agent(ScriptedModel(["ok"]), name="traced").run_sync("go")
    Agent(ScriptedModel(["ok"]), name="not", tracing=False).run_sync("go")
    assert [span.name for span in everywhere.spans] == ["invoke_agent traced", "chat scripted"]
    uninstrument()
    Agent(ScriptedModel(["ok"]), name="later").run_sync("go")
    assert len(everywhere.spans) == 2


def test_what_tracing_may_be() -> None:
    with pytest.raises(UserError, match="tracing is 'yes'"):
        Agent(ScriptedModel([]), tracing="yes")  # type: ignore[arg-type]


def test_nothing_is_imported_when_off() -> None:
    code = (
        "import sys; from agentkit import Agent, ScriptedModel; import agentkit.tracing\n"
        "Agent(ScriptedModel(['ok'])).run_sync('go')\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
        check=True,
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.usefixtures("http_environment")
def test_the_trace_goes_to_services_that_are_to_have_it(
    recorder: Recorder, service: Service
) -> None:
    tools = [
        HTTPTool(name=name, url=f"{service.url}/{name}", propagate_trace=name == "ours")
        for name in ("ours", "foreign")
    ]
    calls = [ToolCall(name=name, arguments={}) for name in ("ours", "foreign")]
    Agent(ScriptedModel([calls, "ok"]), tools, tracing=recorder.tracing()).run_sync("go")
    headers = {seen["path"]: seen["headers"] for seen in service.requests}
    context = recorder.one("execute_tool ours").context
    wanted = f"00-{context.trace_id:032x}-{context.span_id:016x}-"
    assert headers["/ours"]["traceparent"].startswith(wanted)
    assert "traceparent" not in headers["/foreign"]
