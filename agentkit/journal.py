"""Being told of a run as it happens, where the run waits until it has been written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agentkit.messages import AssistantMessage, Message, ToolCall
    from agentkit.result import CallRecord, RunResult, StepRecord

__all__ = ["RunJournal"]


class RunJournal(Protocol):
    """What keeps a run so that it can go on after the process was killed.

    The run awaits each of these before it goes on; what one raises ends the run. Secrets are
    blotted out in all that is handed over. With what :mod:`agentkit.sessions.recovery` does,
    the last of these calls say how far the run came.
    """

    async def began(self, so_far: RunResult) -> None:
        """Documents were searched for and tools selected; the first step follows."""
        ...

    async def call_started(self, step: int, call: ToolCall) -> None:
        """A call is allowed, and its tool begins once this returns."""
        ...

    async def call_finished(self, step: int, record: CallRecord) -> None:
        """A call is over, well or not, or cannot be run."""
        ...

    async def turn_written(self, step: int, record: StepRecord, turn: AssistantMessage) -> None:
        """The model has written its turn. Calls that are not over count as ``pending``."""
        ...

    async def step_finished(
        self, step: int, record: StepRecord, messages: Sequence[Message]
    ) -> None:
        """A step is over. Of one that had waited, only the tools' messages are given."""
        ...

    async def ended(self, result: RunResult | None, error: BaseException | None) -> None:
        """The run is over, with a result, or an exception and perhaps the run so far."""
        ...
