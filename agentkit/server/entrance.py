"""What every request passes first: its id, its measure, its key."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentkit.server.auth import KeyRing
from agentkit.server.errors import ApiError

if TYPE_CHECKING:
    from agentkit.server.limits import Gate
    from agentkit.server.metrics import Metrics
    from agentkit.server.options import ServerOptions

__all__ = ["Doorkeeper", "Meter"]

# Ends of the paths of routes that take a place at the gate.
_WORK = ("/chat/completions", "/embeddings", "/runs", "/resume")
_SWALLOWED = 1 << 18
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")


class Meter:
    """Gives each request an id, and counts it by route and status.

    Args:
        app: What answers.
        metrics: Where it is counted.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = scope["agentkit.arrived"] = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["agentkit.request_id"] = request_id
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            # What no route is for has no name of its own: anyone could make up any number.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if route != "other" else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - begin)


class Doorkeeper:
    """Asks for the key before anything is read, and reads neither for ever nor without end.

    Args:
        app: What answers.
        options: The server's.
        gate: Where there is no room, nothing is read either: refusing has to be cheap.
    """

    def __init__(self, app: ASGIApp, *, options: ServerOptions, gate: Gate) -> None:
        self._app = app
        self._gate = gate
        self._keys = KeyRing(options.api_keys)
        self._locked = ("/v1/", *(("/metrics",) if options.metrics == "key" else ()))
        self._body_timeout = options.body_timeout
        self._max_bytes = options.max_body_bytes

    @property
    def _too_large(self) -> str:
        return f"a request may have {self._max_bytes} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._locked):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        address = scope["client"][0] if scope.get("client") else "unknown"
        try:
            scope["agentkit.caller"] = self._keys.caller(headers, address)
            length = headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) > self._max_bytes:
                raise ApiError(413, self._too_large, code="request_too_large")
            if scope["method"] == "POST" and scope["path"].endswith(_WORK):
                self._gate.check()
        except ApiError as error:
            await _swallow(receive)
            await error.reply()(scope, receive, send)
            return
        deadline = time.monotonic() + self._body_timeout
        complete = False
        size = 0

        async def receive_in_time() -> Message:
            nonlocal complete, size
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request did not arrive in time") from None
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                raise HTTPException(413, self._too_large)
            complete = message["type"] != "http.request" or not message.get("more_body")
            return message

        await self._app(scope, receive_in_time, send)


async def _swallow(receive: Receive) -> None:
    """Take in the body of a request that is refused, if it is small and there soon.

    An answer to a request that has not been read makes servers close the connection, and the
    client may then see a broken one rather than the answer.
    """
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while size < _SWALLOWED:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
