"""Kill runs of a session again and again, resume them, and look at what the tools did.

``python session_crash.py FOLDER KILLS SEED``: a program of its own, so that it can fork before any
library has threads. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agentkit import Agent, ModelRequest, ModelResponse, ToolCall, ToolMessage, tool
from agentkit.models.base import CallParsed, ModelEvent, TextDelta, Usage
from agentkit.parsing import ParsedCall
from agentkit.sessions import Session, SessionStore

STEPS = 3
CALLS = 2


class Steady:
    """A model whose turn follows from the conversation alone, written bit by bit."""

    name = "steady"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        told = [m for m in request.messages if isinstance(m, ToolMessage)]
        step = len(told) // CALLS
        yield TextDelta(f"turn {step}")
        calls = []
        if step < STEPS:
            for i in range(CALLS):
                await asyncio.sleep(0.004)
                name = "asked" if i else "free"
                call = ParsedCall(raw="{}", name=name, arguments={"step": step})
                calls.append(call)
                yield CallParsed(call, i, usage=Usage(sampled_tokens=i))
        await asyncio.sleep(0.004)
        yield ModelResponse(text=f"turn {step}", calls=tuple(calls), usage=Usage(sampled_tokens=2))

    async def aclose(self) -> None: ...


def agent_of(folder: Path) -> Agent:
    """An agent whose tools note when they begin and end."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def work(name: str, step: int) -> str:
        os.write(log, f"begin {name} {step}\n".encode())
        await asyncio.sleep(0.006)
        os.write(log, f"end {name} {step}\n".encode())
        return f"{name} {step} done"

    @tool
    async def free(step: int) -> str:
        """Runs at once."""
        return await work("free", step)

    @tool(approval="ask")
    async def asked(step: int) -> str:
        """Has to be asked about."""
        return await work("asked", step)

    return Agent(Steady(), [free, asked])


def work(folder: Path) -> None:
    """Run the session, or go on with it, until it has its answer."""

    async def to_the_end(session: Session) -> None:
        agent = agent_of(folder)
        while True:
            last = session.runs()[-1:]
            if not last:
                await session.run(agent, "go")
            elif last[0].status == "waiting":
                await session.resume(agent, True)
            elif last[0].status == "interrupted":
                await session.resume(agent)
            else:
                return

    with SessionStore.open(folder / "s.db") as store:
        found = store.list()
        session = store.get(found[0].id) if found else store.create()
        asyncio.run(to_the_end(session))


def kill_one(folder: Path, delay: float) -> bool:
    """Let the session go on and kill it; whether it was at work still."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the session failed"
    return os.WIFSIGNALED(status)


def examine(folder: Path) -> dict[str, Any]:
    """What the tools did, beside what the session says of it."""
    log = (folder / "log").read_text("utf-8").splitlines()
    with SessionStore.open(folder / "s.db") as store:
        session = store.get(store.list()[0].id)
        (run,) = session.runs()
        messages = session.messages()
    assert run.result is not None
    wrong = []
    interrupted = 0
    records = {(c.call.name, c.call.arguments["step"]): c for c in run.result.calls}  # type: ignore[index]
    if len(records) != len(run.result.calls) or len(records) != STEPS * CALLS:
        wrong.append(f"{len(run.result.calls)} calls in the session")
    for (name, step), record in records.items():
        begun, ended = (log.count(f"{word} {name} {step}") for word in ("begin", "end"))
        if begun > 1 or ended > 1:
            wrong.append(f"{name} {step} ran {begun} times")
        if record.status == "ok" and (ended != 1 or record.observation != f"{name} {step} done"):
            wrong.append(f"{name} {step} is said to be done")
        if record.status not in ("ok", "cancelled"):
            wrong.append(f"{name} {step} is {record.status}")
        # Killed after its start was written down; it may have begun, and even ended.
        interrupted += record.status == "cancelled"
        if record.status == "cancelled" and record.error != "Interrupted":
            wrong.append(f"{name} {step} was cancelled: {record.error}")
    wanted = ["user"] + ["assistant", "tool", "tool"] * STEPS + ["assistant"]
    roles = [type(m).__name__.removesuffix("Message").lower() for m in messages]
    if roles != wanted or messages[-1].content != f"turn {STEPS}":
        wrong.append(f"the conversation is {roles}")
    told = [m.content for m in messages if isinstance(m, ToolMessage)]
    if told != [c.observation for c in run.result.calls]:
        wrong.append("the model was told something else")
    ids = [c.id for m in messages for c in getattr(m, "tool_calls", ()) if isinstance(c, ToolCall)]
    if ids != [m.tool_call_id for m in messages if isinstance(m, ToolMessage)]:
        wrong.append("calls and results do not belong together")
    return {"wrong": wrong, "interrupted": interrupted}


def main() -> None:
    """See the module."""
    top, kills = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(int(sys.argv[3]))
    report: dict[str, Any] = {"kills": 0, "sessions": 0, "interrupted": 0, "wrong": []}
    longest = 0.15
    while report["kills"] < kills:
        folder = top / str(report["sessions"])
        folder.mkdir()
        finished = False
        while not finished:
            # A slow machine needs more time to come to what is of interest.
            longest = min(longest * 1.02, 2.0)
            finished = not kill_one(folder, chance.uniform(0, longest))
            report["kills"] += not finished
        longest = max(0.15, longest * 0.7)
        found = examine(folder)
        report["wrong"] += found["wrong"]
        report["interrupted"] += found["interrupted"]
        report["sessions"] += 1
    print(json.dumps(report))


if __name__ == "__main__":
    main()
