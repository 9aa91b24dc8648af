"""One measured figure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Figure", "median_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measurement beside its baseline and its target."""

    what: str
    """What was measured."""
    ours: float
    """Our figure, in :attr:`unit`."""
    unit: str
    """Unit of both figures."""
    baseline: float | None = None
    """The plain way's figure in the same run; ``None`` where the target is absolute."""
    at_least: float | None = None
    """Target for baseline / ours."""
    at_most: float | None = None
    """Target for our own figure."""

    @property
    def ratio(self) -> float | None:
        """How many times less than the baseline."""
        return None if self.baseline is None else self.baseline / self.ours

    @property
    def met(self) -> bool | None:
        """Whether the target is met; ``None`` if there is none."""
        if self.at_least is not None and self.ratio is not None:
            return self.ratio >= self.at_least
        return None if self.at_most is None else self.ours <= self.at_most

    def cells(self) -> list[str]:
        """The figure as cells of a table."""
        target = ""
        if self.at_least is not None:
            target = f">= {self.at_least:g}x"
        elif self.at_most is not None:
            target = f"<= {self.at_most:g} {self.unit}"
        return [
            self.what,
            f"{self.ours:.3g} {self.unit}",
            "" if self.baseline is None else f"{self.baseline:.3g} {self.unit}",
            "" if self.ratio is None else f"{self.ratio:.2f}x",
            target,
            {True: "met", False: "MISSED", None: ""}[self.met],
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "what": self.what,
            "ours": self.ours,
            "baseline": self.baseline,
            "unit": self.unit,
            "ratio": self.ratio,
            "met": self.met,
        }


def median_seconds(work: Callable[[], object], *, repeat: int) -> float:
    """Median wall time of ``work`` over ``repeat`` calls, after one that is not counted."""
    work()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
