"""How much a caller may ask for, and how many requests are at work at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agentkit.server.auth import Caller
from agentkit.server.errors import ApiError
from agentkit.server.options import ServerOptions

__all__ = ["Gate", "RateLimits"]

_MOST_BUCKETS = 10_000


class _Bucket:
    """So much a minute, of which a minute's worth may be saved up."""

    def __init__(self, per_minute: float, now: float) -> None:
        self.rate = per_minute / 60
        self.size = max(1.0, per_minute)
        self._level = self.size
        self._at = now

    def level(self, now: float) -> float:
        self._level = min(self.size, self._level + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        return self._level

    def take(self, amount: float, now: float) -> None:
        self._level = self.level(now) - amount

    def seconds_until(self, level: float, now: float) -> float:
        return max(0.0, (level - self.level(now)) / self.rate)


class RateLimits:
    """Requests and tokens a minute, for each caller.

    Args:
        options: The server's.
        clock: Seconds, from anywhere.
    """

    def __init__(
        self, options: ServerOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def admit(self, caller: Caller) -> None:
        """Count a request.

        Raises:
            ApiError: 429: it is one too many, or the caller's tokens are used up.
        """
        now = self._clock()
        requests, tokens = self._bucket(caller, "requests"), self._bucket(caller, "tokens")
        if tokens is not None and tokens.level(now) <= 0:
            self._refuse(caller, "tokens", tokens, tokens.seconds_until(1.0, now))
        if requests is not None:
            if requests.level(now) < 1:
                self._refuse(caller, "requests", requests, requests.seconds_until(1.0, now))
            requests.take(1, now)

    def spend(self, caller: Caller, tokens: int) -> None:
        """Count tokens, once it is known how many there were."""
        bucket = self._bucket(caller, "tokens")
        if bucket is not None:
            bucket.take(tokens, self._clock())

    def _bucket(self, caller: Caller, what: str) -> _Bucket | None:
        name = f"{what}_per_minute"
        own = getattr(caller.key, name, None)
        rate = own if own is not None else getattr(self._options, name)
        if rate is None:
            return None
        found = self._buckets.get((what, caller.name))
        if found is None:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._forget_full()
            found = self._buckets[what, caller.name] = _Bucket(rate, self._clock())
        return found

    def _forget_full(self) -> None:
        # A full bucket is as good as none.
        now = self._clock()
        kept = {k: b for k, b in self._buckets.items() if b.level(now) < b.size}
        if len(kept) >= _MOST_BUCKETS:
            raise ApiError(
                429, "too many callers at once", code="rate_limit_exceeded", retry_after=60
            )
        self._buckets = kept

    def _refuse(self, caller: Caller, what: str, bucket: _Bucket, wait: float) -> None:
        raise ApiError(
            429,
            f"{caller.name!r} may use {bucket.rate * 60:g} {what} a minute; try again in "
            f"{wait:.0f} s",
            code="rate_limit_exceeded",
            retry_after=wait + 0.5,
        )


class Gate:
    """Lets so many requests work at once; so many more wait, first come, first served.

    Args:
        options: The server's.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_seconds = 1.0
        self.running = 0
        """Requests at work."""
        self.draining = False
        """No new request is let in."""

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return sum(not future.done() for future in self._waiting)

    def check(self) -> None:
        """Refuse a request for which there is neither a place nor room to wait.

        Raises:
            ApiError: 429, or 503 if the server is about to end.
        """
        if self.draining:
            raise ApiError(503, "the server is about to end", code="shutting_down", retry_after=5)
        full = self.running >= self._options.max_running or self.queued > 0
        if full and self.queued >= self._options.max_queued:
            raise self._busy("too many requests wait already")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among the requests at work, as soon as there is one.

        Raises:
            ApiError: 429: too many wait, or this one has waited too long; 503: the server is
                about to end.
        """
        await self._enter()
        begin = time.monotonic()
        try:
            yield
        finally:
            self._mean_seconds += (time.monotonic() - begin - self._mean_seconds) / 16
            self._leave()

    async def _enter(self) -> None:
        self.check()
        if self.running < self._options.max_running and not self.queued:
            self.running += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._options.queue_timeout):
                await place
        except TimeoutError:
            self._give_back(place)
            raise self._busy("no place became free in time") from None
        except BaseException:
            self._give_back(place)
            raise

    def _give_back(self, place: asyncio.Future[None]) -> None:
        """Stop waiting; a place that was given in this very moment goes to the next."""
        if place.done() and not place.cancelled():
            self._leave()
        elif place in self._waiting:
            self._waiting.remove(place)

    def _leave(self) -> None:
        self.running -= 1
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                self.running += 1
                place.set_result(None)
                return

    def _busy(self, why: str) -> ApiError:
        wait = self._mean_seconds * (self.queued + 1) / self._options.max_running
        return ApiError(
            429, f"the server is busy: {why}", code="server_busy", retry_after=min(60.0, wait)
        )
