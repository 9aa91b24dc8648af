"""From what a stopped run left in the database to a run that can go on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from agentkit.approvals import Approval
from agentkit.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    message_from_dict,
    messages_from_dicts,
)
from agentkit.models.base import Timings, Usage
from agentkit.result import (
    CallRecord,
    RunResult,
    StepRecord,
    call_from_dict,
    step_from_dict,
)
from agentkit.sessions.records import Kept
from agentkit.turn_calls import UNDECIDED, tool_messages

__all__ = ["INTERRUPTED", "Interrupted", "Recovered", "recover"]

Interrupted: TypeAlias = Literal["report", "ask"]
"""What becomes of a call that was at work when its process was stopped: the model is told, or the
call waits for approval. It is never repeated by itself."""

INTERRUPTED = "Interrupted"
"""Stands in :attr:`agentkit.result.CallRecord.error` of such a call."""

_TOLD = (
    "Error: this call was interrupted, and it is not known whether it took effect. Do not repeat "
    "it without finding that out."
)
_ASKED = "Error: this call was interrupted, and waits for approval to be repeated."


@dataclass(slots=True)
class _Partial:
    """A step that was at work."""

    index: int
    started: dict[str, ToolCall] = field(default_factory=dict)
    finished: dict[str, CallRecord] = field(default_factory=dict)
    written: StepRecord | None = None
    turn: AssistantMessage | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A run that can go on."""

    result: RunResult
    """As if it had paused; calls that have not run wait in its last step."""
    answers: dict[str, Approval]
    """What is known about those; others wait on."""
    interrupted: tuple[ToolCall, ...]
    """The calls that were at work when the run was stopped."""


def recover(kept: Kept, mode: Interrupted = "report") -> Recovered:
    """Put together how far a run came.

    Args:
        kept: What the database has.
        mode: What becomes of interrupted calls.
    """
    steps = list(kept.state.steps)
    messages = list(kept.state.messages)
    answers: dict[str, Approval] = {}
    partial: _Partial | None = None
    for kind, index, data in kept.events:
        if kind == "resumed":
            answers = {call_id: _answer(answer) for call_id, answer in data.items()}
            continue
        if kind == "step_finished":
            _finish(steps, messages, index, data)
            partial = None
            continue
        if partial is None or partial.index != index:
            partial = _Partial(index)
        _note(partial, kind, data)
    interrupted: list[ToolCall] = []
    if partial is not None:
        interrupted = _continue(steps, messages, partial, mode)
    return Recovered(
        result=replace(
            kept.state, steps=tuple(steps), messages=tuple(messages), stop_reason="approval"
        ),
        answers=_answers(steps, answers, kept, {call.id for call in interrupted}),
        interrupted=tuple(interrupted),
    )


def _answer(data: Any) -> Approval:
    answer = Approval(**data)
    return UNDECIDED if answer == UNDECIDED else answer


def _note(partial: _Partial, kind: str, data: Any) -> None:
    if kind == "call_started":
        call = ToolCall(name=data["name"], arguments=data["arguments"], id=data["id"])
        partial.started[call.id] = call
    elif kind == "call_finished":
        record = call_from_dict(data)
        partial.finished[record.call.id] = record
    elif kind == "turn_written":
        partial.written = step_from_dict(data["step"])
        turn = message_from_dict(data["turn"])
        assert isinstance(turn, AssistantMessage)
        partial.turn = turn


def _finish(steps: list[StepRecord], messages: list[Message], index: int, data: Any) -> None:
    step = step_from_dict(data["step"])
    new = messages_from_dicts(data["messages"])
    if index < len(steps):  # One that had waited: its tools' messages are known already.
        steps[index] = step
        if new:
            messages[-len(new) :] = new
        return
    steps.append(step)
    messages += new


def _continue(
    steps: list[StepRecord], messages: list[Message], partial: _Partial, mode: Interrupted
) -> list[ToolCall]:
    """Take the step that was at work into the run; the calls that were interrupted."""
    resumed = partial.index < len(steps)
    if resumed:
        base = list(steps[partial.index].calls)
    elif partial.written is not None:
        base = list(partial.written.calls)
    else:  # The turn was not written to its end; its calls are all there is.
        ids = dict.fromkeys([*partial.started, *partial.finished])
        base = [_waiting(partial, call_id) for call_id in ids]
    calls: list[CallRecord] = []
    interrupted = []
    for record in base:
        call_id = record.call.id
        if call_id in partial.finished:
            record = partial.finished[call_id]
        elif call_id in partial.started:
            call = partial.started[call_id]
            interrupted.append(call)
            record = CallRecord(
                call=call,
                status="cancelled" if mode == "report" else "pending",
                observation=_TOLD if mode == "report" else _ASKED,
                repairs=record.repairs,
                error=INTERRUPTED,
            )
        calls.append(record)
    told = tool_messages(calls)
    if resumed:
        steps[partial.index] = replace(steps[partial.index], calls=tuple(calls))
        if told:
            messages[-len(told) :] = told
        return interrupted
    turn = partial.turn or AssistantMessage("", tuple(record.call for record in calls))
    step = partial.written or StepRecord(
        text="", finish_reason="tool_calls", usage=Usage(), timings=Timings()
    )
    steps.append(replace(step, calls=tuple(calls)))
    messages += [turn, *told]
    return interrupted


def _waiting(partial: _Partial, call_id: str) -> CallRecord:
    call = partial.started.get(call_id) or partial.finished[call_id].call
    return CallRecord(call=call, status="pending", observation="")


def _answers(
    steps: list[StepRecord], given: dict[str, Approval], kept: Kept, interrupted: set[str]
) -> dict[str, Approval]:
    """Answers for the calls that have not run: those given before, or the agent's rules."""
    waited = {call.id for call in kept.state.pending}
    answers = {}
    for record in steps[-1].calls if steps else ():
        call_id = record.call.id
        if record.status != "pending" or call_id in interrupted:
            continue  # An answer from before the interruption does not hold any more.
        if call_id in given:
            answers[call_id] = given[call_id]
        elif call_id not in waited:
            answers[call_id] = UNDECIDED
    return answers
