"""What an agent reports while it runs. :meth:`agentkit.Agent.stream` yields these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agentkit.messages import Message, ToolCall
from agentkit.models.base import CallDelta, TextDelta
from agentkit.result import CallRecord, RetrievalRecord, RunResult, StepRecord

__all__ = [
    "CallDelta",
    "Event",
    "Retrieval",
    "Retry",
    "RunFinished",
    "StepFinished",
    "TextDelta",
    "ToolCallStarted",
    "ToolResult",
]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Documents were searched for and put before the model."""

    record: RetrievalRecord
    """The query and what it found."""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The model called a tool, and the call is valid: the tool begins."""

    call: ToolCall
    """The call."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A call is over, well or not. Results come as they arrive."""

    record: CallRecord
    """The call and what came of it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Something failed; the model has been told and will try again."""

    reason: str
    """What the model was told."""
    attempt: int
    """How many consecutive steps have failed, this one included."""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A turn of the model and its tools are over."""

    step: StepRecord
    """Its account."""
    messages: tuple[Message, ...] = ()
    """The messages that it added to the conversation."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over; always the last event."""

    result: RunResult
    """Everything about it."""


Event: TypeAlias = (
    TextDelta
    | CallDelta
    | Retrieval
    | ToolCallStarted
    | ToolResult
    | Retry
    | StepFinished
    | RunFinished
)
"""Anything that an agent reports."""
