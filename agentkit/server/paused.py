"""Agent runs that wait for approval."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agentkit.result import RunResult

__all__ = ["PausedRun", "PausedRuns", "RunsInMemory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedRun:
    """A run that waits."""

    agent: str
    """The agent's name."""
    caller: str
    """Who began it; nobody else may see it or go on with it."""
    result: RunResult
    """The run so far."""


class PausedRuns(Protocol):
    """Where runs are kept while they wait. ``create_app(paused=...)`` takes any."""

    async def put(self, run: PausedRun) -> None:
        """Keep a run, under ``run.result.run_id``."""
        ...

    async def get(self, run_id: str) -> PausedRun | None:
        """A run, which goes on waiting; None if it is not there."""
        ...

    async def take(self, run_id: str) -> PausedRun | None:
        """A run, which is then no longer there: of two who would go on with it, one gets it."""
        ...


class RunsInMemory:
    """Keeps runs as long as the process lives.

    Args:
        most: Runs; the oldest go first.
        seconds: For which they are kept.
        clock: Seconds, from anywhere.
    """

    def __init__(
        self, most: int, seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._runs: OrderedDict[str, tuple[float, PausedRun]] = OrderedDict()

    async def put(self, run: PausedRun) -> None:
        """See :class:`PausedRuns`."""
        self._runs[run.result.run_id] = (self._clock(), run)
        self._runs.move_to_end(run.result.run_id)
        self._forget()

    async def get(self, run_id: str) -> PausedRun | None:
        """See :class:`PausedRuns`."""
        self._forget()
        found = self._runs.get(run_id)
        return None if found is None else found[1]

    async def take(self, run_id: str) -> PausedRun | None:
        """See :class:`PausedRuns`."""
        self._forget()
        found = self._runs.pop(run_id, None)
        return None if found is None else found[1]

    def _forget(self) -> None:
        before = self._clock() - self._seconds
        while self._runs:
            run_id, (since, _) = next(iter(self._runs.items()))
            if len(self._runs) <= self._most and since >= before:
                return
            del self._runs[run_id]
