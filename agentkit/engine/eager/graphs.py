"""Passes that are recorded once and replayed: a GPU is told of all its work in one call.

A decode step of a small model is a few hundred short operations. A GPU does each in a few
microseconds, about as long as Python takes to ask for it; a CUDA graph asks for all at once.

:class:`CudaCapture` is the only part that needs a card, and it **has not been run on one**. Tests
put another function in its place, which checks what a graph relies on.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from agentkit.engine.eager.buckets import Shape
from agentkit.engine.eager.padded import PaddedPass

__all__ = ["Capture", "CudaCapture", "Graphs"]

_log = logging.getLogger(__name__)

_BEFORE = 2
"""Times that a shape is run as it is: recording takes longer than a few passes."""
_MOST = 48
"""Recordings kept; the least recently used go first."""


class Capture(Protocol):
    """Records a function's work on the device."""

    def __call__(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Record a step that can be run any number of times without harm.

        Returns:
            What does the same work on the same tensors, and gives the result at the same place
            each time.
        """
        ...


class CudaCapture:
    """CUDA graphs. All recordings share the memory of what they make in between."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """See :class:`Capture`."""
        # Libraries choose and load their kernels at the first calls, which cannot be recorded.
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = step()
        self._pool = graph.pool()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


@dataclass(slots=True)
class _Entry:
    step: PaddedPass
    uses: int = 0
    replay: Callable[[], torch.Tensor] | None = None


class Graphs:
    """The passes of each shape, recorded once they have been used a few times.

    Args:
        make: Makes the pass of a shape.
        capture: Records it; None to run passes as they are.
    """

    def __init__(self, make: Callable[[Shape], PaddedPass], capture: Capture | None) -> None:
        self._make, self._capture = make, capture
        self._entries: OrderedDict[Shape, _Entry] = OrderedDict()

    @property
    def recorded(self) -> list[Shape]:
        """Shapes that are replayed."""
        return [shape for shape, entry in self._entries.items() if entry.replay is not None]

    def clear(self) -> None:
        """Forget everything: tensors that passes work on have gone."""
        self._entries.clear()

    def step(self, shape: Shape) -> PaddedPass:
        """The pass of a shape, whose inputs are to be set before :meth:`run`."""
        entry = self._entries.get(shape)
        if entry is None:
            entry = self._entries[shape] = _Entry(self._make(shape))
            if len(self._entries) > _MOST:
                self._entries.popitem(last=False)
        self._entries.move_to_end(shape)
        entry.uses += 1
        if entry.replay is None and self._capture is not None and entry.uses > _BEFORE:
            entry.replay = self._record(entry.step, shape)
        return entry.step

    def run(self, shape: Shape) -> torch.Tensor:
        """Do the pass of a shape, recorded or not.

        Returns:
            The logits, (rows, tokens, vocabulary); the next run may overwrite them.
        """
        entry = self._entries[shape]
        return entry.step.run() if entry.replay is None else entry.replay()

    def _record(self, step: PaddedPass, shape: Shape) -> Callable[[], torch.Tensor] | None:
        step.clear()
        assert self._capture is not None
        try:
            return self._capture(step.run)
        except Exception as error:  # whatever a driver may raise: passes work without as well
            _log.warning(
                "CUDA graphs cannot be used, so that decoding is slower: %s of %s", error, shape
            )
            self._capture = None
            return None
