"""Connections under a :class:`~agentkit_tools.network.NetworkPolicy`."""

from __future__ import annotations

import asyncio
import functools
import http.cookiejar
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from itertools import chain, zip_longest
from typing import Any

import httpcore
import httpx

from agentkit.errors import UserError
from agentkit_tools.network import NetworkPolicy

__all__ = ["make_client", "make_transport"]

_FOR_TRANSPORT = ("verify", "http1", "http2", "limits")
_AROUND = ("transport", "mounts", "proxy", "app", "trust_env", "uds", "cert")
# RFC 8305: after this many seconds the next address is tried beside the first.
_STAGGER_S = 0.25

Connect = Callable[[str], Awaitable[httpcore.AsyncNetworkStream]]


def make_client(policy: NetworkPolicy, options: Mapping[str, Any]) -> httpx.AsyncClient:
    """See :meth:`NetworkPolicy.client`."""
    _refuse(options)
    rest = {"cookies": _no_cookies(), **options}
    wrap = rest.pop("wrap", lambda transport: transport)
    for_transport = {name: rest.pop(name) for name in _FOR_TRANSPORT if name in rest}
    transport = wrap(make_transport(policy, for_transport))
    # trust_env would have httpx take proxies from the environment, past the transport.
    return httpx.AsyncClient(transport=transport, trust_env=False, **rest)


def make_transport(policy: NetworkPolicy, options: Mapping[str, Any]) -> httpx.AsyncHTTPTransport:
    """See :meth:`NetworkPolicy.transport`."""
    _refuse(options)
    return _CheckedTransport(policy, **options)


def _refuse(options: Mapping[str, Any]) -> None:
    for name in _AROUND:
        if name in options:
            raise UserError(
                f"NetworkPolicy: {name}={options[name]!r:.80} cannot be combined with a policy; "
                "for a proxy, make an httpx.AsyncClient of your own, which no policy then guards"
            )


class _CheckedTransport(httpx.AsyncHTTPTransport):
    def __init__(
        self,
        policy: NetworkPolicy,
        *,
        verify: ssl.SSLContext | bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits | None = None,
    ) -> None:
        if verify is True:
            verify = _default_context(
                http2, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
            )
        context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(False)
        limits = limits or httpx.Limits(
            max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0
        )
        super().__init__(verify=context)
        self._policy = policy
        places = None if http2 else limits.max_connections
        self._places = None if places is None else asyncio.Semaphore(places)
        # httpx has no option for the backend. What it does with the pool is what we want.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http1=http1,
            http2=http2,
            network_backend=_CheckedBackend(policy),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._policy.check_url(request.url)
        if self._places is None:
            return await super().handle_async_request(request)
        await _take(self._places, request)
        try:
            response = await super().handle_async_request(request)
        except BaseException:
            self._places.release()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Placed(response.stream, self._places)
        return response


async def _take(places: asyncio.Semaphore, request: httpx.Request) -> None:
    """Wait until a connection may be had.

    httpcore's pool compares each waiting request with each connection whenever anything changes,
    which with hundreds of requests takes longer than to send them. So they wait outside of it.
    """
    if not places.locked():
        await places.acquire()  # Without ever waiting.
        return
    seconds = request.extensions.get("timeout", {}).get("pool")
    try:
        async with asyncio.timeout(seconds) as deadline:
            await places.acquire()
    except TimeoutError:
        if not deadline.expired():
            raise
        raise httpx.PoolTimeout(f"no connection was free within {seconds:g} s") from None


class _Placed(httpx.AsyncByteStream):
    """A response's body, which gives its place free when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, places: asyncio.Semaphore) -> None:
        self._stream = stream
        self._places: asyncio.Semaphore | None = places

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        places, self._places = self._places, None
        try:
            await self._stream.aclose()
        finally:
            if places is not None:
                places.release()


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves names itself, and connects to the addresses that it has checked.

    Names in certificates, in SNI and in the Host header are the URL's: httpcore deals with them
    above this.
    """

    def __init__(self, policy: NetworkPolicy) -> None:
        self._policy = policy
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._backend.connect_tcp(
                address, port, timeout, local_address, socket_options
            )

        try:
            async with asyncio.timeout(timeout):
                addresses = await self._policy.resolve(host, port)
                return await _first(connect, addresses)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection within {timeout} s") from error
        except OSError as error:
            raise httpcore.ConnectError(f"the name {host!r} has no address") from error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("sockets of this machine are not connected to")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _first(connect: Connect, addresses: list[str]) -> httpcore.AsyncNetworkStream:
    """The first connection that comes about, IPv6 and IPv4 by turns ("happy eyeballs")."""
    if len(addresses) == 1:
        return await connect(addresses[0])
    first_family = ":" in addresses[0]
    families = [
        [address for address in addresses if (":" in address) == family]
        for family in (first_family, not first_family)
    ]
    waiting = [address for address in chain(*zip_longest(*families)) if address is not None]
    started: list[asyncio.Task[httpcore.AsyncNetworkStream]] = []
    winner: asyncio.Task[httpcore.AsyncNetworkStream] | None = None
    try:
        while winner is None:
            if waiting:
                started.append(asyncio.create_task(_run(connect, waiting.pop(0))))
            running = [task for task in started if not task.done()]
            if running:
                await asyncio.wait(
                    running,
                    timeout=_STAGGER_S if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            done = [task for task in started if task.done()]
            winner = next((task for task in done if task.exception() is None), None)
            if winner is None and not waiting and len(done) == len(started):
                break
        return (winner or started[0]).result()
    finally:
        for task in started:
            task.cancel()
        ended = await asyncio.gather(*started, return_exceptions=True)
        for task, stream in zip(started, ended, strict=True):
            if task is not winner and isinstance(stream, httpcore.AsyncNetworkStream):
                await stream.aclose()


async def _run(connect: Connect, address: str) -> httpcore.AsyncNetworkStream:
    return await connect(address)


@functools.cache
def _default_context(http2: bool, cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """Reading the certificates takes tens of milliseconds, so all clients share them.

    Not with those that speak HTTP/2, as httpcore writes the protocols into the context. The other
    arguments are where the environment says the certificates are.
    """
    del http2, cert_file, cert_dir
    return httpx.create_ssl_context()


def _no_cookies() -> http.cookiejar.CookieJar:
    """A jar that takes and gives nothing, so that one run's session is not another's."""
    return http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
