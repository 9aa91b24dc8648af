"""What an agent reports while it runs. :meth:`agentkit.Agent.stream` yields these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agentkit.grounding import GroundedAnswer
from agentkit.messages import Message, ToolCall
from agentkit.models.base import CallDelta, TextDelta
from agentkit.result import CallRecord, RetrievalRecord, RunResult, StepRecord

__all__ = [
    "AnswerChecked",
    "ApprovalRequested",
    "CallDelta",
    "Event",
    "Retrieval",
    "Retry",
    "Rewind",
    "RunFinished",
    "StepFinished",
    "TextDelta",
    "ToolCallStarted",
    "ToolResult",
    "ToolsSelected",
]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Documents were searched for and put before the model."""

    record: RetrievalRecord
    """The query and what it found."""


@dataclass(frozen=True, slots=True)
class ToolsSelected:
    """A tool selector has picked the tools that this run's prompts show."""

    names: tuple[str, ...]
    """The tools, in the agent's order."""


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """A call waits until somebody allows it."""

    call: ToolCall
    """The call, as it would run."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """The model wrote a call that cannot be run, and is made to write another in its place.

    Whoever shows :class:`CallDelta` as they come should forget those of this call.
    """

    index: int
    """Index of the call within its turn."""
    reason: str
    """What was wrong with it."""
    attempt: int
    """How many calls of this turn were taken back, this one included."""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The model called a tool, the call is valid and allowed: the tool begins.

    The model may still be writing: the turn's next call, for instance.
    """

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
class AnswerChecked:
    """The answer was checked against the documents.

    Whoever shows :class:`TextDelta` as they come should now show :attr:`GroundedAnswer.text`
    instead: where the documents do not support the answer, it is a refusal.
    """

    grounding: GroundedAnswer
    """The answer with its citations."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over; always the last event."""

    result: RunResult
    """Everything about it."""


Event: TypeAlias = (
    TextDelta
    | CallDelta
    | Retrieval
    | ToolsSelected
    | ApprovalRequested
    | Rewind
    | ToolCallStarted
    | ToolResult
    | Retry
    | StepFinished
    | AnswerChecked
    | RunFinished
)
"""Anything that an agent reports."""
