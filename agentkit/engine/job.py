"""A turn asked for: what lies between a caller's event loop and the model's thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from agentkit.models.base import ModelEvent, ModelRequest

__all__ = ["Job", "hand_over"]

Item: TypeAlias = "Sequence[ModelEvent] | BaseException | None"
"""Events; or the end, with what went wrong."""


class Job:
    """One request on its way. Made in the event loop that waits for it.

    Args:
        request: What is asked.
    """

    def __init__(self, request: ModelRequest) -> None:
        self.request = request
        """What is asked."""
        self.asked = time.perf_counter()
        """When it was."""
        self.cancelled = threading.Event()
        """Nobody waits any longer; looked at between forward passes."""
        self.done: Future[None] = Future()
        """The model's thread has nothing more to do with it."""
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Item] = asyncio.Queue()
        self._events: list[ModelEvent] = []  # not handed over yet

    def deliver(self, events: Sequence[ModelEvent]) -> None:
        """Set events aside for :func:`hand_over`; in the model's thread."""
        self._events += events

    def finish(self, error: BaseException | None = None) -> None:
        """Hand over what there is, and that nothing more is to come; in the model's thread."""
        left, self._events = self._events, []
        self._put([*([(self, left)] if left else []), (self, error)])
        self.done.set_result(None)

    async def arrived(self) -> Sequence[ModelEvent] | None:
        """What was delivered next; None once the job is finished.

        Raises:
            BaseException: What it was finished with.
        """
        arrived = await self._arrived.get()
        if isinstance(arrived, BaseException):
            raise arrived
        return arrived

    def _put(self, items: Sequence[tuple[Job, Item]]) -> None:
        """Put items of jobs of this one's loop into their queues."""
        try:
            self._loop.call_soon_threadsafe(_arrive, items)
        except RuntimeError:
            # The loop was closed under the caller. There is nobody to tell.
            for job, _ in items:
                job.cancelled.set()


def hand_over(jobs: Iterable[Job]) -> None:
    """Hand over the events that were delivered to jobs; in the model's thread.

    All at once, as each event loop is then woken once. It takes the interpreter from the model's
    thread, so that the best moment is just before a forward pass, which does without it.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Item]]] = {}
    for job in jobs:
        if job._events:
            by_loop.setdefault(job._loop, []).append((job, job._events))
            job._events = []
    for items in by_loop.values():
        items[0][0]._put(items)


def _arrive(items: Sequence[tuple[Job, Item]]) -> None:
    for job, item in items:
        job._arrived.put_nowait(item)
