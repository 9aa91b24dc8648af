"""The spans of one run, and what they tell the metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from agentkit.events import ApprovalRequested, Event, Retry, Rewind, ToolResult
from agentkit.messages import AssistantMessage
from agentkit.models.base import (
    CallParsed,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Timings,
    Usage,
)
from agentkit.tracing.content import (
    as_json,
    input_content,
    output_content,
    request_attributes,
    timing_attributes,
    usage_attributes,
)
from agentkit.tracing.current import conversation_id

if TYPE_CHECKING:
    from agentkit.redaction import Redactor
    from agentkit.result import CallRecord, RunResult
    from agentkit.retrieval import ScoredDocument
    from agentkit.tool_execution import ReadyCall
    from agentkit.tracing.tracer import Tracing

__all__ = ["RunSpan"]

_NOT_RUN = ("invalid", "refused", "denied")


class RunSpan:
    """The span of a run, which opens those below it.

    Args:
        tracing: The tracer and the instruments.
        agent: The agent's name.
        model: Its model; one with an attribute ``provider`` is a service of that name.
        run_id: Of the run.
        redact: Blots out secrets.
        earlier_steps: Steps that an earlier part of the run took.
        conversation: That the run belongs to; that of the context if not given.
    """

    def __init__(
        self,
        tracing: Tracing,
        agent: str,
        model: Any,
        run_id: str,
        redact: Redactor,
        earlier_steps: int,
        conversation: str = "",
    ) -> None:
        self._tracing = tracing
        self._agent = agent
        self._redact = redact
        self._earlier_steps = earlier_steps
        self._service = getattr(model, "provider", None)
        self._common = {
            "gen_ai.provider.name": str(self._service or "agentkit"),
            "gen_ai.request.model": model.name,
        }
        self._conversation = conversation or conversation_id()
        self._span = self._open(
            f"invoke_agent {agent}",
            "invoke_agent",
            {
                **self._common,
                "gen_ai.agent.name": agent,
                "agentkit.run.id": run_id,
                "agentkit.run.resumed": True if earlier_steps else None,
            },
        )
        self._begin = time.perf_counter()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the span the current one, and end it with the block."""
        error: BaseException | None = None
        try:
            with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as raised:
            error = raised
            if (result := getattr(raised, "result", None)) is not None:
                self.finished(result)
            raise
        finally:
            labels = {"gen_ai.agent.name": self._agent, **self._model_label()}
            self._end(self._span, error, self._tracing.run_seconds, labels, self._begin)

    def watch(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        """Events that have no span of their own are noted in the run's."""

        def watched(event: Event) -> None:
            match event:
                case Rewind(reason=reason, attempt=attempt):
                    self._note("agentkit.rewind", {"attempt": attempt}, reason=reason)
                case Retry(reason=reason, attempt=attempt):
                    self._note("agentkit.retry", {"attempt": attempt}, reason=reason)
                case ApprovalRequested(call):
                    self._note("agentkit.approval_requested", _call_names(call.name, call.id))
                case ToolResult(record) if record.status in _NOT_RUN:
                    names = _call_names(record.call.name, record.call.id)
                    self._note(
                        "agentkit.call_not_run",
                        {**names, "agentkit.call.status": record.status},
                        reason=record.observation,
                    )
            emit(event)

        return watched

    def finished(self, result: RunResult) -> None:
        """Note how the run ended."""
        span = self._span
        if not span.is_recording():
            return
        steps = result.steps[self._earlier_steps :]
        usage = sum((step.usage for step in steps), Usage())
        span.set_attributes(
            {
                **usage_attributes(usage),
                "agentkit.run.stop_reason": result.stop_reason,
                "agentkit.run.steps": len(steps),
                "agentkit.run.calls": sum(len(step.calls) for step in steps),
                "agentkit.run.overhead_s": sum(step.overhead_seconds for step in steps),
            }
        )
        if self._tracing.capture_content:
            answer = AssistantMessage(self._redact(result.output))
            span.set_attribute(
                "gen_ai.output.messages", output_content([answer], result.stop_reason)
            )

    async def model_turn(
        self, request: ModelRequest, stream: AsyncIterator[ModelEvent]
    ) -> AsyncIterator[ModelEvent]:
        """Pass a model's events on, with a span around what the model does."""
        attributes = {**self._common, **request_attributes(request)}
        if self._tracing.capture_content:
            attributes |= input_content(request)
        kind = SpanKind.CLIENT if self._service else SpanKind.INTERNAL
        span = self._open(f"chat {self._common['gen_ai.request.model']}", "chat", attributes, kind)
        inside = trace.set_span_in_context(span)
        begin = time.perf_counter()
        error: BaseException | None = None
        last: CallParsed | ModelResponse | None = None
        first = True
        try:
            while True:
                # The span is current while the model works, and not while the caller does:
                # tools that begin meanwhile belong to the run, not to the turn.
                token = otel_context.attach(inside)
                try:
                    event = await anext(stream, None)
                finally:
                    otel_context.detach(token)
                if event is None:
                    return
                if first:
                    first = False
                    self._first_event(span, time.perf_counter() - begin)
                if isinstance(event, CallParsed | ModelResponse):
                    last = event
                yield event
        except GeneratorExit:
            raise  # The caller has what it wants.
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                if (close := getattr(stream, "aclose", None)) is not None:
                    await close()
            finally:
                self._turn_over(span, last)
                self._end(span, error, self._tracing.turn_seconds, self._turn_labels(), begin)

    @contextmanager
    def tool_call(self, ready: ReadyCall, step: int) -> Iterator[Callable[[CallRecord], None]]:
        """A span around a call; the block hands over the record."""
        call = ready.call
        attributes = {
            **_call_names(call.name, call.id),
            "gen_ai.tool.type": "function",
            "gen_ai.tool.description": ready.tool.definition.description or None,
            "gen_ai.agent.name": self._agent,
            "agentkit.step": step,
        }
        if self._tracing.capture_content:
            attributes["gen_ai.tool.call.arguments"] = as_json(self._redact(call.arguments))
        span = self._open(f"execute_tool {call.name}", "execute_tool", attributes)
        begin = time.perf_counter()
        error: BaseException | None = None
        failure = ""

        def over(record: CallRecord) -> None:
            nonlocal failure
            span.set_attribute("agentkit.call.status", record.status)
            if record.repairs:
                span.set_attribute("agentkit.call.repairs", len(record.repairs))
            shown = self._redact(record.observation) if self._tracing.capture_content else ""
            if shown:
                span.set_attribute("gen_ai.tool.call.result", shown)
            if record.status != "ok":
                failure = record.error or record.status
                span.set_status(Status(StatusCode.ERROR, shown or failure))

        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield over
        except BaseException as raised:
            error = raised
            raise
        finally:
            labels = {
                "gen_ai.tool.name": call.name,
                "gen_ai.tool.type": "function",
                "gen_ai.agent.name": self._agent,
            }
            self._end(span, error, self._tracing.tool_seconds, labels, begin, failure=failure)

    @contextmanager
    def search(self, query: str) -> Iterator[Callable[[list[ScoredDocument]], None]]:
        """A span around a search for the documents section; the block hands over what it found."""
        span = self._open("retrieval", "retrieval", {"gen_ai.agent.name": self._agent})
        error: BaseException | None = None

        def found(hits: list[ScoredDocument]) -> None:
            span.set_attribute("agentkit.retrieval.documents", len(hits))
            if self._tracing.capture_content:
                shown = [
                    {"id": str(h.document.doc_id or h.document.source), "score": float(h.score)}
                    for h in hits
                ]
                span.set_attribute("gen_ai.retrieval.query.text", self._redact(query))
                span.set_attribute("gen_ai.retrieval.documents", as_json(shown))

        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield found
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(span, error)

    def _open(
        self,
        name: str,
        operation: str,
        attributes: dict[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        attributes = {"gen_ai.operation.name": operation, **attributes}
        if self._conversation:
            attributes["gen_ai.conversation.id"] = self._conversation
        known = {key: value for key, value in attributes.items() if value is not None}
        return self._tracing.tracer.start_span(name, kind=kind, attributes=known)

    def _end(
        self,
        span: Span,
        error: BaseException | None,
        histogram: Any = None,
        labels: dict[str, Any] | None = None,
        begin: float = 0.0,
        *,
        failure: str = "",
    ) -> None:
        if error is not None:
            failure = type(error).__name__
            # An exception's text may hold what was said.
            text = f"{failure}: {error}" if self._tracing.capture_content else failure
            span.set_status(Status(StatusCode.ERROR, self._redact(text)))
        if failure:
            span.set_attribute("error.type", failure)
        if histogram is not None:
            labels = {**(labels or {}), **({"error.type": failure} if failure else {})}
            # In the span's context, so that an exemplar points to it.
            inside = trace.set_span_in_context(span)
            histogram.record(time.perf_counter() - begin, labels, context=inside)
        span.end()

    def _first_event(self, span: Span, seconds: float) -> None:
        span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        self._tracing.first_seconds.record(seconds, self._turn_labels())

    def _turn_over(self, span: Span, last: CallParsed | ModelResponse | None) -> None:
        """Note the turn's tokens, also of one that was given up at a call."""
        usage = last.usage if last is not None else Usage()
        labels = self._turn_labels()
        for kind, count in (("input", usage.prompt_tokens), ("output", usage.generated_tokens)):
            if last is not None:
                self._tracing.tokens.record(count, {**labels, "gen_ai.token.type": kind})
        for name, count in asdict(usage).items():
            if count:
                kind = name.removesuffix("_tokens")
                self._tracing.token_kinds.add(
                    count, {**self._model_label(), "agentkit.token.kind": kind}
                )
        if not span.is_recording() or last is None:
            return
        timings: Timings = last.timings
        span.set_attributes({**usage_attributes(usage), **timing_attributes(timings)})
        if isinstance(last, CallParsed):
            span.set_attribute("agentkit.turn.given_up", True)
            return
        span.set_attribute("gen_ai.response.model", self._common["gen_ai.request.model"])
        span.set_attribute("gen_ai.response.finish_reasons", [last.finish_reason])
        span.set_attribute("agentkit.turn.calls", len(last.calls))
        if self._tracing.capture_content:
            message = self._redact(last.to_message())
            span.set_attribute(
                "gen_ai.output.messages", output_content([message], last.finish_reason)
            )

    def _turn_labels(self) -> dict[str, str]:
        return {"gen_ai.operation.name": "chat", **self._common}

    def _model_label(self) -> dict[str, str]:
        return {"gen_ai.request.model": self._common["gen_ai.request.model"]}

    def _note(self, name: str, attributes: dict[str, Any], *, reason: str = "") -> None:
        if reason and self._tracing.capture_content:
            attributes = {**attributes, "reason": self._redact(reason)}
        self._span.add_event(name, attributes)


def _call_names(name: str, call_id: str) -> dict[str, str]:
    return {"gen_ai.tool.name": name, "gen_ai.tool.call.id": call_id}
