"""Server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agentkit.server.errors import api_error, error_body
from agentkit.server.sending import ClientGone, Watch, json_text

__all__ = ["EventStream", "first_then_rest"]


class EventStream(Response):
    """Server-sent events, sent as they come. Where the client goes, what makes them is closed.

    Args:
        events: Whole events, each with the empty line at its end. It must handle its own errors.
        watch: Of the request.
        heartbeat: Seconds of silence after which a comment is sent.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[str],
        watch: Watch,
        *,
        heartbeat: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._events = events
        self._watch = watch
        self._heartbeat = heartbeat
        self.status_code = 200
        self.background = None
        # Proxies that gather a response before they pass it on would defeat its purpose.
        self.init_headers(
            {"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await self._watch.do(self._send_all(send))
        except ClientGone:
            return
        except Exception as error:  # The status is sent: only an event can tell of it.
            data = json_text(error_body(api_error(error)))
            await _send(send, f"event: error\ndata: {data}\n\n")
        finally:
            self._watch.end()
            await _close(self._events)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        heart = asyncio.create_task(self._beat(send))
        try:
            async for event in self._events:
                self._last = time.monotonic()
                await _send(send, event)
        finally:
            heart.cancel()

    async def _beat(self, send: Send) -> None:
        self._last = time.monotonic()
        while True:
            silent = time.monotonic() - self._last
            if silent >= self._heartbeat:
                self._last = time.monotonic()
                await _send(send, ": waiting\n\n")
            await asyncio.sleep(max(0.01, self._heartbeat - silent))


def _send(send: Send, text: str) -> Awaitable[None]:
    return send(
        {
            "type": "http.response.body",
            "body": text.encode("utf-8", "replace"),
            "more_body": True,
        }
    )


async def _close(events: AsyncIterator[str]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


async def first_then_rest(events: AsyncIterator[str], watch: Watch) -> AsyncIterator[str]:
    """Wait for the first event, so that what fails before it can be answered with a status.

    Args:
        events: To be sent.
        watch: Of the request.

    Returns:
        All the events.
    """
    try:
        first: str = await watch.do(anext(events))  # type: ignore[arg-type]
    except BaseException:
        watch.end()
        await _close(events)
        raise

    return _FirstThenRest(first, events)


class _FirstThenRest:
    # No generator: closing one that has not begun would not close what it wraps.
    def __init__(self, first: str, rest: AsyncIterator[str]) -> None:
        self._first: str | None = first
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._rest)

    async def aclose(self) -> None:
        await _close(self._rest)
