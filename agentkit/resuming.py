"""Going on with a run that waited for approval."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from agentkit.approvals import Approval, ApprovalAnswer, as_approval
from agentkit.errors import UserError
from agentkit.messages import Message, ToolMessage
from agentkit.result import RunResult, StepRecord
from agentkit.step import first_error
from agentkit.turn_calls import UNDECIDED, CallServices, TurnCalls

__all__ = ["Answers", "PendingCalls", "read_answers"]

Answers: TypeAlias = Mapping[str, ApprovalAnswer] | Approval | bool | str | tuple[str, str]
"""Answers by the ids of calls, or one for all calls that wait."""


def read_answers(paused: RunResult, approve: Answers) -> dict[str, Approval]:
    """Answers for the calls of a run that waits.

    Args:
        paused: The run.
        approve: Answers by the ids of calls, or one for all of them.

    Raises:
        UserError: The run waits for nothing, or an answer is none or for no call that waits.
    """
    waiting = {call.id: call.name for call in paused.pending}
    if not waiting:
        raise UserError(
            f"this run waits for no approval (its stop_reason is {paused.stop_reason!r}); to go "
            "on with the conversation, pass it as history"
        )
    if isinstance(approve, bool | str | tuple | Approval):
        approve = dict.fromkeys(waiting, approve)
    if not isinstance(approve, Mapping):
        raise UserError(f"approve is {approve!r:.100}; it must map ids of calls to answers")
    if unknown := [call_id for call_id in approve if call_id not in waiting]:
        listed = ", ".join(f"{call_id} ({name})" for call_id, name in waiting.items())
        raise UserError(f"no call {unknown[0]!r} waits for approval; these do: {listed}")
    return {call_id: as_approval(answer, source="resume") for call_id, answer in approve.items()}


class PendingCalls:
    """The calls of a step that waited, and what becomes of them. The others are not touched.

    Args:
        step: The step.
        answers: By the ids of calls; those without one wait on, :data:`UNDECIDED` ones are decided
            on by the agent's rules.
        services: Of the run.
        index: Of the step.
    """

    def __init__(
        self,
        step: StepRecord,
        answers: Mapping[str, Approval],
        services: CallServices,
        index: int,
    ) -> None:
        self._step = step
        self._answers = answers
        self._services = services
        self._index = index
        self._calls: TurnCalls | None = None
        self._begin = time.perf_counter()

    async def settle(self) -> None:
        """Run what was allowed and refuse the rest.

        Raises:
            UserError: A call was allowed that its tool cannot take; nothing has run then.
            ToolError: A tool failed and the agent raises that.
        """
        # All are looked at before any begins.
        ready = []
        for record in self._step.calls:
            answer = self._answers.get(record.call.id)
            if record.status != "pending" or answer is None:
                continue
            if answer.decision != "ask" or answer is UNDECIDED:
                call = self._services.executor.with_arguments(record.call, answer.arguments)
                ready.append((replace(call, repairs=record.repairs), answer))
        try:
            async with asyncio.TaskGroup() as group:
                self._calls = TurnCalls(self._services, group, step=self._index, overlap=True)
                for call, answer in ready:
                    self._calls.add(call, None if answer is UNDECIDED else answer)
                self._calls.turn_is_written()
        except BaseExceptionGroup as group_error:
            error = first_error(group_error)
            raise error from error.__cause__

    def step(self) -> StepRecord:
        """The step as it is now."""
        done = {r.call.id: r for r in self._calls.records()} if self._calls is not None else {}
        return replace(
            self._step,
            calls=tuple(done.get(record.call.id, record) for record in self._step.calls),
            tool_seconds=self._step.tool_seconds + time.perf_counter() - self._begin,
        )

    def told(self, message: Message) -> Message:
        """A message of the conversation, with what there is to say by now."""
        if isinstance(message, ToolMessage) and self._calls is not None:
            for record in self._calls.records():
                if record.call.id == message.tool_call_id:
                    return ToolMessage(record.observation, record.call.id, record.call.name)
        return message
