"""What the server adds to the engine called directly, and how it stands up to 500 connections."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentkit import ModelRequest, Sampling, TextDelta, TransformersModel, UserMessage
from agentkit.models.base import Model, ModelEvent, ModelResponse, Usage
from agentkit.server import ServerOptions, create_app, serve
from benchmarks.plain_http import Connection
from benchmarks.report import Figure

ROUNDS, TOKENS, AT_ONCE = 12, 48, 8
CONNECTIONS, RUNNING, QUEUED = 500, 16, 64
TOPICS = ["bridges", "bread", "glass", "tides", "paper", "clocks", "salt", "maps"]


def run() -> list[Figure]:
    """The overhead with the embedded model; the load with a model that only waits."""
    return [*_overhead(), *asyncio.run(_load())]


def _overhead() -> list[Figure]:
    with _served("embedded") as (url, _):
        return asyncio.run(_compare(url))


async def _compare(url: str) -> list[Figure]:
    """By turns, each with prompts that are in the cache: what is timed is not the model's."""
    connections = {topic: Connection(url) for topic in TOPICS}

    async def ask(topic: str, tokens: int, *, asleep: bool = False) -> float:
        body = {
            "model": "embedded",
            "messages": [{"role": "user", "content": f"Write of {topic}."}],
            "max_tokens": tokens,
            "stream": True,
        }
        reply = await connections[topic].post("/v1/chat/completions", body, asleep=asleep)
        assert reply.status == 200, reply
        return reply.first

    async def served(topics: list[str], tokens: int) -> tuple[float, float]:
        begin = time.perf_counter()
        alone = len(topics) == 1
        firsts = await asyncio.gather(*(ask(topic, tokens, asleep=not alone) for topic in topics))
        return firsts[0], time.perf_counter() - begin

    async def direct(topics: list[str], tokens: int) -> tuple[float, float]:
        body = {"topics": topics, "tokens": tokens}
        reply = await connections[TOPICS[0]].post("/direct", body)
        first, whole = json.loads(reply.body)
        return first, whole

    added, kept = list[float](), list[float]()
    for index in range(ROUNDS + 1):
        order = (served, direct) if index % 2 else (direct, served)
        for _ in range(8):
            # The first piece of a turn that is held back by a token comes with the second.
            took = {way: (await way(["tides"], 3))[0] for way in order}
            added.append(took[served] - took[direct])
        took = {way: (await way(TOPICS[:AT_ONCE], TOKENS))[1] for way in order}
        kept.append(took[direct] / took[served])
        if not index:  # what is made once is made here
            added, kept = [], []
    for connection in connections.values():
        await connection.close()
    # Of one after the other, so that what slows the machine down for a while slows both.
    more = max(0.0, statistics.median(added)) * 1000
    return [
        Figure(what="added to the first token", ours=more, unit="ms", at_most=3.0),
        Figure(
            what=f"{AT_ONCE} streams of {TOKENS} tokens at once, lost throughput",
            ours=max(0.0, 1 - statistics.median(kept)) * 100,
            unit="%",
            at_most=5.0,
        ),
    ]


async def _direct(request: Request) -> JSONResponse:
    """In the server's process: turns of the same engine, called directly."""
    asked, model = await request.json(), request.app.state.agentkit.model

    async def turn(topic: str) -> float:
        wanted = ModelRequest(
            messages=[UserMessage(f"Write of {topic}.")],
            sampling=Sampling(max_tokens=asked["tokens"]),
        )
        begin, first = time.perf_counter(), 0.0
        async for _ in model.stream(wanted):
            first = first or time.perf_counter() - begin
        return first

    begin = time.perf_counter()
    firsts = await asyncio.gather(*map(turn, asked["topics"]))
    return JSONResponse([firsts[0], time.perf_counter() - begin])


class _Waiting:
    """Writes twenty words in half a second, without work."""

    name = "waiting"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for _ in range(20):
            await asyncio.sleep(0.025)
            yield TextDelta("word ")
        yield ModelResponse(text="word " * 20, usage=Usage(sampled_tokens=20))

    async def aclose(self) -> None: ...


async def _load() -> list[Figure]:
    """500 connections that ask again and again, while somebody looks after ``/health``."""
    with _served("waiting") as (url, process):
        await _storm(url, rounds=1)  # what is made once is made here
        before = _held(url, process)
        watching = asyncio.create_task(_watch_health(url))
        statuses = await _storm(url, rounds=9)
        watching.cancel()
        health = sorted(await watching)
        after = _held(url, process)
    errors = sum(count for status, count in statuses.items() if status not in (200, 429))
    assert statuses[200], statuses
    assert statuses[429], statuses
    return [
        Figure(
            what=f"{sum(statuses.values())} requests over {CONNECTIONS} connections: neither 200 "
            "nor 429",
            ours=errors,
            unit="",
            at_most=0,
        ),
        Figure(
            what="p99 of /health meanwhile",
            ours=health[int(len(health) * 0.99)] * 1000,
            unit="ms",
            at_most=100,
        ),
        Figure(what="requests left over", ours=after[0] - before[0], unit="", at_most=0),
        Figure(what="open files left over", ours=after[1] - before[1], unit="", at_most=0),
        Figure(what="memory left over", ours=(after[2] - before[2]) / 2**20, unit="MiB", at_most=8),
    ]


async def _storm(url: str, *, rounds: int) -> Counter[int]:
    body = {"model": "waiting", "messages": [{"role": "user", "content": "hi"}], "stream": True}

    async def ask() -> list[int]:
        connection, statuses = Connection(url), list[int]()
        for _ in range(rounds):
            reply = await connection.post("/v1/chat/completions", body)
            whole = reply.status != 200 or reply.body.endswith(b"data: [DONE]\n\n")
            statuses.append(reply.status if whole else 0)
            if reply.status == 429:
                await asyncio.sleep(0.05)
        await connection.close()
        return statuses

    done = await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return Counter(status for statuses in done for status in statuses)


async def _watch_health(url: str) -> list[float]:
    # A thread with an event loop of its own: the client's work for 500 others is not the server's.
    times: list[float] = []
    over = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            while not over.wait(0.02):
                begin = time.perf_counter()
                assert client.get("/health").status_code == 200
                times.append(time.perf_counter() - begin)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
    finally:
        over.set()
        thread.join()
    return times


def _held(url: str, process: psutil.Process) -> tuple[float, int, int]:
    """Requests, open files and memory that the server holds, once all is quiet."""
    time.sleep(1)
    lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
    time.sleep(0.5)  # for the connection of that request to be closed at the other end, too
    names = ("agentkit_running ", "agentkit_queue_length ")
    held = sum(float(line.split()[1]) for line in lines if line.startswith(names))
    return held, process.num_fds(), process.memory_info().rss


@contextmanager
def _served(kind: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own, so that it does not take turns with the client."""
    command = [sys.executable, "-m", "benchmarks.serving", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            while httpx.get(f"{url}/ready", trust_env=False).status_code != 200:
                time.sleep(0.1)
            yield url, psutil.Process(server.pid)
        finally:
            server.terminate()


def _serve(kind: str) -> None:
    model: Model = _Waiting()
    if kind == "embedded":
        # The model without training writes on until it is stopped.
        model = TransformersModel("embedded-base", lookup=False)
    options = ServerOptions(max_running=RUNNING, max_queued=QUEUED, served_names=(kind,))
    app = create_app(model, options=options)
    app.router.routes.append(Route("/direct", _direct, methods=["POST"]))
    serve(app, port=0, log_level="error", on_started=lambda url: print(url, flush=True))


if __name__ == "__main__":
    _serve(sys.argv[1])
