"""Sending of requests: credentials, retries, redirects, and limits of time, size and rate."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import ssl
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx
import stamina

from agentkit_tools._http_body import read_body
from agentkit_tools.auth import Auth, RenewableAuth
from agentkit_tools.http_errors import (
    HTTPConnectionError,
    HTTPRedirectError,
    HTTPRequestError,
    HTTPResponseError,
    HTTPTimeoutError,
    HTTPToolError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from agentkit_tools._http_pool import ClientPool
    from agentkit_tools.host_limits import HostLimits

__all__ = ["Reply", "Sender", "send_signed"]

# stamina warns of each retry. A program that has set up logging sees it; Python's handler of last
# resort, which writes to standard error where nothing is set up, is not for libraries to use.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504})
_PAUSING_STATUSES = frozenset({429, 503})
_MAX_WAIT_S = 30.0
_MAX_REDIRECTS = 5
_MAX_ERROR_BYTES = 4096
_MAX_REASON_CHARS = 60


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
    """Of the text, if it is text; not necessarily one that Python knows."""
    body: bytes
    """Decompressed. Of an error response, no more than the beginning."""
    retry_after: float | None
    """Seconds that the service asks to wait before the next request."""


class _TransientError(Exception):
    """An attempt failed in a way that another attempt may not."""

    def __init__(
        self,
        message: str,
        *,
        kind: type[HTTPToolError] = HTTPConnectionError,
        sent: bool = True,
        reply: Reply | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent
        self.reply = reply


async def send_signed(
    auth: Auth | None,
    request: httpx.Request,
    send: Callable[[httpx.Request], Awaitable[httpx.Response]],
) -> httpx.Response:
    """Sign a request and send it, once more if the credentials can be renewed.

    Args:
        auth: The credentials, if any.
        request: To be signed.
        send: Sends it; the body of the response is left to the caller to read.
    """
    if auth is None:
        return await send(request)
    await _apply(auth, request)
    response = await send(request)
    # The service has refused to act, so the method does not matter.
    if response.status_code == 401 and isinstance(auth, RenewableAuth):
        if not await auth.renew(request):
            return response
        await response.aclose()
        await _apply(auth, request)
        response = await send(request)
    return response


async def _apply(auth: Auth, request: httpx.Request) -> None:
    applied = auth.apply(request)
    if inspect.isawaitable(applied):
        await applied


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """How one tool sends its requests."""

    pool: ClientPool
    """Where the client comes from."""
    auth: Auth | None = None
    """Signs each request."""
    retries: int
    """How many more attempts may follow a failed one."""
    repeatable: bool
    """Whether a request may be sent again that may have reached the service."""
    timeout: float | None = None
    """Seconds for all attempts together."""
    attempt_timeout: float
    """Seconds for one attempt, from connecting to the last byte."""
    max_bytes: int
    """Size of the largest body that is accepted."""
    limits: HostLimits | None = None
    """Of the host, shared with other tools."""

    async def send(self, build: Callable[[httpx.AsyncClient], httpx.Request]) -> Reply:
        """Send a request, again where that may help.

        Args:
            build: Makes the request, anew for each attempt; with
                :data:`~agentkit_tools._http_body.ACCEPT_ENCODING`.

        Returns:
            The response, whatever its status.

        Raises:
            HTTPToolError: There is no response that can be used.
        """
        client = await self.pool.get()
        tries = 1
        began = time.monotonic()
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                try:
                    return await self._attempt(client, build(client))
                except _TransientError as error:
                    failure: _TransientError | None = error
                # Only now: most requests are sent once, and a retry context is not cheap to make.
                async for attempt in self._retries(began):
                    with attempt:
                        if failure is not None:  # The first attempt has been made.
                            first, failure = failure, None
                            raise first
                        tries += 1
                        return await self._attempt(client, build(client))
        except _TransientError as error:
            if error.reply is not None:
                return error.reply
            times = f", {tries} times" if tries > 1 else ""
            raise error.kind(f"{error}{times}; it may work later") from error.__cause__
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise HTTPTimeoutError(
                f"the service did not answer within {self.timeout:g} s; it may work later"
            ) from error
        raise AssertionError("stamina ends with a result or an exception")

    def _retries(self, began: float) -> AsyncIterable[stamina.Attempt]:
        """Attempts, the first of which is for the failure that there was already."""
        left = None if self.timeout is None else self.timeout - (time.monotonic() - began)
        return stamina.retry_context(
            on=self._wait,
            attempts=1 + self.retries,
            timeout=left if left is None else max(left, 0.001),
            wait_initial=0.5,
            wait_max=8.0,
            wait_jitter=0.5,
        )

    def _wait(self, error: Exception) -> bool | float:
        """Whether to try again and, if the service says so, after how many seconds."""
        if not isinstance(error, _TransientError) or (error.sent and not self.repeatable):
            return False
        wait = error.reply.retry_after if error.reply is not None else None
        if wait is None:
            return True
        limit = _MAX_WAIT_S if self.timeout is None else min(_MAX_WAIT_S, self.timeout)
        return wait if wait <= limit else False

    async def _attempt(self, client: httpx.AsyncClient, request: httpx.Request) -> Reply:
        host = "" if self.limits is None else _host(request.url)
        async with nullcontext() if self.limits is None else self.limits.slot(host):
            try:
                async with asyncio.timeout(self.attempt_timeout) as deadline:
                    reply = await self._follow(client, request)
            except TimeoutError as error:
                if not deadline.expired():
                    raise
                raise _TransientError(
                    f"the service did not answer within {self.attempt_timeout:g} s",
                    kind=HTTPTimeoutError,
                ) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise _translate(error) from error
        if self.limits is not None and reply.retry_after and reply.status in _PAUSING_STATUSES:
            self.limits.pause(host, min(reply.retry_after, _MAX_WAIT_S))
        if reply.status in _RETRIED_STATUSES:
            raise _TransientError(f"status {reply.status}", reply=reply)
        return reply

    async def _follow(self, client: httpx.AsyncClient, request: httpx.Request) -> Reply:
        """Send a request and follow redirects that stay on the host.

        Another host would receive the arguments, and headers that only look harmless.
        """

        async def send(request: httpx.Request) -> httpx.Response:
            return await client.send(request, stream=True, follow_redirects=False)

        for _ in range(1 + _MAX_REDIRECTS):
            response = await send_signed(self.auth, request, send)
            try:
                if response.next_request is None:
                    return await self._read(response)
            finally:
                await response.aclose()
            target = response.next_request.url
            if not _stays(request.url, target):
                raise HTTPRedirectError(
                    f"the service redirects to {target.scheme}://{target.host:.80}, which is not "
                    "followed; the tool's url must be changed"
                )
            request = response.next_request
        raise HTTPRedirectError(f"the service redirects more than {_MAX_REDIRECTS} times")

    async def _read(self, response: httpx.Response) -> Reply:
        limit = self.max_bytes if response.is_success else _MAX_ERROR_BYTES
        try:
            body, complete = await read_body(response, limit)
        except HTTPResponseError:
            if response.is_success:
                raise
            body, complete = b"", True  # The status says enough.
        if response.is_success and not complete:
            raise HTTPResponseError(
                f"the response is larger than the limit of {limit} bytes; ask for less"
            )
        content_type = response.headers.get("Content-Type", "").lower()
        # Parsing the header's parameters takes longer than all the rest here.
        charset = response.charset_encoding if "charset" in content_type else None
        retry_after = response.headers.get("Retry-After")
        return Reply(
            status=response.status_code,
            reason=response.reason_phrase[:_MAX_REASON_CHARS],
            content_type=content_type.partition(";")[0].strip()[:100],
            encoding=charset or "utf-8",
            body=body,
            retry_after=None if retry_after is None else _retry_after(retry_after),
        )


def _host(url: httpx.URL) -> str:
    return f"{url.host}:{url.port or url.scheme}"


def _translate(error: httpx.HTTPError | httpx.InvalidURL) -> Exception:
    """An error of httpx in words for the model."""
    words = str(error)[:200] or type(error).__name__
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return HTTPConnectionError(
                f"the service's certificate is not trusted ({cause.verify_message[:200]}); other "
                "arguments will not help"
            )
        if isinstance(cause, ssl.SSLError):
            words = (cause.reason or "TLS").replace("_", " ").lower()
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return _TransientError(f"the service could not be reached ({words})", sent=False)
    if "location header" in words:
        return HTTPRedirectError("the service redirects to an address that cannot be read")
    if isinstance(error, httpx.RemoteProtocolError):
        return _TransientError(f"the service broke off or garbled its answer ({words})")
    if isinstance(error, httpx.NetworkError | httpx.TimeoutException):
        return _TransientError(f"the connection to the service broke ({words})")
    return HTTPRequestError(f"the request could not be sent ({words})")


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


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
