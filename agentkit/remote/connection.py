"""The way to a server: one client for each event loop, retries, and bodies as they come."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import stamina

from agentkit.errors import ContextLengthError, ModelError, ModelServerError
from agentkit.redaction import Redactor, Secrets
from agentkit.remote.failures import connection_error, retry_after, status_error, wrong_place
from agentkit.remote.reading import whole_as_chunk
from agentkit.remote.sse import MAX_EVENT_BYTES, event_objects

__all__ = ["Clients", "Connection", "Passing", "make_clients"]

T = TypeVar("T")
_MAX_ERROR_BYTES = 64 << 10
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# stamina warns of each retry. A program that has set up logging sees it; others need not.
logging.getLogger("stamina").addHandler(logging.NullHandler())


class Passing(Exception):
    """A failure that may be gone at the next try; its cause is what to raise if it is not."""

    def __init__(self, error: ModelError, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How one server is reached."""

    base_url: str
    """Up to and without ``/chat/completions``."""
    api_key: str | None
    """Sent as a bearer token."""
    key_variable: str
    """Where a key is looked for; for errors."""
    timeout: float
    """Seconds that the server may be silent."""
    attempts: int
    """How often a request is tried."""
    max_wait: float
    """The longest ``Retry-After`` that is waited for, in seconds."""
    headers: Mapping[str, str]
    """Sent with each request."""
    clients: Clients
    """One for each event loop."""

    async def with_retries(self, once: Callable[[], Awaitable[T]]) -> T:
        """Do what may be done again.

        Args:
            once: Makes the coroutine of one try; failures that may pass are :class:`Passing`.
        """

        def wait(error: Exception) -> bool | float:
            if not isinstance(error, Passing):
                return False
            if error.wait is None:
                return True
            return error.wait if error.wait <= self.max_wait else False

        tries = 0
        try:
            async for attempt in stamina.retry_context(
                on=wait, attempts=self.attempts, timeout=None, wait_initial=0.25, wait_max=8.0
            ):
                with attempt:
                    tries += 1
                    return await once()
        except Passing as passing:
            error = passing.error
            if tries > 1:
                error.add_note(f"after {tries} tries")
            if passing.wait is not None and passing.wait > self.max_wait:
                error.add_note(
                    f"the server asks to wait for {passing.wait:g} s; max_wait is {self.max_wait:g}"
                )
            raise self.clean(error) from error.__cause__
        except ModelError as error:
            raise self.clean(error) from error.__cause__
        raise AssertionError("stamina ends with a result or an exception")

    def clean(self, error: ModelError) -> ModelError:
        """An error in which the API key does not show, whoever put it there."""
        if self.api_key and len(self.api_key) >= 4:
            Redactor(Secrets([self.api_key])).scrub(error)
        return error

    async def post(
        self, body: Mapping[str, Any], *, model: str
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Ask for a completion. The chunks end with the stream; closing them closes it.

        Raises:
            Passing: It may go well at the next try.
            ModelError: It will not.
        """
        client = self.clients.get()
        url = f"{self.base_url}/chat/completions"
        try:
            request = client.build_request("POST", url, json=body, headers=self._headers())
            # httpx counts the time between two pieces, and headers may come in small ones.
            async with self._in_time():
                response = await client.send(request, stream=True, follow_redirects=False)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise Passing(connection_error(url, error)) from error
        try:
            if not response.is_success:
                await self._refuse(response, url, model)
        except BaseException:
            await response.aclose()
            raise
        return self._chunks(response, url)

    async def models(self) -> list[str]:
        """The names of the server's models.

        Raises:
            Passing: It may go well at the next try.
            ModelError: The server does not tell.
        """
        client = self.clients.get()
        url = f"{self.base_url}/models"
        try:
            async with self._in_time():
                response = await client.get(url, headers=self._headers(), follow_redirects=False)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise Passing(connection_error(url, error)) from error
        if response.status_code == 404:
            raise wrong_place(url, "", None, response.text)
        if not response.is_success:
            await self._refuse(response, url, "")
        try:
            return [str(item["id"]) for item in response.json()["data"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelServerError(
                f"{url} does not list models: {response.text[:200]!r}"
            ) from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {**headers, **self.headers}

    async def _refuse(self, response: httpx.Response, url: str, model: str) -> None:
        status = response.status_code
        body = await self._beginning(response)
        if status == 404 and model:
            raise wrong_place(url, model, await self._known_models(), body)
        error = status_error(
            url,
            status,
            body,
            model=model,
            has_key=bool(self.api_key),
            key_variable=self.key_variable,
        )
        if status in _RETRIED and not isinstance(error, ContextLengthError):
            raise Passing(error, retry_after(response.headers))
        raise error

    async def _known_models(self) -> list[str] | None:
        try:
            return await self.models()
        except (ModelError, Passing):
            return None

    async def _chunks(
        self, response: httpx.Response, url: str
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            if kind == "text/event-stream":
                async with aclosing(event_objects(response.aiter_bytes())) as events:  # type: ignore[type-var]
                    async for event in events:
                        yield event
            elif kind == "application/json":
                async with self._in_time():
                    body = await _whole(response, url)
                yield whole_as_chunk(body)
            else:
                raise ModelServerError(
                    f"{url} answers with {kind or 'an unknown type'}, which is no completion: "
                    f"{(await self._beginning(response))[:200]!r}"
                )
        except (TimeoutError, httpx.HTTPError, httpx.StreamError) as error:
            raise connection_error(url, error) from error
        finally:
            await response.aclose()

    def _in_time(self) -> asyncio.Timeout:
        return asyncio.timeout(self.timeout)

    async def _beginning(self, response: httpx.Response) -> str:
        """The beginning of an error's body."""
        if response.is_closed:
            return response.text[:_MAX_ERROR_BYTES]
        body = bytearray()
        try:
            async with self._in_time():
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > _MAX_ERROR_BYTES:
                        break
        except (TimeoutError, httpx.HTTPError, httpx.StreamError):
            pass  # The status says enough.
        return body[:_MAX_ERROR_BYTES].decode("utf-8", "replace")


class Clients:
    """An ``httpx.AsyncClient`` for each event loop, as connections cannot change loops.

    Args:
        make: Makes a client.
        given: To be used instead; it is left to its owner to close.
    """

    def __init__(
        self, make: Callable[[], httpx.AsyncClient], given: httpx.AsyncClient | None = None
    ) -> None:
        self._make = make
        self._given = given
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    def get(self) -> httpx.AsyncClient:
        """The client of the running loop, made on first use."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self.forget_closed()
            self._clients[loop] = self._make()
        return self._clients[loop]

    def forget_closed(self) -> None:
        """Drop the clients of loops that are closed, and their connections with them."""
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            del self._clients[loop]

    async def aclose(self) -> None:
        """Close the running loop's connections. The next request opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


def make_clients(
    timeout: float, connect_timeout: float, given: httpx.AsyncClient | None
) -> Clients:
    """Clients for a server.

    Args:
        timeout: Seconds that the server may be silent.
        connect_timeout: Seconds for connecting.
        given: A client of the program's, to be used instead.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    times = httpx.Timeout(timeout, connect=connect_timeout, pool=None)
    return Clients(lambda: httpx.AsyncClient(limits=limits, timeout=times), given)


async def _whole(response: httpx.Response, url: str) -> Mapping[str, Any]:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_EVENT_BYTES:
            raise ModelServerError(f"{url} answers with more than {MAX_EVENT_BYTES} bytes")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ModelServerError(
            f"{url} answers with something that is not JSON: {bytes(body[:200])!r}"
        ) from error
    if not isinstance(value, dict):
        raise ModelServerError(f"{url} answers with something that is no object")
    return value
