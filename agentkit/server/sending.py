"""JSON as it is sent, and doing a request's work while its client is there."""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive

__all__ = ["ClientGone", "JSONReply", "Watch", "json_bytes", "json_text"]

T = TypeVar("T")


class ClientGone(Exception):
    """The client hung up: nobody is there to be answered."""


def json_text(data: Any) -> str:
    """JSON as it goes over the wire. What no UTF-8 can say becomes ``?``."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def json_bytes(data: Any) -> bytes:
    """As :func:`json_text`, in UTF-8."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


class JSONReply(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json_bytes(content)


class Watch:
    """Does a request's work while an eye is kept on its client and on the clock.

    All parts of the work see the same context variables, so that spans and the like stay open
    from one part to the next.

    Args:
        receive: Of the request, whose body has been read.
        seconds: For everything together.
    """

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._deadline = time.monotonic() + seconds
        self._context = contextvars.copy_context()
        self._gone: asyncio.Task[None] | None = None

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a part of the work; it has stopped when this returns or raises.

        Raises:
            ClientGone: The client hung up.
            TimeoutError: The time is over.
        """
        task = asyncio.create_task(work, context=self._context)
        if self._gone is None:
            self._gone = asyncio.create_task(self._disconnected())
        try:
            await asyncio.wait(
                (task, self._gone),
                timeout=max(0.0, self._deadline - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                return task.result()
            raise ClientGone if self._gone.done() else TimeoutError
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def end(self) -> None:
        """The request is over."""
        if self._gone is not None:
            self._gone.cancel()

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
