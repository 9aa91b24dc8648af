"""Where MCP servers are: a command that is started, or a URL."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx2
from mcp import MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from agentkit_tools.auth import RenewableAuth

if TYPE_CHECKING:
    import httpx

    from agentkit_tools.auth import Auth

__all__ = ["HTTPEndpoint", "StdioEndpoint"]

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 300.0
_TAIL_LINES = 5
_SECRET = re.compile(r"key|token|secret|passw|credential|authorization|cookie", re.IGNORECASE)


class StdioEndpoint:
    """A program that talks MCP over its standard input and output."""

    may_be_late = False  # a program that cannot start will not start a second later

    def __init__(
        self, command: str, args: Sequence[str], env: Mapping[str, str], cwd: str | Path | None
    ) -> None:
        self._parameters = StdioServerParameters(
            command=command, args=list(args), env=dict(env), cwd=cwd
        )
        self._stderr: deque[str] = deque(maxlen=_TAIL_LINES)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Any, Any]]:
        """Start the program."""
        self._stderr.clear()
        reading, writing = os.pipe()
        with os.fdopen(writing, "w", encoding="utf-8") as errlog:
            threading.Thread(
                target=self._follow, args=(reading,), name="agentkit-mcp-stderr", daemon=True
            ).start()
            async with stdio_client(self._parameters, errlog) as streams:
                errlog.close()  # the program has its own; the reader must see when that closes
                yield streams

    def describe(self, error: BaseException) -> str:
        """What went wrong, with the end of what the program wrote to standard error."""
        command = self._parameters.command
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            missing = error.filename or command
            return f"there is no {str(missing)!r}; install it, or give its path"
        if isinstance(error, PermissionError):
            return f"{command!r} may not be run"
        if isinstance(error, MCPError) and error.code != CONNECTION_CLOSED:
            return f"it answered: {error.message[:300]}"
        tail = " | ".join(line for line in self._stderr if line)
        said = f"; it wrote: {tail[-500:]}" if tail else ""
        return f"the program {command!r} ended{said}"

    def is_hopeless(self, error: BaseException) -> bool:
        """Whether there is no such program."""
        return isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError)

    def never_sent(self, error: BaseException) -> bool:
        """A request that the program did not answer may have arrived."""
        return False

    def secrets(self) -> tuple[str, ...]:
        """Values of the program's variables whose names say that they are secret."""
        given = self._parameters.env or {}
        return tuple(value for name, value in given.items() if value and _SECRET.search(name))

    def _follow(self, descriptor: int) -> None:
        # Read to the end in any case: a program whose standard error is full stands still.
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self._stderr.append(line.strip())
                logger.debug("%s: %s", self._parameters.command, line.rstrip())


class HTTPEndpoint:
    """A service that talks MCP over streamable HTTP."""

    may_be_late = True

    def __init__(self, url: str, headers: Mapping[str, str], auth: Auth | httpx2.Auth | None):
        self._url = url
        self._headers = dict(headers)
        self._auth = auth if auth is None or isinstance(auth, httpx2.Auth) else _Signing(auth)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Any, Any]]:
        """Open a client; connections follow with the first request."""
        timeout = httpx2.Timeout(_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S)
        async with (
            httpx2.AsyncClient(headers=self._headers, auth=self._auth, timeout=timeout) as client,
            streamable_http_client(self._url, http_client=client) as streams,
        ):
            yield streams

    def describe(self, error: BaseException) -> str:
        """What went wrong, without what a URL may hold of secrets."""
        return f"{str(error)[:300] or type(error).__name__} ({httpx2.URL(self._url).host})"

    def is_hopeless(self, error: BaseException) -> bool:
        """Whether another attempt cannot help: only the network gets better by itself."""
        return not isinstance(error, httpx2.TransportError | TimeoutError)

    def never_sent(self, error: BaseException) -> bool:
        """Whether there was not even a connection."""
        return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)

    def secrets(self) -> tuple[str, ...]:
        """Credentials, and headers whose names say that they are secret."""
        headers = (
            part
            for name, value in self._headers.items()
            if _SECRET.search(name)
            for part in (value, value.rpartition(" ")[2])
        )
        auth = self._auth
        return (*headers, *(auth.secrets() if isinstance(auth, _Signing) else ()))


class _Signing(httpx2.Auth):
    """Our credentials on the requests of the SDK's client."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def secrets(self) -> tuple[str, ...]:
        """As far as they are known."""
        return self._auth.secrets()

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        await self._sign(request)
        response = yield request
        ours = cast("httpx.Request", request)
        renewable = response.status_code == 401 and isinstance(self._auth, RenewableAuth)
        if renewable and await cast("RenewableAuth", self._auth).renew(ours):
            await self._sign(request)
            yield request

    async def _sign(self, request: httpx2.Request) -> None:
        # httpx2 continues httpx: what an Auth touches of a request is the same in both.
        signing = self._auth.apply(cast("httpx.Request", request))
        if signing is not None:
            await signing
