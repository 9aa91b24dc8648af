"""One step of a run: a turn of the model, with its tools running beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agentkit.errors import ModelError
from agentkit.events import Event, Rewind
from agentkit.messages import AssistantMessage, Generation, Message
from agentkit.models.base import (
    CallDelta,
    CallParsed,
    Model,
    ModelRequest,
    ModelResponse,
    TextDelta,
    Timings,
    Usage,
)
from agentkit.parsing import ParsedCall
from agentkit.result import CallRecord, RewindRecord, StepRecord
from agentkit.rewind import resampled
from agentkit.tool_execution import ReadyCall
from agentkit.turn_calls import CallServices, TurnCalls, tool_messages

__all__ = ["Step", "first_error"]


@dataclass(slots=True)
class _Written:
    """What the model has written of the turn so far."""

    calls: list[ParsedCall] = field(default_factory=list)
    before: list[Generation | None] = field(default_factory=list)
    text: str = ""
    usage: Usage = field(default_factory=Usage)  # of attempts that were given up
    timings: Timings = field(default_factory=Timings)
    last: CallParsed | None = None  # of the attempt at work


class Step:
    """One step; :meth:`execute` is called once.

    Args:
        model: What writes the turn.
        request: For the turn.
        services: For its calls.
        index: Of the step within the run.
        rewind: How many bad calls may be taken back.
        overlap: Whether tools begin while the turn is being written.
    """

    def __init__(
        self,
        model: Model,
        request: ModelRequest,
        services: CallServices,
        *,
        index: int,
        rewind: int,
        overlap: bool,
    ) -> None:
        self._model = model
        self._request = request
        self._services = services
        self._index = index
        self._may_rewind = rewind
        self._overlap = overlap
        self._written = _Written()
        self._rewinds: list[RewindRecord] = []
        self._calls: TurnCalls | None = None
        self._response: ModelResponse | None = None
        self._begin = time.perf_counter()
        self._model_end: float | None = None

    @property
    def partial_text(self) -> str:
        """The text of the turn as far as it is written."""
        return self._written.text

    @property
    def usage(self) -> Usage:
        """Tokens that the step took."""
        now = self._response or self._written.last
        return self._written.usage + (Usage() if now is None else now.usage)

    async def execute(self) -> StepRecord:
        """Have the turn written and its calls carried out.

        Raises:
            ModelError: The model failed; tools that had begun are cancelled.
            ToolError: A tool failed and the agent raises that.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._calls = TurnCalls(
                    self._services, group, step=self._index, overlap=self._overlap
                )
                self._response = await self._write()
                self._model_end = time.perf_counter()
                await self._write_down()
                self._calls.turn_is_written()
        except BaseExceptionGroup as group_error:
            error = first_error(group_error)
            raise error from error.__cause__
        return self.record()

    def record(self) -> StepRecord:
        """The account of the step; of one that was cut off, as far as it came."""
        end = time.perf_counter()
        model_end = self._model_end or end
        response, written = self._response, self._written
        now = response or written.last
        return StepRecord(
            text=written.text if response is None else response.text,
            finish_reason="tool_calls" if response is None else response.finish_reason,
            usage=self.usage,
            timings=written.timings + (Timings() if now is None else now.timings),
            calls=tuple(self.call_records()),
            model_seconds=model_end - self._begin,
            tool_seconds=end - model_end if self._calls else 0.0,
            overlap_seconds=self._calls.busy_until(model_end) if self._calls else 0.0,
            rewinds=tuple(self._rewinds),
        )

    async def _write_down(self) -> None:
        services, response = self._services, self._response
        if services.journal is None or response is None:
            return
        record = self.record()
        calls = tuple(
            # What has not come to an end by now is told of separately.
            replace(call, status="pending", observation="", error="")
            if call.status == "cancelled"
            else call
            for call in record.calls
        )
        record, turn = services.redact((replace(record, calls=calls), response.to_message()))
        await services.journal.turn_written(self._index, record, turn)

    def call_records(self) -> list[CallRecord]:
        """What came of the calls so far."""
        return [] if self._calls is None else self._calls.records()

    def messages(self) -> list[Message]:
        """The turn and the observations; of a turn that was cut off, if it called something."""
        records = self.call_records()
        if self._response is not None:
            return [self._response.to_message(), *tool_messages(records)]
        if not records:
            return []
        calls = tuple(record.call for record in records)
        return [AssistantMessage(self._written.text.strip(), calls), *tool_messages(records)]

    async def _write(self) -> ModelResponse:
        request = self._request
        while True:
            turn = await self._ask(request)
            if isinstance(turn, ModelResponse):
                # The calls of a given beginning are read anew; they keep the ids they have.
                return replace(turn, calls=tuple(self._written.calls))
            self._written.last = None
            self._written.usage += turn.usage
            self._written.timings += turn.timings
            request = replace(
                self._request,
                prefill=turn.before if turn.before and turn.before.text else None,
                sampling=resampled(self._request.sampling, len(self._rewinds)),
            )

    async def _ask(self, request: ModelRequest) -> ModelResponse | CallParsed:
        """Read the turn to its end, or to a call that is to be written anew."""
        stream = self._model.stream(request)
        if self._services.trace is not None:
            stream = self._services.trace.model_turn(request, stream)
        emit: Callable[[Event], None] = self._services.emit
        try:
            async for event in stream:
                match event:
                    case ModelResponse():
                        # Of a model that tells of its calls at the end only.
                        for call in event.calls[len(self._written.calls) :]:
                            self._take(call, None)
                        return event
                    case CallParsed() if event.index >= len(self._written.calls):
                        checked = self._services.executor.check(event.call)
                        self._written.last = event
                        if await self._rewound(event, checked):
                            return event
                        self._take(event.call, event.before, checked)
                    case TextDelta(text):
                        self._written.text += text
                        emit(event)
                    case CallDelta():
                        emit(event)
        finally:
            # Also where the run is cancelled: the model must have stopped before we return.
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        raise ModelError(f"model {self._model.name!r} ended its stream without a ModelResponse")

    def _take(
        self,
        call: ParsedCall,
        before: Generation | None,
        checked: ReadyCall | CallRecord | None = None,
    ) -> None:
        assert self._calls is not None
        self._written.calls.append(call)
        self._written.before.append(before)
        self._calls.add(self._services.executor.check(call) if checked is None else checked)

    async def _rewound(self, event: CallParsed, checked: ReadyCall | CallRecord) -> bool:
        """Whether a call is bad and taken back."""
        if isinstance(checked, ReadyCall) or checked.status != "invalid" or event.before is None:
            return False
        # Another call of the same block may be at work already; it cannot be unwritten.
        same_block = bool(self._written.before) and self._written.before[-1] == event.before
        if len(self._rewinds) >= self._may_rewind or same_block:
            return False
        record = self._services.redact(checked)
        reason = record.observation.removeprefix("Error: ")
        self._rewinds.append(RewindRecord(text=event.call.raw, reason=reason))
        await self._services.audit_call(record, step=self._index, approval=None, outcome="rewound")
        self._services.emit(Rewind(event.index, reason, len(self._rewinds)))
        return True


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of tasks failed with first."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
