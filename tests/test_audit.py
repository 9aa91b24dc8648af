"""The record of every call."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import stat
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_tools import ADD, add, broken, run
from agentkit import (
    Agent,
    AuditError,
    AuditLog,
    AuditRecord,
    AuditWarning,
    Document,
    Limits,
    ScoredDocument,
    ScriptedModel,
    ToolCall,
    ToolOutput,
    UserError,
    tool,
)

FULL = Path("/dev/full")


@tool
def lookup(word: str) -> ToolOutput:
    """Look a word up."""
    hit = ScoredDocument(Document(text="…", doc_id=3, source="dictionary.md"), 0.5)
    return ToolOutput(content="found", sources=[hit], repairs=["trimmed"])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_call_is_recorded_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    calls = [
        ToolCall(name="add", arguments={"a": "2", "b": 3}, id="c1"),
        ToolCall(name="add", arguments={"a": 1}, id="c2"),
        ToolCall(name="broken", arguments={"how": "way"}, id="c3"),
        ToolCall(name="nothing", arguments={}, id="c4"),
        ToolCall(name="lookup", arguments={"word": "größe"}, id="c5"),
        ToolCall(name="add", arguments={"a": 1, "b": 1}, id="c6"),
        ToolCall(name="secret", arguments={}, id="c7"),
    ]

    @tool(approval="deny")
    def secret() -> str:
        """Never to be called."""
        return ""

    before = datetime.now(UTC) - timedelta(seconds=1)
    with ScriptedModel([calls, "done"]) as model:
        agent = Agent(
            model,
            [add, broken, lookup, secret],
            audit=AuditLog(path),
            limits=Limits(max_calls_per_tool={"add": 1}),
            rewind=0,
            name="clerk",
        )
        result = agent.run_sync("go")
    records = {r["call_id"]: r for r in lines(path)}
    assert {i: (r["outcome"], r["error"]) for i, r in records.items()} == {
        "c1": ("ok", ""),
        "c2": ("invalid", "InvalidArguments"),
        "c3": ("failed", "ValueError"),
        "c4": ("invalid", "UnknownTool"),
        "c5": ("ok", ""),
        "c6": ("refused", "LimitExceeded"),
        "c7": ("denied", "Denied"),
    }
    first = records["c1"]
    assert first["arguments"] == {"a": 2, "b": 3}
    assert len(first["repairs"]) == 1
    assert (first["decision"], first["decided_by"]) == ("allow", "default")
    assert (records["c7"]["decision"], records["c7"]["decided_by"]) == ("deny", "tool")
    assert records["c2"]["decision"] == ""
    assert records["c5"]["sources"] == ["dictionary.md"]
    assert records["c5"]["arguments"] == {"word": "größe"}
    assert {r["agent"] for r in records.values()} == {"clerk"}
    assert {r["run_id"] for r in records.values()} == {result.run_id} != {""}
    assert all(
        before <= datetime.fromisoformat(r["time"]) <= datetime.now(UTC) for r in records.values()
    )
    assert {AuditRecord(**r).step for r in AuditLog.read(path)} == {0}  # type: ignore[arg-type]


def test_a_pause_and_its_answer_are_recorded(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with ScriptedModel([ADD, "5"]) as model:
        agent = Agent(model, [add], approvals="ask", audit=log)
        paused = agent.run_sync("go")
        agent.resume_sync(paused, True)
    found = [(r["outcome"], r["decision"], r["decided_by"]) for r in lines(log.path)]
    assert found == [("pending", "ask", "agent"), ("ok", "allow", "resume")]
    assert len({r["run_id"] for r in lines(log.path)}) == 1


def test_a_function_gets_the_records() -> None:
    sync: list[AuditRecord] = []
    later: list[AuditRecord] = []

    async def keep(record: AuditRecord) -> None:
        await asyncio.sleep(0)
        later.append(record)

    for sink in (sync.append, keep):
        with ScriptedModel([ADD, "5"]) as model:
            run(model, add, audit=sink)
    assert [r.outcome for r in (*sync, *later)] == ["ok", "ok"]


def test_what_a_function_raises_ends_the_run() -> None:
    def full(record: AuditRecord) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        run(ScriptedModel([ADD]), add, audit=full)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_the_run_or_warns() -> None:
    with pytest.raises(AuditError, match=r"could not be written.*No space"):
        run(ScriptedModel([ADD]), add, audit=AuditLog(FULL))
    with pytest.warns(AuditWarning, match="No space"), ScriptedModel([ADD, "5"]) as model:
        assert run(model, add, audit=AuditLog(FULL, on_error="warn")).output == "5"


def test_a_log_that_cannot_be_written_is_noticed_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        AuditLog(tmp_path / "missing" / "audit.jsonl")
    with pytest.raises(UserError, match="'raise' or 'warn'"):
        AuditLog(tmp_path / "a", on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cannot be read"):
        list(AuditLog.read(tmp_path / "b"))
    (tmp_path / "c").write_text("{}\nhalf a li")
    with pytest.raises(UserError, match="line 2"):
        list(AuditLog.read(tmp_path / "c"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no such file modes")
def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    assert stat.S_IMODE(AuditLog(tmp_path / "a").path.stat().st_mode) == 0o600


async def test_a_slow_disk_does_not_block_the_loop(tmp_path: Path) -> None:
    class Slow(AuditLog):
        def _append(self, data: bytes) -> None:
            time.sleep(0.2 if data else 0)
            super()._append(data)

    log = Slow(tmp_path / "audit.jsonl")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    with ScriptedModel([ADD, "5"]) as model:
        await Agent(model, [add], audit=log).run("go")
    ticking.cancel()
    assert ticks >= 5
    assert len(lines(log.path)) == 1


def _append_many(path: str, name: str) -> None:
    model = ScriptedModel(
        [[ToolCall(name="add", arguments={"a": 1, "b": i}) for i in range(10)] for _ in range(5)]
        + ["done"]
    )
    Agent(model, [add], audit=AuditLog(path), name=name * 3000).run_sync("go")


def test_several_processes_write_whole_lines(tmp_path: Path) -> None:
    """Lines far longer than a pipe's atomic write, from three processes at once."""
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_append_many, args=(str(path), name)) for name in ("x", "y", "z")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    agents = [record["agent"] for record in lines(path)]
    assert sorted(agents) == sorted([n * 3000 for n in ("x", "y", "z")] * 50)


async def test_cancelled_calls_are_recorded(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    begun = asyncio.Event()

    @tool
    async def forever() -> str:
        """Never return."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    model = ScriptedModel([ToolCall(name="forever", arguments={})])
    task = asyncio.create_task(Agent(model, [forever], audit=log).run("go"))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [(r["outcome"], r["error"]) for r in lines(log.path)] == [("cancelled", "Cancelled")]
