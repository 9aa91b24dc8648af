"""Running asynchronous code from synchronous callers, also where an event loop is running."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from functools import lru_cache
from typing import Any, TypeVar

__all__ = ["iterate", "run"]

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the background event loop.

    An exception in the waiting thread, such as ``KeyboardInterrupt``, cancels the coroutine.
    """
    return _submit(work, contextvars.copy_context())


def iterate(start: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    """Read an asynchronous generator on the background event loop.

    Closing the iterator closes the generator before it returns.

    Args:
        start: Makes the generator.
    """
    # One context for all steps, so that what the generator sets it also finds again.
    context = contextvars.copy_context()
    generator = start()
    try:
        while True:
            try:
                yield _submit(_next(generator), context)
            except StopAsyncIteration:
                return
    finally:
        _submit(generator.aclose(), context)


async def _next(generator: AsyncGenerator[T, None]) -> T:
    return await anext(generator)


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="agentkit-langchain", daemon=True).start()
    return loop


def _submit(work: Coroutine[Any, Any, T], context: contextvars.Context) -> T:
    loop = _loop()
    done: Future[T] = Future()
    tasks: list[asyncio.Task[T]] = []

    def finish(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            done.cancel()
        elif error := task.exception():
            done.set_exception(error)
        else:
            done.set_result(task.result())

    def begin() -> None:
        task = loop.create_task(work, context=context)
        tasks.append(task)
        task.add_done_callback(finish)

    loop.call_soon_threadsafe(begin)
    try:
        return done.result()
    except BaseException:
        # Nothing may go on behind the caller's back.
        if not done.done():
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            wait([done])
        raise
