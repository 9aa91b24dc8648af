"""An event loop in a thread of its own, in which the sessions with MCP servers live.

A program may run agents in one event loop after the other (``run_sync`` opens a new one each
time), but a session, and the server process behind it, should outlive them all. It also must be
closed by the task that opened it, which in a program's own loop nobody could promise.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["at_exit", "background_loop", "post", "run", "run_blocking"]

T = TypeVar("T")

_EXIT_WAIT_S = 8.0
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_closers: set[Callable[[], Coroutine[Any, Any, None]]] = set()


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop, started on first use."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="agentkit-mcp", daemon=True).start()
            atexit.register(_close_all)
        return _loop


async def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background and wait for it, from any event loop.

    Cancelling the waiting task cancels the coroutine.
    """
    loop = background_loop()
    if asyncio.get_running_loop() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """As :func:`run`, for code without an event loop; blocks the thread."""
    future: Future[T] = asyncio.run_coroutine_threadsafe(work, background_loop())
    try:
        return future.result()
    except BaseException:  # KeyboardInterrupt, too, must not leave the work behind
        future.cancel()
        raise


def post(work: Callable[[], object]) -> None:
    """Have the background loop call something soon, from any thread."""
    with contextlib.suppress(RuntimeError):  # the loop is gone, and with it all sessions
        background_loop().call_soon_threadsafe(work)


def at_exit(close: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Have something closed when the program ends.

    Returns:
        Takes that back.
    """
    _closers.add(close)
    return lambda: _closers.discard(close)


def _close_all() -> None:
    async def close() -> None:
        work: list[Awaitable[None]] = [closer() for closer in list(_closers)]
        await asyncio.gather(*work, return_exceptions=True)

    if _closers and _loop is not None:
        # Whoever does not end by then is left to the closing of its pipes.
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(close(), _loop).result(_EXIT_WAIT_S)
