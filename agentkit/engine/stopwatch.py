"""Where time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up seconds by activity; each second counts for the innermost activity only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """By activity, so far."""
        self._current: str | None = None
        self._since = 0.0

    @contextmanager
    def __call__(self, activity: str) -> Iterator[None]:
        """Time what the ``with`` statement holds."""
        outer = self._current
        self._switch(activity)
        try:
            yield
        finally:
            self._switch(outer)

    def add(self, activity: str, seconds: float) -> None:
        """Add time that was measured elsewhere."""
        self.seconds[activity] = self.seconds.get(activity, 0.0) + seconds

    def _switch(self, activity: str | None) -> None:
        now = time.perf_counter()
        if self._current is not None:
            self.add(self._current, now - self._since)
        self._current, self._since = activity, now
