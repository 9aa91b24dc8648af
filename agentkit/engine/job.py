"""A turn asked for: what lies between a caller's event loop and the model's thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from agentkit.models.base import ModelEvent, ModelRequest

__all__ = ["Job"]


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
        self._arrived: asyncio.Queue[Sequence[ModelEvent] | BaseException | None] = asyncio.Queue()

    def deliver(self, events: Sequence[ModelEvent]) -> None:
        """Hand events over; in the model's thread."""
        if events:
            self._put(events)

    def finish(self, error: BaseException | None = None) -> None:
        """There is nothing more to come; in the model's thread."""
        self._put(error)
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

    def _put(self, item: Sequence[ModelEvent] | BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)
        except RuntimeError:
            # The loop was closed under the caller. There is nobody to tell.
            self.cancelled.set()
