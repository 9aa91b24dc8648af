"""Clients that live as long as the event loop they are used in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import httpx

__all__ = ["ClientPool"]


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
