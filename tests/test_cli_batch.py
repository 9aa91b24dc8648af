"""``agentkit batch`` and ``--trace`` as users run them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentkit.cli.app import app
from agentkit.tracing import read_traces

AGENTS = """
from agentkit import Agent, ScriptedModel, tool, ToolCall

def say(request):
    return "echo " + request.messages[-1].content

echo = Agent(ScriptedModel([say] * 20))

def make():
    return Agent(ScriptedModel([say] * 20), name="made")

number = 3
"""


def invoke(*args: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with agents and an input, which is the current one."""
    (tmp_path / "batch_agents.py").write_text(AGENTS, encoding="utf-8")
    (tmp_path / "in.jsonl").write_text('"a"\n"b"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("batch_agents", None)


def outputs() -> list[str]:
    text = Path("out.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["output"] for line in text.splitlines()]


@pytest.mark.parametrize("name", ["batch_agents:echo", "batch_agents.py:make"])
def test_an_agent_of_a_program(name: str) -> None:
    run = invoke("batch", "in.jsonl", "out.jsonl", "--agent", name)
    assert run.exit_code == 0, run.output
    assert outputs() == ["echo a", "echo b"]
    assert "2 of 2 lines done" in run.output
    run = invoke("batch", "in.jsonl", "out.jsonl", "--agent", name)
    assert "2 were done before" in run.output


def test_failed_lines_are_in_the_exit_code() -> None:
    Path("in.jsonl").write_text('"a"\n{\n', encoding="utf-8")
    run = invoke("batch", "in.jsonl", "out.jsonl", "--agent", "batch_agents:echo")
    assert run.exit_code == 1
    assert "1 failed" in run.output
    assert outputs() == ["echo a", None]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["none.jsonl", "out.jsonl"], "there is no file"),
        (["in.jsonl", "none/out.jsonl"], "no file that could be written"),
        (["in.jsonl", "out.jsonl", "--agent", "batch_agents"], "give a module and"),
        (["in.jsonl", "out.jsonl", "--agent", "no_such:echo"], "--agent: there is no module"),
        (["in.jsonl", "out.jsonl", "--agent", "batch_agents:none"], "its agents: echo"),
        (["in.jsonl", "out.jsonl", "--agent", "batch_agents:number"], "of type int"),
        (["in.jsonl", "out.jsonl", "--agent", "batch_agents:echo", "-s", "x"], "its own settings"),
        (["in.jsonl", "out.jsonl", "--trace-content"], "needs --trace"),
    ],
)
def test_wrong_usage(args: list[str], words: str) -> None:
    run = invoke("batch", *args)
    assert run.exit_code == 2, run.output
    assert words in " ".join(run.output.split())
    assert not Path("out.jsonl").exists()


def test_a_batch_is_traced(project: Path) -> None:
    args = ["batch", "in.jsonl", "out.jsonl", "--agent", "batch_agents.py:make"]
    run = invoke(*args, "--trace", "t.jsonl")
    assert run.exit_code == 0, run.output
    assert [root.name for root in read_traces(project / "t.jsonl")] == ["invoke_agent made"] * 2


@pytest.mark.model
def test_a_question_is_traced(project: Path) -> None:
    args = ["ask", "Say hi.", "--model", "embedded", "--max-tokens", "4"]
    run = invoke(*args, "--trace", "t.jsonl", "--trace-content")
    assert run.exit_code == 0, run.output
    (root,) = read_traces(project / "t.jsonl")
    assert root.attributes["gen_ai.usage.output_tokens"] <= 4
    shown = invoke("trace", "t.jsonl", "--content").output
    assert "Say hi." in shown
