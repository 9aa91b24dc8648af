"""What an HTTPTool costs beside bare httpx, many calls at once and one after another."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import httpx

from agentkit.tools import ToolContext
from agentkit_tools import BearerAuth, HTTPTool
from benchmarks.report import Figure

CALLS = 200
"""At once."""
ROUNDS = 9
SEQUENTIAL = 50

# A process of its own, so that it does not take turns with the client.
_SERVER = """
import asyncio, json
ITEMS = [{"id": n, "name": f"item {n}", "tags": ["a", "b"], "price": n * 1.5} for n in range(20)]
BODY = json.dumps({"items": ITEMS}).encode()
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
ANSWER = HEAD % len(BODY) + BODY

class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.seen = transport, b""
    def data_received(self, data):
        self.seen += data
        while b"\\r\\n\\r\\n" in self.seen:
            self.seen = self.seen.partition(b"\\r\\n\\r\\n")[2]
            self.transport.write(ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
_CONTEXT = ToolContext(tool_name="items")

Call = Callable[[], Awaitable[object]]


def run() -> list[Figure]:
    """Time both against one server on this machine, by turns."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            return asyncio.run(_measure(url))
        finally:
            server.terminate()


async def _measure(url: str) -> list[Figure]:
    os.environ.setdefault("AGENTKIT_BENCHMARK_TOKEN", "benchmark-token")
    token = os.environ["AGENTKIT_BENCHMARK_TOKEN"]
    tool = HTTPTool(
        name="items",
        url=url + "/shops/{shop}/items",
        parameters={
            "properties": {"shop": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["shop"],
        },
        auth=BearerAuth(env="AGENTKIT_BENCHMARK_TOKEN"),
    )
    async with httpx.AsyncClient(trust_env=False) as client:

        async def ours() -> object:
            return await tool.call({"shop": "s 1", "limit": 20}, _CONTEXT)

        async def bare() -> object:
            response = await client.get(
                url + "/shops/s%201/items",
                params={"limit": 20},
                headers={"Authorization": f"Bearer {token}"},
            )
            response.raise_for_status()
            return json.loads(response.content)

        assert await ours() == await bare()
        at_once = await _by_turns(ours, bare, _all_at_once, ROUNDS)
        in_turn = await _by_turns(ours, bare, _one_after_another, ROUNDS)
    await tool.aclose()
    return [
        Figure(
            what=f"{CALLS} calls at once, against bare httpx",
            ours=at_once[0] * 1000,
            baseline=at_once[1] * 1000,
            unit="ms",
            at_least=0.8,
        ),
        Figure(
            what="one call after another, against bare httpx",
            ours=in_turn[0] * 1000 / SEQUENTIAL,
            baseline=in_turn[1] * 1000 / SEQUENTIAL,
            unit="ms",
        ),
    ]


async def _by_turns(
    ours: Call, bare: Call, load: Callable[[Call], Awaitable[None]], rounds: int
) -> tuple[float, float]:
    """Median seconds of each, after a round that is not counted."""
    times: dict[Call, list[float]] = {ours: [], bare: []}
    for index in range(rounds + 1):
        for call in (ours, bare) if index % 2 else (bare, ours):
            began = time.perf_counter()
            await load(call)
            if index:
                times[call].append(time.perf_counter() - began)
    return statistics.median(times[ours]), statistics.median(times[bare])


async def _all_at_once(call: Call) -> None:
    await asyncio.gather(*(call() for _ in range(CALLS)))


async def _one_after_another(call: Call) -> None:
    for _ in range(SEQUENTIAL):
        await call()
