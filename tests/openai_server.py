"""A server for tests of OpenAIModel: it answers as told, well or badly, and records requests."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class FakeServer:
    """Plays behaviours in order; ``/models`` is answered from :attr:`models`."""

    def __init__(self) -> None:
        self.replies: deque[Behaviour] = deque()
        self.requests: list[dict[str, Any]] = []
        self.models: list[str] | None = ["tiny"]
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.url = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [r["body"] for r in self.requests if r["path"].endswith("/chat/completions")]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            raw = await reader.readexactly(int(headers.get("content-length", 0)))
            path = lines[0].split()[1]
            body = json.loads(raw) if raw else None
            self.requests.append({"path": path, "headers": headers, "body": body})
            self.asked.set()
            gone = asyncio.create_task(self._watch(reader))
            try:
                await self._answer(path)(writer)
            finally:
                gone.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        if await reader.read(1) == b"":
            self.hung_up.set()

    def _answer(self, path: str) -> Behaviour:
        if path == "/v1/models" and self.models is not None:
            return reply(200, {"object": "list", "data": [{"id": name} for name in self.models]})
        if path == "/v1/chat/completions" and self.replies:
            return self.replies.popleft()
        return reply(404, b"<html>Not Found</html>", "text/html")


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield fake
    finally:
        server.close()


def reply(status: int, body: Any, kind: str = "application/json", headers: str = "") -> Behaviour:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def behave(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        writer.write(f"{head}{headers}Connection: close\r\n\r\n".encode() + data)
        await writer.drain()

    return behave


def error(status: int, message: str, headers: str = "", **more: Any) -> Behaviour:
    return reply(status, {"error": {"message": message, **more}}, headers=headers)


def stream(*events: Any, done: bool = True, end: bool = True, split: int = 0) -> Behaviour:
    """Events as they are told; ``end=False`` hangs up amid the body, ``split`` cuts it small."""
    texts = [e if isinstance(e, bytes) else f"data: {json.dumps(e)}\n\n".encode() for e in events]
    data = b"".join(texts) + (b"data: [DONE]\n\n" if done else b"")

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        size = split or len(data) or 1
        for i in range(0, len(data), size):
            piece = data[i : i + size]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if end:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    return behave


async def drop(writer: asyncio.StreamWriter) -> None:
    """Hang up without a word."""


def endless(*events: Any) -> Behaviour:
    """Some events, then silence."""
    begin = stream(*events, done=False, end=False)

    async def behave(writer: asyncio.StreamWriter) -> None:
        await begin(writer)
        await asyncio.sleep(20)

    return behave


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **more}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def usage(prompt: int, written: int, cached: int = 0) -> dict[str, Any]:
    return {
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def says(text: str, finish: str = "stop") -> Behaviour:
    """A text, in two pieces."""
    half = len(text) // 2
    return stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": text[:half]}),
        chunk({"content": text[half:]}),
        chunk(finish=finish),
        usage(10, 4, cached=6),
    )


def calls(*named: tuple[str, str], finish: str = "tool_calls") -> Behaviour:
    """Calls with their arguments' text, in pieces as vLLM sends them."""
    chunks = [chunk({"role": "assistant", "content": None})]
    for i, (name, arguments) in enumerate(named):
        head = {"index": i, "id": f"call-{i}", "type": "function"}
        chunks.append(chunk({"tool_calls": [{**head, "function": {"name": name}}]}))
        for piece in (arguments[:5], arguments[5:]):
            chunks.append(chunk({"tool_calls": [{"index": i, "function": {"arguments": piece}}]}))
    return stream(*chunks, chunk(finish=finish), usage(20, 9))
