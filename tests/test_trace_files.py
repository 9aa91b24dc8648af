"""Traces in files, and ``agentkit trace``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from typer.testing import CliRunner, Result

from agent_tools import ADD, add, broken
from agentkit import Agent, ScriptedModel, ToolCall, UserError
from agentkit.cli.app import app
from agentkit.tracing import OTLPFileExporter, Tracing, read_traces


def show(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["trace", *map(str, args)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a run of two steps and one that fails."""
    path = tmp_path / "run.jsonl"
    tracing = Tracing.to_file(path, capture_content=True)
    Agent(ScriptedModel([ADD, "It is 5."], name="m"), [add], tracing=tracing, name="sums").run_sync(
        "2 + 3?"
    )
    call = ToolCall(name="broken", arguments={"how": "\x1b[31mway"})
    Agent(ScriptedModel([call, "no"]), [broken], tracing=tracing, name="second").run_sync("go")
    return path


def test_a_trace_is_shown_as_a_tree(file: Path) -> None:
    shown = show(file)
    assert shown.exit_code == 0, shown.output
    lines = [line.split("  ")[0] for line in shown.output.splitlines()]
    assert lines[1:5] == [
        "invoke_agent sums",
        "├── chat m",
        "├── execute_tool add",
        "└── chat m",
    ]
    assert "2 steps, 1 call" in shown.output
    assert "✗ ValueError" in shown.output
    assert "It is 5." not in shown.output
    content = show(file, "--content").output
    assert "It is 5." in content
    assert "\x1b" not in content  # nothing recorded steers the terminal


def test_choosing_among_traces(file: Path) -> None:
    assert "sums" not in show(file, "--last", "1").output
    first = read_traces(file)[0]
    run_id = first.attributes["agentkit.run.id"]
    data = json.loads(show(file, "--run", run_id[:12], "--json").output)
    assert [tree["name"] for tree in data] == ["invoke_agent sums"]
    assert [child["name"] for child in data[0]["children"]] == [
        "chat m",
        "execute_tool add",
        "chat m",
    ]
    assert show(file, "--run", "nothing").exit_code == 2


def test_the_file_is_the_owner_s_and_grows(file: Path) -> None:
    assert file.stat().st_mode & 0o077 == 0
    Agent(ScriptedModel(["ok"]), tracing=Tracing.to_file(file), name="third").run_sync("go")
    assert [root.name for root in read_traces(file)] == [
        "invoke_agent sums",
        "invoke_agent second",
        "invoke_agent third",
    ]


def test_a_run_that_was_killed_leaves_what_had_ended(file: Path) -> None:
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    # The root is written last: without it, what was below stands by itself.
    file.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    assert [root.name for root in read_traces(file)] == ["chat m", "execute_tool add"]
    Agent(ScriptedModel(["ok"]), tracing=Tracing.to_file(file)).run_sync("go")
    assert len(read_traces(file)) == 3


@pytest.mark.parametrize("text", ["{}\n", "[1]\n", "nonsense\n", '{"resourceSpans": 3}\n'])
def test_what_is_no_trace(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="line 1: not a line of OTLP JSON"):
        read_traces(path)
    shown = show(path)
    assert shown.exit_code == 2
    assert show(tmp_path / "none").exit_code == 2


def test_files_of_a_collector(tmp_path: Path) -> None:
    def span(name: str, number: int, parent: str = "") -> dict[str, Any]:
        return {
            "traceId": "ab" * 16,
            "spanId": f"{number:016x}",
            "parentSpanId": parent,
            "name": name,
            "startTimeUnixNano": number * 1000,
            "endTimeUnixNano": str(number * 2000),
            "status": {"code": "STATUS_CODE_ERROR"},
            "attributes": [{"key": "k", "value": {"kvlistValue": {"values": []}}}],
        }

    spans = [span("child", 2, f"{1:016x}"), span("top", 1)]
    line = {"resourceSpans": [{"scopeSpans": [{"spans": [s]} for s in spans]}]}
    path = tmp_path / "x"
    path.write_text(json.dumps(line) + "\n\n", encoding="utf-8")
    (top,) = read_traces(path)
    assert [s.name for s in top.walk()] == ["top", "child"]
    assert top.failed
    assert top.attributes == {"k": {}}


VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    st.lists(st.text(), max_size=3),
)


@given(attributes=st.dictionaries(st.text(min_size=1), VALUES, max_size=4), name=st.text())
def test_what_is_written_is_read(
    attributes: dict[str, Any], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trace") / "x"
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPFileExporter(path)))
    with provider.get_tracer("t").start_as_current_span(name, attributes=attributes) as span:
        span.add_event("happened", attributes)
    provider.shutdown()
    (root,) = read_traces(path)
    assert root.name == name
    assert root.attributes == attributes
    assert root.events[0][0] == "happened"
    assert root.events[0][2] == attributes
