"""Sessions that were stopped: approvals, failures, cancellations, kills, and who may go on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_tools import ADD, add, slow
from agentkit import (
    Agent,
    Document,
    ModelError,
    ScoredDocument,
    ScriptedModel,
    SessionBusyError,
    SessionError,
    ToolCall,
    UserError,
    tool,
)
from agentkit.sessions import SessionStore
from session_support import store, url

__all__ = ["store", "url"]  # fixtures


async def test_a_failed_run_can_go_on(store: SessionStore) -> None:
    model = ScriptedModel([ADD, ModelError("down"), "It is 5."])
    agent = Agent(model, [add])
    session = store.create()
    with pytest.raises(ModelError):
        await session.run(agent, "2 + 3?")
    result = await session.resume(agent)
    assert result.output == "It is 5."
    assert [call.observation for call in result.calls] == ["5"]
    assert [m.content for m in session.messages()] == ["2 + 3?", "", "5", "It is 5."]


async def test_approvals(store: SessionStore, url: str) -> None:
    calls = [ToolCall(name="add", arguments={"a": 2, "b": n}) for n in (3, 4)]
    agent = Agent(ScriptedModel([calls, "done"]), [add], approvals={"add": "ask"})
    session = store.create()
    result = await session.run(agent, "go")
    assert result.stop_reason == "approval"
    assert session.info.status == "waiting"
    assert [call.name for call in session.pending()] == ["add", "add"]
    with pytest.raises(UserError, match="waits for approval"):
        await session.run(agent, "another")
    with pytest.raises(UserError, match="give answers"):
        await session.resume(agent)
    with pytest.raises(UserError, match="no call 'x' waits"):
        await session.resume(agent, {"x": True})
    first, second = session.pending()
    with SessionStore.open(url) as elsewhere:  # as if it was another process
        there = elsewhere.get(session.id)
        result = await there.resume(agent, {first.id: ("deny", "no")})
        assert there.pending() == (second,)
        result = await there.resume(agent, {second.id: {"a": 1, "b": 1}})
    assert result.output == "done"
    assert [call.status for call in result.calls] == ["denied", "ok"]
    assert "2" in result.calls[1].observation
    assert session.info.status == "idle"


async def test_giving_up(store: SessionStore) -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    agent = Agent(
        ScriptedModel([[ADD, ToolCall(name="look", arguments={})], "fine"]),
        [add, look],
        approvals={"add": "ask"},
    )
    session = store.create()
    await session.run(agent, "go")
    await session.abandon()
    assert session.info.status == "idle"
    assert [m.content for m in session.messages()] == [
        "go",
        "",
        "Error: this call was not allowed and has not run.",
        "seen",
    ]
    assert session.runs()[0].status == "abandoned"
    with pytest.raises(UserError, match="is over"):
        await session.abandon()
    assert (await session.run(agent, "next")).output == "fine"


async def test_a_cancelled_run_can_go_on(store: SessionStore) -> None:
    done: list[str] = []

    @tool
    async def step(name: str) -> str:
        """Do a step."""
        done.append(name)
        if name == "second" and done.count("second") == 1:
            await asyncio.sleep(30)
        return f"did {name}"

    calls = [ToolCall(name="step", arguments={"name": n}) for n in ("first", "second")]
    model = ScriptedModel([*calls, "never mind"])
    agent = Agent(model, [step])
    session = store.create()
    events = session.stream(agent, "go")
    async for _ in events:
        if done == ["first", "second"]:
            break
    await events.aclose()  # type: ignore[attr-defined]
    assert session.info.status == "interrupted"
    with pytest.raises(UserError, match="was interrupted"):
        await session.run(agent, "another")
    result = await session.resume(agent)
    assert done == ["first", "second"]
    assert [(c.status, c.error) for c in result.calls] == [("ok", ""), ("cancelled", "Interrupted")]
    assert "not known whether it took effect" in result.calls[1].observation
    assert model.requests[-1].messages[-1].content == result.calls[1].observation
    assert result.output == "never mind"


async def test_an_interrupted_call_can_be_asked_about(store: SessionStore) -> None:
    begun = asyncio.Event()
    count = 0

    @tool
    async def pay() -> str:
        """Pay."""
        nonlocal count
        count += 1
        begun.set()
        if count == 1:
            await asyncio.sleep(30)
        return "paid"

    agent = Agent(ScriptedModel([ToolCall(name="pay", arguments={}), "done"]), [pay])
    session = store.create()
    task = asyncio.create_task(session.run(agent, "go"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    result = await session.resume(agent, interrupted="ask")
    assert result.stop_reason == "approval"
    assert count == 1
    assert result.calls[0].error == "Interrupted"
    result = await session.resume(agent, True)
    assert (count, result.calls[0].observation, result.output) == (2, "paid", "done")


async def test_documents_are_searched_for_once(store: SessionStore) -> None:
    class Finder:
        asked = 0

        def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
            self.asked += 1
            return [ScoredDocument(document=Document(text="found"), score=1.0)]

    finder = Finder()
    model = ScriptedModel([ModelError("down"), "ok"])
    agent = Agent(model, retriever=finder)
    session = store.create()
    with pytest.raises(ModelError):
        await session.run(agent, "go", documents=[Document(text="given")])
    await session.resume(agent)
    assert finder.asked == 1
    assert [d.text for d in model.requests[-1].documents] == ["given", "found"]


async def test_one_run_at_a_time(store: SessionStore, url: str) -> None:
    agent = Agent(ScriptedModel(["slowly done", "x"], delay=0.2))
    session = store.create()
    with SessionStore.open(url) as elsewhere:
        tries = [store.get(session.id), elsewhere.get(session.id)] * 3
        ends = await asyncio.gather(
            *(s.run(agent, f"go {i}") for i, s in enumerate(tries)), return_exceptions=True
        )
        with pytest.raises(UserError, match="is over"):
            await elsewhere.get(session.id).resume(agent)
    assert sum(isinstance(end, SessionBusyError) for end in ends) == 5
    assert [run.status for run in session.runs()] == ["done"]


async def test_a_run_that_is_taken_over_ends_before_its_next_call(store: SessionStore) -> None:
    done: list[str] = []

    @tool
    def mark() -> str:
        """Mark."""
        done.append("mark")
        return "ok"

    waiting = ToolCall(name="slow", arguments={"seconds": 0.3, "name": "x"})
    mark_call = ToolCall(name="mark", arguments={})
    first = Agent(ScriptedModel([waiting, mark_call, "first"]), [slow, mark])
    second = Agent(ScriptedModel(["second"]), [slow, mark])
    session = store.create()
    task = asyncio.create_task(session.run(first, "go"))
    while "call_started" not in [k for r in session.runs() for k, *_ in store.events(r.id)]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    with pytest.raises(SessionBusyError, match="force=True"):
        await session.resume(second)
    result = await session.resume(second, force=True)
    assert result.output == "second"
    with pytest.raises(SessionBusyError, match="taken over"):
        await task
    assert done == []
    assert session.runs()[0].status == "done"


async def test_a_database_that_fails_ends_the_run_before_the_call(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    done: list[int] = []

    @tool
    def mark() -> str:
        """Mark."""
        done.append(1)
        return "ok"

    def sabotage(request: Any) -> ToolCall:
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE agentkit_events RENAME TO gone")
        return ToolCall(name="mark", arguments={})

    with SessionStore.open(path) as store:
        session = store.create()
        agent = Agent(ScriptedModel([sabotage, "ok"]), [mark])
        with pytest.raises(SessionError, match="no such table"):
            await session.run(agent, "go")
        assert done == []
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE gone RENAME TO agentkit_events")
        assert session.info.status == "interrupted"
        result = await session.resume(Agent(ScriptedModel(["fine"]), [mark]))
        assert result.output == "fine"


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_any_instant(tmp_path: Path) -> None:
    program = Path(__file__).parent / "session_crash.py"
    run = subprocess.run(
        [sys.executable, program, tmp_path, "20", "3"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p), "HF_HUB_OFFLINE": "1"},
        timeout=500,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["wrong"] == []
    assert report["kills"] >= 20
