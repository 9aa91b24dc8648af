"""Sending of requests: a client per event loop, retries, redirects and a limit of size."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx
import stamina

from agentkit_tools.http_errors import (
    HTTPConnectionError,
    HTTPRedirectError,
    HTTPRequestError,
    HTTPResponseError,
    HTTPTimeoutError,
    HTTPToolError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from agentkit_tools.auth import Auth

__all__ = ["ClientPool", "Reply", "Sender"]

# stamina warns of each retry. A program that has set up logging sees it; Python's handler of last
# resort, which writes to standard error where nothing is set up, is not for libraries to use.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_MAX_WAIT_S = 30.0
_MAX_REDIRECTS = 5
_MAX_ERROR_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response that has been read."""

    status: int
    """The HTTP status code."""
    reason: str
    """The status in words, such as ``Not Found``."""
    content_type: str
    """The media type in lower case, without parameters; empty if the service named none."""
    encoding: str
    """Of the text, if it is text."""
    body: bytes
    """Decompressed. Of an error response, no more than the beginning."""
    retry_after: float | None
    """Seconds that the service asks to wait before the next request."""


class ClientPool:
    """An ``httpx.AsyncClient`` for each event loop, as connections cannot change loops.

    Args:
        make: Makes a client.
        client: To be used instead, in its own loop; it is left to its owner to close.
    """

    def __init__(
        self, make: Callable[[], httpx.AsyncClient], client: httpx.AsyncClient | None = None
    ) -> None:
        self._make = make
        self._given = client
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self._lifetimes: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}

    async def get(self) -> httpx.AsyncClient:
        """The client of the running loop, made on first use."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is not None and not client.is_closed:
            return client
        for other in list(self._clients):
            if other.is_closed():
                self._clients.pop(other, None)
                self._lifetimes.pop(other, None)
        client = self._clients[loop] = self._make()
        # asyncio.run() finishes the loop's async generators before it closes the loop; that is
        # the one moment at which connections can be closed without the program's help.
        lifetime = self._lifetimes[loop] = _close_at_end(client)
        await anext(lifetime)
        return client

    async def aclose(self) -> None:
        """Close the running loop's connections. The next call opens new ones."""
        loop = asyncio.get_running_loop()
        self._clients.pop(loop, None)
        lifetime = self._lifetimes.pop(loop, None)
        if lifetime is not None:
            await lifetime.aclose()


async def _close_at_end(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await client.aclose()


class _TransientError(Exception):
    """An attempt failed in a way that another attempt may not."""

    def __init__(
        self,
        message: str,
        *,
        kind: type[HTTPToolError] = HTTPConnectionError,
        reply: Reply | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.reply = reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """How one tool sends its requests."""

    pool: ClientPool
    """Where the client comes from."""
    auth: Auth | None
    """Signs each request."""
    retries: int
    """How many more attempts may follow a failed one."""
    timeout: float | None
    """Seconds for all attempts together."""
    attempt_timeout: float
    """Seconds for one attempt, from connecting to the last byte."""
    max_bytes: int
    """Size of the largest body that is accepted."""

    async def send(self, build: Callable[[httpx.AsyncClient], httpx.Request]) -> Reply:
        """Send a request, again where that may help.

        Args:
            build: Makes the request, anew for each attempt.

        Returns:
            The response, whatever its status.

        Raises:
            HTTPToolError: There is no response that can be used.
        """
        client = await self.pool.get()
        try:
            async for attempt in stamina.retry_context(
                on=self._wait,
                attempts=1 + self.retries,
                timeout=self.timeout,
                wait_initial=0.5,
                wait_max=8.0,
                wait_jitter=0.5,
            ):
                with attempt:
                    return await self._attempt(client, build(client))
        except _TransientError as error:
            if error.reply is not None:
                return error.reply
            tries = f", {1 + self.retries} times" if self.retries else ""
            raise error.kind(f"{error}{tries}; it may work later") from error.__cause__
        raise AssertionError("stamina ends with a result or an exception")

    def _wait(self, error: Exception) -> bool | float:
        """Whether to try again and, if the service says so, after how many seconds."""
        if not isinstance(error, _TransientError):
            return False
        wait = error.reply.retry_after if error.reply is not None else None
        if wait is None:
            return True
        limit = _MAX_WAIT_S if self.timeout is None else min(_MAX_WAIT_S, self.timeout)
        return wait if wait <= limit else False

    async def _attempt(self, client: httpx.AsyncClient, request: httpx.Request) -> Reply:
        try:
            async with asyncio.timeout(self.attempt_timeout):
                reply = await self._follow(client, request)
        except TimeoutError as error:
            raise _TransientError(
                f"the service did not answer within {self.attempt_timeout:g} s",
                kind=HTTPTimeoutError,
            ) from error
        except (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError) as error:
            raise _TransientError(f"the service could not be reached ({_words(error)})") from error
        except httpx.DecodingError as error:
            raise HTTPResponseError("the response could not be decompressed") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HTTPRequestError(f"the request could not be sent ({_words(error)})") from error
        if reply.status in _RETRIED_STATUSES:
            raise _TransientError(f"status {reply.status}", reply=reply)
        return reply

    async def _follow(self, client: httpx.AsyncClient, request: httpx.Request) -> Reply:
        """Send a request and follow redirects that stay on the host.

        Another host would receive the arguments, and headers that only look harmless.
        """
        for _ in range(1 + _MAX_REDIRECTS):
            if self.auth is not None:
                self.auth.apply(request)
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                if response.next_request is None:
                    return await self._read(response)
            finally:
                await response.aclose()
            target = response.next_request.url
            if not _stays(request.url, target):
                raise HTTPRedirectError(
                    f"the service redirects to {target.scheme}://{target.host}, which is not "
                    "followed; the tool's url must be changed"
                )
            request = response.next_request
        raise HTTPRedirectError(f"the service redirects more than {_MAX_REDIRECTS} times")

    async def _read(self, response: httpx.Response) -> Reply:
        limit = self.max_bytes if response.is_success else _MAX_ERROR_BYTES
        body = bytearray()
        # The announced length may be missing, compressed or a lie: count what arrives.
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit:
                if response.is_success:
                    raise HTTPResponseError(
                        f"the response is larger than the limit of {limit} bytes; ask for less"
                    )
                break
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        return Reply(
            status=response.status_code,
            reason=response.reason_phrase,
            content_type=media_type.strip().lower(),
            encoding=response.encoding or "utf-8",
            body=bytes(body[:limit]),
            retry_after=_retry_after(response.headers.get("Retry-After", "")),
        )


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


def _stays(origin: httpx.URL, target: httpx.URL) -> bool:
    if origin.host != target.host:
        return False
    same = (origin.scheme, origin.port) == (target.scheme, target.port)
    upgrade = (origin.scheme, target.scheme) == ("http", "https")
    return same or (upgrade and origin.port is None and target.port is None)


def _retry_after(header: str) -> float | None:
    """Seconds, from either form that the header may take."""
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
