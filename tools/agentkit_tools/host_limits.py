"""How hard tools may press a host."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from weakref import WeakKeyDictionary

from agentkit.errors import UserError

__all__ = ["HostLimits"]


class HostLimits:
    """How many requests may be under way to one host, and how many may begin in a time.

    Calls over the limits wait, as long as their tool's timeout allows. Tools that are given the
    same object share its limits; each host has its own. Where a service answers 429 or 503 with
    ``Retry-After``, all calls of that host wait.

    Args:
        concurrency: Requests under way at once (in each event loop); ``None`` for any number.
        requests: That may begin within ``per`` seconds; ``None`` for any number.
        per: See ``requests``.
        burst: Requests that may begin at once after a pause.

    Raises:
        UserError: A limit is not positive.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        requests: float | None = None,
        per: float = 1.0,
        burst: int = 1,
    ) -> None:
        for name, value in (
            ("concurrency", concurrency),
            ("requests", requests),
            ("per", per),
            ("burst", burst),
        ):
            if value is not None and not value > 0:
                raise UserError(f"HostLimits: {name} must be more than 0, not {value!r}")
        self._concurrency = concurrency
        self._interval = 0.0 if requests is None else per / requests
        self._burst = burst
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = (
            WeakKeyDictionary()
        )
        # When a host that is asked evenly would be asked next, and until when it asked to wait.
        self._due: dict[str, float] = {}
        self._paused: dict[str, float] = {}
        self._lock = threading.Lock()

    @asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        """Wait until a request may begin, and hold its place until it is over.

        Args:
            host: With its port, if that is part of what is limited.
        """
        async with self._semaphore(host):
            await asyncio.sleep(self._reserve(host))
            # The host may have asked to wait after this place was reserved.
            await asyncio.sleep(self._paused.get(host, 0.0) - time.monotonic())
            yield

    def pause(self, host: str, seconds: float) -> None:
        """Begin no request to a host for some time."""
        with self._lock:
            until = time.monotonic() + seconds
            self._paused[host] = max(self._paused.get(host, until), until)

    def _semaphore(self, host: str) -> asyncio.Semaphore | nullcontext[None]:
        if self._concurrency is None:
            return nullcontext()
        slots = self._slots.setdefault(asyncio.get_running_loop(), {})
        return slots.setdefault(host, asyncio.Semaphore(self._concurrency))

    def _reserve(self, host: str) -> float:
        """Count a request; returns the seconds after which it may begin."""
        with self._lock:
            earliest = max(time.monotonic(), self._paused.get(host, 0.0))
            due = max(self._due.get(host, earliest), earliest)
            self._due[host] = due + self._interval
            start = max(due - (self._burst - 1) * self._interval, earliest)
            return start - time.monotonic()
