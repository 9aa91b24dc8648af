"""The calls of one turn: allowed or not, run side by side, and accounted for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentkit.approvals import Approval, ApprovalPolicy
from agentkit.audit import AuditRecord, AuditSink, write_audit
from agentkit.errors import ToolError, ToolTimeoutError
from agentkit.events import ApprovalRequested, Event, ToolCallStarted, ToolResult
from agentkit.messages import ToolCall, ToolMessage
from agentkit.redaction import Redactor
from agentkit.result import CallRecord
from agentkit.tool_execution import ReadyCall, ToolExecutor
from agentkit.tools import ToolContext

if TYPE_CHECKING:
    from agentkit.journal import RunJournal
    from agentkit.tracing.spans import RunSpan

__all__ = ["UNDECIDED", "CallServices", "TurnCalls", "tool_messages"]

_PENDING = "Error: this call waits for approval and has not run."
_CANCELLED = "Error: the run ended before this call did."
UNDECIDED = Approval(decision="ask", by="")
"""Nobody has been asked yet."""


def tool_messages(records: Iterable[CallRecord]) -> list[ToolMessage]:
    """What the model is told of its calls."""
    return [ToolMessage(r.observation, r.call.id, r.call.name) for r in records]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallServices:
    """What the calls of a run share."""

    executor: ToolExecutor
    """Checks and runs calls."""
    policy: ApprovalPolicy
    """Says which may run."""
    redact: Redactor
    """Keeps secrets out of records and events."""
    audit: AuditSink | None
    """Is told of every call."""
    run_id: str
    """Of the run, for the audit."""
    agent: str
    """Name of the agent, for the audit."""
    emit: Callable[[Event], None]
    """Is told what happens."""
    trace: RunSpan | None = None
    """Opens spans, if the run is traced."""
    journal: RunJournal | None = None
    """Writes down what happens, if the run is kept."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while somebody is asked: one question at a time, in the order of the calls."""

    async def audit_call(
        self, record: CallRecord, *, step: int, approval: Approval | None, outcome: str = ""
    ) -> None:
        """Write a call to the audit log.

        Args:
            record: The call, secrets blotted out.
            step: Index of the step.
            approval: What was decided on it, if anything was.
            outcome: In place of the record's status.

        Raises:
            AuditError: That failed, and the log says to raise.
        """
        if self.audit is None:
            return
        asked = approval is not None and approval is not UNDECIDED
        entry = AuditRecord(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            run_id=self.run_id,
            agent=self.agent,
            step=step,
            call_id=record.call.id,
            tool=record.call.name,
            arguments=record.call.arguments,
            decision=approval.decision if approval is not None and asked else "",
            decided_by=approval.by if approval is not None and asked else "",
            outcome=outcome or record.status,
            error=record.error,
            seconds=record.seconds,
            repairs=record.repairs,
            sources=tuple(
                str(hit.document.source or hit.document.doc_id) for hit in record.sources
            ),
        )
        await _to_its_end(write_audit(self.audit, entry))


class _Entry:
    """One call on its way."""

    def __init__(self, ready: ReadyCall, context: ToolContext, approval: Approval | None) -> None:
        self.ready = ready
        self.context = context
        self.approval = approval or UNDECIDED
        self.record: CallRecord | None = None
        self.begin: float | None = None
        self.end: float | None = None


class TurnCalls:
    """The calls of one turn, in order.

    A call that is allowed without asking begins as soon as it is added, while the model goes on
    with its turn. One that somebody has to be asked about waits until the turn is written: a
    turn that fails, or is given up, asks nobody and leaves nothing behind.

    Args:
        services: What the calls of the run share.
        group: Where the tools' tasks live; it must be waited for before records are read.
        step: Index of the step.
        overlap: Whether tools may begin before the turn is written.
    """

    def __init__(
        self, services: CallServices, group: asyncio.TaskGroup, *, step: int, overlap: bool
    ) -> None:
        self._services = services
        self._group = group
        self._step = step
        self._overlap = overlap
        self._written = asyncio.Event()
        self._entries: list[_Entry | CallRecord] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, checked: ReadyCall | CallRecord, approval: Approval | None = None) -> None:
        """Take the next call.

        Args:
            checked: As the executor found it.
            approval: What has been decided on it already.
        """
        if isinstance(checked, CallRecord):
            record = self._services.redact(checked)
            self._entries.append(record)
            self._group.create_task(self._report(record, None))
            return
        entry = _Entry(checked, self._services.executor.context(checked.call, self._step), approval)
        self._entries.append(entry)
        self._group.create_task(self._carry_out(entry))

    def turn_is_written(self) -> None:
        """The model is done: what waited for that may go on."""
        self._written.set()

    def records(self) -> list[CallRecord]:
        """What came of the calls, in their order; those not over count as cancelled."""
        return [
            e if isinstance(e, CallRecord) else e.record or self._cut_off(e) for e in self._entries
        ]

    def busy_until(self, moment: float) -> float:
        """Seconds before ``moment`` (by ``perf_counter``) in which at least one tool ran."""
        spans = sorted(
            (e.begin, min(moment, e.end if e.end is not None else moment))
            for e in self._entries
            if isinstance(e, _Entry) and e.begin is not None and e.begin < moment
        )
        total, last = 0.0, float("-inf")
        for begin, end in spans:
            total += max(0.0, end - max(begin, last))
            last = max(last, end)
        return total

    async def _carry_out(self, entry: _Entry) -> None:
        try:
            record = await self._result(entry)
        except asyncio.CancelledError:
            entry.record = self._cut_off(entry)
            await self._services.audit_call(entry.record, step=self._step, approval=entry.approval)
            raise
        except ToolError as error:
            # The agent raises the errors of tools; the record is for the audit log.
            failed = CallRecord(
                call=entry.ready.call,
                status="timeout" if isinstance(error, ToolTimeoutError) else "failed",
                observation=f"Error: {error}",
                error=type(error.__cause__ or error).__name__,
            )
            entry.record = self._services.redact(failed)
            await self._services.audit_call(entry.record, step=self._step, approval=entry.approval)
            if self._services.journal is not None:
                await self._services.journal.call_finished(self._step, entry.record)
            raise
        entry.record = self._services.redact(record)
        await self._report(entry.record, entry.approval)

    async def _result(self, entry: _Entry) -> CallRecord:
        services, ready, edited = self._services, entry.ready, entry.approval.arguments
        if entry.approval is UNDECIDED:
            at_once = services.policy.at_once(ready.tool)
            if at_once is None or not self._overlap:
                await self._written.wait()
            entry.approval = at_once or await self._ask(entry)
            edited = entry.approval.arguments
            if edited is not None and entry.approval.decision == "allow":
                changed = services.executor.with_arguments(ready.call, edited)
                ready = entry.ready = replace(changed, repairs=ready.repairs)
        if entry.approval.decision == "ask":
            return _without_running(ready, "pending", _PENDING)
        if entry.approval.decision == "deny":
            why = f": {entry.approval.reason}" if entry.approval.reason else ""
            text = f"Error: this call was not allowed{why}. Go on without it."
            return _without_running(ready, "denied", text)
        if services.journal is not None:
            await services.journal.call_started(self._step, services.redact(ready.call))
        services.emit(ToolCallStarted(services.redact(ready.call)))
        entry.begin = time.perf_counter()
        try:
            record = await self._call(ready, entry.context)
        finally:
            entry.end = time.perf_counter()
        if edited is not None:
            given = json.dumps(ready.call.arguments, ensure_ascii=False, default=str)
            note = f"(The user changed the arguments to {given}.)\n"
            record = replace(record, observation=note + record.observation)
        return record

    async def _call(self, ready: ReadyCall, context: ToolContext) -> CallRecord:
        services = self._services
        if services.trace is None:
            return await services.executor.call(ready, context)
        with services.trace.tool_call(ready, self._step) as over:
            record = await services.executor.call(ready, context)
            over(record)
        return record

    async def _ask(self, entry: _Entry) -> Approval:
        services, ready = self._services, entry.ready
        async with services.asking:
            return await services.policy.decide(
                ready.tool,
                ready.call,
                entry.context,
                asked=lambda: services.emit(ApprovalRequested(services.redact(ready.call))),
            )

    async def _report(self, record: CallRecord, approval: Approval | None) -> None:
        await self._services.audit_call(record, step=self._step, approval=approval)
        # A call that waits has not come to an end.
        if self._services.journal is not None and record.status != "pending":
            await self._services.journal.call_finished(self._step, record)
        self._services.emit(ToolResult(record))

    def _cut_off(self, entry: _Entry) -> CallRecord:
        if entry.record is not None:
            return entry.record
        begun = entry.begin is not None
        end = entry.end if entry.end is not None else time.perf_counter()
        record = CallRecord(
            call=entry.ready.call,
            status="cancelled",
            observation=_CANCELLED,
            seconds=end - entry.begin if entry.begin is not None else 0.0,
            repairs=entry.ready.repairs,
            error="Cancelled" if begun else "NotStarted",
        )
        return self._services.redact(record)


def _without_running(ready: ReadyCall, status: Any, observation: str) -> CallRecord:
    call: ToolCall = ready.call
    return CallRecord(
        call=call,
        status=status,
        observation=observation,
        repairs=ready.repairs,
        error="Denied" if status == "denied" else "",
    )


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await something that is finished also where the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
