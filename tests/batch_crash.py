"""Kill a batch again and again, and look at what is left.

``python batch_crash.py FOLDER KILLS SEED``: a program of its own, so that it can fork before any
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

from agentkit import Agent, ModelRequest, ModelResponse
from agentkit.batch import run_batch
from agentkit.models.base import ModelEvent

LINES = 60


class Logging:
    """A model that notes what it is asked, and takes a random time to answer."""

    name = "logging"

    def __init__(self, log: Path, seed: int) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._chance = random.Random(seed)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        question = request.messages[-1].content
        os.write(self._log, f"{question}\n".encode())
        await asyncio.sleep(self._chance.uniform(0.0, 0.015))
        yield ModelResponse(text=answer(question))

    async def aclose(self) -> None: ...


def answer(question: str) -> str:
    return f"answer to {question} " + "x" * (len(question) * 50)


def work(folder: Path, seed: int) -> None:
    """Run the batch, or what is left of it."""
    agent = Agent(Logging(folder / "log", seed))
    asyncio.run(run_batch(agent, folder / "in", folder / "out", concurrency=4))


def done(folder: Path) -> dict[int, str]:
    """The whole lines of the output, by number."""
    out = folder / "out"
    lines = out.read_bytes().splitlines(keepends=True) if out.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    found = {row["agentkit"]["line"]: row["output"] for row in whole}
    assert len(found) == len(whole), "a line was done twice"
    return found


def kill_one(folder: Path, delay: float, seed: int) -> bool:
    """Let a batch run and kill it; whether it was at work still."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(folder, seed)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the batch failed"
    return os.WIFSIGNALED(status)


def main() -> None:
    """See the module."""
    top, kills = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(int(sys.argv[3]))
    report: dict[str, Any] = {"kills": 0, "batches": 0, "wrong": [], "torn": 0, "again": 0}
    wrong: list[str] = report["wrong"]
    while report["kills"] < kills:
        folder = top / str(report["batches"])
        folder.mkdir()
        questions = [f"q{i}" for i in range(1, LINES + 1)]
        (folder / "in").write_text("".join(f'"{q}"\n' for q in questions), encoding="utf-8")
        before: dict[int, str] = {}
        finished = False
        while not finished:
            asked = (folder / "log").stat().st_size if (folder / "log").exists() else 0
            finished = not kill_one(folder, chance.uniform(0, 0.12), chance.randrange(10**6))
            report["kills"] += not finished
            log = (folder / "log").read_bytes()[asked:] if (folder / "log").exists() else b""
            report["again"] += len(log.split())
            wrong += [f"{q} ran again" for q in log.decode().split() if int(q[1:]) in before]
            after = done(folder)
            raw = (folder / "out").read_bytes() if (folder / "out").exists() else b""
            report["torn"] += bool(raw) and not raw.endswith(b"\n")
            wrong += [f"{n} was lost" for n in before if after.get(n) != before[n]]
            wrong += [f"{n} is wrong" for n, text in after.items() if text != answer(f"q{n}")]
            before = after
        rows = [json.loads(line) for line in (folder / "out").read_bytes().splitlines()]
        if [row["id"] for row in rows] != [f"line-{i}" for i in range(1, LINES + 1)]:
            wrong.append("the order is wrong")
        strange = {path.name for path in folder.iterdir()} - {"in", "out", "log"}
        wrong += [f"{name} is left" for name in strange]
        report["batches"] += 1
    report["again"] -= LINES * report["batches"]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
