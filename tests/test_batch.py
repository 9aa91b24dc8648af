"""Batches: forms of lines, errors, order, and going on after a stop or a kill."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_tools import add
from agentkit import (
    Agent,
    ModelError,
    ModelLoadError,
    ModelRequest,
    Sampling,
    ScriptedModel,
    ToolCall,
    TransformersModel,
    UserError,
)
from agentkit.batch import BatchReport, run_batch, run_batch_sync
from agentkit.messages import message_to_dict


class Echo(ScriptedModel):
    """Repeats the last message; the words ``fail`` and ``load`` make it fail."""

    def __init__(self, steps: int = 500, *, delay: float = 0.0) -> None:
        super().__init__([self.say] * steps, delay=delay)
        self.failing = True

    def say(self, request: ModelRequest) -> str:
        text = request.messages[-1].content
        if text == "fail" and self.failing:
            raise ModelError("out of breath")
        if text == "load":
            raise ModelLoadError("no such model")
        return f"echo {text}"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def openai(custom_id: str, **body: Any) -> dict[str, Any]:
    messages = body.pop("messages", [{"role": "user", "content": "hi"}])
    body = {"model": "any", "messages": messages, **body}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }


def test_our_own_form(out: Path) -> None:
    model = Echo()
    lines = [
        "plain",
        {"prompt": "b", "id": "named", "max_tokens": 7, "temperature": 0.5, "metadata": {"k": 1}},
        {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "c"}]},
        [{"role": "user", "content": "d é"}],
    ]
    report = run_batch_sync(Agent(model), lines, out, concurrency=1)
    assert (report.total, report.done, report.failed) == (4, 4, 0)
    found = rows(out)
    assert [(row["id"], row["output"]) for row in found] == [
        ("line-1", "echo plain"),
        ("named", "echo b"),
        ("line-3", "echo c"),
        ("line-4", "echo d é"),
    ]
    assert found[1]["metadata"] == {"k": 1}
    assert found[0]["usage"]["generated_tokens"] == 2
    assert model.requests[1].sampling.max_tokens == 7
    assert model.requests[1].sampling.temperature == 0.5
    assert [message_to_dict(m)["role"] for m in model.requests[2].messages] == ["system", "user"]


def test_openai_s_form(out: Path) -> None:
    lines = [openai("a", max_completion_tokens=9, stop="x", seed=3), openai("b", n=1, stream=False)]
    model = Echo()
    run_batch_sync(Agent(model, system="Be brief."), lines, out, concurrency=1)
    (first, second) = rows(out)
    assert first["custom_id"] == "a"
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    body = first["response"]["body"]
    assert body["object"] == "chat.completion"
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "echo hi"}
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 5
    assert second["custom_id"] == "b"
    sampling = model.requests[0].sampling
    assert (sampling.max_tokens, sampling.stop, sampling.seed) == (9, ("x",), 3)


def test_a_line_with_tools_of_its_own_is_one_turn(out: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    call = ToolCall(name="look", arguments={"at": "é"}, id="c1")
    run_batch_sync(Agent(ScriptedModel([call])), [openai("a", tools=tools)], out)
    choice = rows(out)[0]["response"]["body"]["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    function = {"name": "look", "arguments": '{"at": "é"}'}
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": function}
    ]


def test_an_agent_s_runs(out: Path) -> None:
    def turn(request: ModelRequest) -> Any:
        last = request.messages[-1]
        asked = message_to_dict(last)["role"] == "user"
        return (
            ToolCall(name="add", arguments={"a": 1, "b": 2}) if asked else f"It is {last.content}"
        )

    agent = Agent(ScriptedModel([turn] * 8), [add])
    run_batch_sync(agent, ["x", openai("y"), "z"], out)
    first, second, _ = rows(out)
    assert first["output"] == "It is 3"
    assert first["calls"][0]["observation"] == "3"
    assert second["response"]["body"]["choices"][0]["message"]["content"] == "It is 3"


BAD = [
    ("{", "invalid_json", "not JSON"),
    ("[1", "invalid_json", "not JSON"),
    ("7", "invalid_request", "of type int"),
    ('{"prompt": "a", "promt": 1}', "invalid_request", "no key 'promt'"),
    ('{"id": "x"}', "invalid_request", "either a prompt or messages"),
    ('{"prompt": ""}', "invalid_request", "must be text"),
    ('{"messages": []}', "invalid_request", "at least one"),
    ('{"messages": [{"role": "king"}]}', "invalid_request", "'king'"),
    ('{"prompt": "a", "max_tokens": "5"}', "invalid_request", "whole number"),
    ('{"prompt": "a", "max_tokens": 0}', "invalid_request", "at least 1"),
    ('{"prompt": "a", "temperature": true}', "invalid_request", "a number"),
    ('{"prompt": "a", "tool_choice": "look"}', "invalid_request", "tool_choice"),
    ('{"prompt": "fail"}', "model_error", "out of breath"),
    ('{"body": {"messages": [{"role": "user", "content": "a"}]}}', "invalid_request", "custom_id"),
    (json.dumps(openai("o", n=2)), "invalid_request", "body.n"),
    (json.dumps(openai("o", audio={})), "invalid_request", "body.audio"),
    (json.dumps(openai("o") | {"url": "/v1/embeddings"}), "invalid_request", "/v1/embeddings"),
    (json.dumps(openai("o", messages="hi")), "invalid_request", "must be a list"),
]


def test_a_bad_line_is_an_error_and_stops_no_other(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = [text for line, _, _ in BAD for text in (line, '"good"', "")]
    source.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode() + b"\n\xff\xfe\n")
    report = run_batch_sync(Agent(Echo()), source, out, concurrency=3)
    assert (report.total, report.failed) == (2 * len(BAD) + 1, len(BAD) + 1)
    found = rows(out)
    assert [row["output"] for row in found[1::2]] == ["echo good"] * len(BAD)
    for row, (line, code, words) in zip(found[::2], BAD, strict=False):
        if '"body"' in line:
            error = row["response"]["body"]["error"]
            assert row["response"]["status_code"] == 400
        else:
            error = row["error"]
        assert error["code"] == code, line
        assert words in error["message"], line


def test_ids_must_differ(out: Path) -> None:
    line = {"id": "same", "prompt": "a"}
    run_batch_sync(Agent(Echo()), [line, "b", line], out)
    first, _, third = rows(out)
    assert first["output"] == "echo a"
    assert third["error"]["code"] == "duplicate_id"
    assert "line 1" in third["error"]["message"]


def test_nobody_approves(out: Path) -> None:
    call = ToolCall(name="add", arguments={"a": 1, "b": 2})
    run_batch_sync(Agent(ScriptedModel([call]), [add], approvals="ask"), ["x"], out)
    assert rows(out)[0]["error"]["code"] == "approval_required"


def test_a_model_that_cannot_be_loaded_ends_the_batch(out: Path) -> None:
    agent = Agent(Echo())
    with pytest.raises(ModelLoadError):
        run_batch_sync(agent, ["a", "b", "load", "c"], out, concurrency=1)
    assert [row["output"] for row in rows(out)] == ["echo a", "echo b"]


async def test_lines_run_side_by_side_and_come_out_in_order(out: Path) -> None:
    class Uneven(Echo):
        active = most = 0

        async def stream(self, request: ModelRequest) -> Any:
            self.active += 1
            self.most = max(self.most, self.active)
            try:
                await asyncio.sleep(0.03 if int(request.messages[-1].content) % 4 == 0 else 0.001)
                async for event in super().stream(request):
                    yield event
            finally:
                self.active -= 1

    model = Uneven()
    told: list[BatchReport] = []
    lines = [str(i) for i in range(40)]
    await run_batch(Agent(model), lines, out, concurrency=5, progress=told.append)
    assert model.most == 5
    assert [row["output"] for row in rows(out)] == [f"echo {i}" for i in range(40)]
    assert told[0].done == 0
    assert told[-1].done == told[-1].total == 40
    assert [report.done for report in told] == sorted(report.done for report in told)


async def test_a_stopped_batch_goes_on(out: Path) -> None:
    lines = [str(i) for i in range(30)]
    stopped = asyncio.Event()

    def tell(report: BatchReport) -> None:
        if report.done >= 10:
            stopped.set()

    task = asyncio.create_task(
        run_batch(Agent(Echo(delay=0.002)), lines, out, concurrency=3, progress=tell)
    )
    await stopped.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = rows(out)
    assert 10 <= len(kept) < 30
    model = Echo()
    report = await run_batch(Agent(model), lines, out)
    assert (report.earlier, report.done) == (len(kept), 30 - len(kept))
    assert len(model.requests) == 30 - len(kept)
    assert [row["output"] for row in rows(out)] == [f"echo {i}" for i in range(30)]


def test_failed_lines_can_be_run_again(out: Path) -> None:
    model = Echo()
    run_batch_sync(Agent(model), ["a", "fail", "c"], out)
    report = run_batch_sync(Agent(model), ["a", "fail", "c"], out)
    assert (report.earlier, report.done) == (3, 0)
    model.failing = False
    report = run_batch_sync(Agent(model), ["a", "fail", "c"], out, retry_failed=True)
    assert (report.earlier, report.done, report.failed) == (2, 1, 0)
    assert [row["output"] for row in rows(out)] == ["echo a", "echo fail", "echo c"]


def test_a_torn_last_line_is_mended_wherever_it_is_torn(out: Path) -> None:
    lines = ["a", "b é"]
    run_batch_sync(Agent(Echo()), lines, out)
    whole = out.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in [*range(first, len(whole) - 1, 29), len(whole) - 1]:
        out.write_bytes(whole[:cut])
        report = run_batch_sync(Agent(Echo()), lines, out)
        assert (report.earlier, report.done) == (1, 1)
        assert [row["output"] for row in rows(out)] == ["echo a", "echo b é"]


Change = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda out: out.write_text("my notes\n"), "line 1: not a result"),
        (lambda out: out.write_text('{"id": "x"}\n'), "line 1: not a result"),
        (lambda out: run_batch_sync(Agent(Echo()), ["x", "b"], out), "line 1 of another input"),
        (lambda out: run_batch_sync(Agent(Echo()), ["a", "b", "c"], out), "a result of line 3"),
    ],
)
def test_results_of_something_else_are_not_touched(out: Path, change: Change, words: str) -> None:
    change(out)
    before = out.read_bytes()
    with pytest.raises(UserError, match=words):
        run_batch_sync(Agent(Echo()), ["a", "b"], out)
    assert out.read_bytes() == before
    run_batch_sync(Agent(Echo()), ["a", "b"], out, restart=True)
    assert len(rows(out)) == 2


async def test_two_at_once_are_refused(out: Path) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(
        run_batch(Agent(Echo(delay=0.05)), ["a"], out, progress=lambda _: begun.set())
    )
    await begun.wait()
    with pytest.raises(UserError, match="another process"):
        await run_batch(Agent(Echo()), ["a"], out)
    await task


def test_what_cannot_be_used(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        run_batch_sync(Agent(Echo()), tmp_path / "none", out)
    with pytest.raises(UserError, match="cannot be written"):
        run_batch_sync(Agent(Echo()), ["a"], tmp_path / "none" / "out")
    with pytest.raises(UserError, match="concurrency is 0"):
        run_batch_sync(Agent(Echo()), ["a"], out, concurrency=0)
    assert run_batch_sync(Agent(Echo()), [], out).total == 0


def test_killed_at_any_instant(tmp_path: Path) -> None:
    program = Path(__file__).parent / "batch_crash.py"
    run = subprocess.run(
        [sys.executable, program, tmp_path, "20", "7"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p), "HF_HUB_OFFLINE": "1"},
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["wrong"] == []
    assert report["kills"] >= 20


def test_through_the_engine(granite: TransformersModel, out: Path) -> None:
    lines = [{"prompt": f"word {i}", "max_tokens": 4 + i % 5} for i in range(20)]
    agent = Agent(granite)
    run_batch_sync(agent, lines, out)
    for i, row in enumerate(rows(out)):
        alone = agent.run_sync(f"word {i}", sampling=Sampling(max_tokens=4 + i % 5))
        assert row["output"] == alone.output
