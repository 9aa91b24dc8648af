"""The agent loop: ask the model, run its tools, tell it what they gave, until it answers."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentkit.errors import InvalidToolCallError, LimitExceededError, ModelError
from agentkit.events import Event, Retrieval, Retry, StepFinished, ToolCallStarted, ToolResult
from agentkit.limits import Limits
from agentkit.messages import AssistantMessage, Message, SystemMessage, ToolMessage
from agentkit.models.base import (
    CallDelta,
    Model,
    ModelRequest,
    ModelResponse,
    Sampling,
    TextDelta,
    Usage,
)
from agentkit.result import CallRecord, RetrievalRecord, RunResult, StepRecord, StopReason
from agentkit.retrieval import Document, Retriever, conversation_text, retrieve_conversation
from agentkit.tool_execution import ToolExecutor, ToolSet

__all__ = ["Run", "RunSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """An agent's settings, as one run uses them; see :class:`agentkit.Agent`."""

    tools: ToolSet
    """What may be called."""
    retriever: Retriever | None
    """Fills the documents section."""
    top_k: int | None
    """Documents of one search."""
    limits: Limits
    """How far the run may go."""
    sampling: Sampling
    """How tokens are chosen."""
    tool_choice: str
    """For the first step."""
    parallel_tool_calls: bool
    """Whether one turn may hold several calls."""
    constrain: bool
    """Whether calls are sampled under their grammar."""
    tool_timeout: float | None
    """Seconds for a tool without a limit of its own."""
    on_tool_error: Literal["feedback", "raise"]
    """What becomes of a failing tool."""

    def replace(self, **changes: Any) -> RunSettings:
        """The settings with those changes that are not None."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def check_tool_choice(self, choice: str) -> None:
        """Refuse a choice that no request could carry out.

        Raises:
            UserError: It is none of the words, and no tool has the name.
        """
        ModelRequest(messages=(), tools=self.tools.definitions, tool_choice=choice)


class _LimitReached(Exception):
    """A limit ends the run. Not for callers: they get a result or a LimitExceededError."""

    def __init__(self, limit: StopReason, message: str) -> None:
        super().__init__(message)
        self.limit: StopReason = limit


class Run:
    """One run of an agent; :meth:`execute` is called once.

    Args:
        model: What writes the turns.
        settings: The rules.
        examples: Messages that the prompt shows after the system text and the result leaves out.
        history: Messages before this run.
        new_messages: The prompt.
        documents: For the documents section, before those that the retriever finds.
        deps: For the tools.
    """

    def __init__(
        self,
        model: Model,
        settings: RunSettings,
        *,
        examples: Sequence[Message] = (),
        history: Sequence[Message],
        new_messages: Sequence[Message],
        documents: Sequence[Document] = (),
        deps: Any = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._messages: list[Message] = [*history, *new_messages]
        self._examples = tuple(examples)
        self._new_from = len(history)
        self._documents = list(documents)
        self._steps: list[StepRecord] = []
        self._retrievals: list[RetrievalRecord] = []
        self._usage = Usage()
        self._partial = ""  # text of a turn that was cut off
        self._failures = 0
        self._begin = 0.0
        self._executor = ToolExecutor(
            settings.tools,
            limits=settings.limits,
            timeout=settings.tool_timeout,
            on_error=settings.on_tool_error,
            deps=deps,
        )

    async def execute(self, emit: Callable[[Event], None]) -> RunResult:
        """Carry out the run.

        Args:
            emit: Told of every event but the last, which is the result.
        """
        limits = self._settings.limits
        self._begin = time.perf_counter()
        try:
            # The deadline holds for model and tools alike, wherever the run may be.
            async with asyncio.timeout(limits.max_seconds) as deadline:
                return await self._loop(emit)
        except TimeoutError:
            if not deadline.expired():
                raise
            message = f"the run did not finish within {limits.max_seconds:g} s"
            return self._stop(_LimitReached("max_seconds", message))
        except ModelError as error:
            if self._steps:
                error.add_note(f"after {len(self._steps)} steps of the run")
            raise

    async def _loop(self, emit: Callable[[Event], None]) -> RunResult:
        await self._search(emit)
        choice = self._settings.tool_choice
        try:
            while True:
                self._check_limits()
                step = await self._step(choice, emit)
                if not step.calls:
                    return self._finish(step)
                if any(call.status == "ok" for call in step.calls):
                    choice = "none" if choice == "none" else "auto"
                self._count_failures(step, emit)
        except _LimitReached as reached:
            if self._settings.limits.on_exceeded == "answer" and reached.limit in (
                "max_steps",
                "max_retries",
            ):
                step = await self._step("none", emit)
                return self._result(step.text, reached.limit)
            return self._stop(reached)

    async def _search(self, emit: Callable[[Event], None]) -> None:
        """Fill the documents section with what fits the user's words."""
        retriever = self._settings.retriever
        query = conversation_text(self._messages)
        if retriever is None or not query:
            return
        begin = time.perf_counter()
        hits = await retrieve_conversation(retriever, self._messages, top_k=self._settings.top_k)
        record = RetrievalRecord(query=query, hits=tuple(hits), seconds=time.perf_counter() - begin)
        self._retrievals.append(record)
        self._documents += [hit.document for hit in hits]
        emit(Retrieval(record))

    async def _step(self, choice: str, emit: Callable[[Event], None]) -> StepRecord:
        begin = time.perf_counter()
        known = len(self._messages)
        request = ModelRequest(
            messages=self._prompt_messages(),
            tools=self._settings.tools.definitions,
            documents=tuple(self._documents),
            tool_choice=choice,
            parallel_tool_calls=self._settings.parallel_tool_calls,
            constrain=self._settings.constrain,
            sampling=self._sampling(),
        )
        model_begin = time.perf_counter()
        response = await self._ask(request, emit)
        tools_begin = model_end = time.perf_counter()
        self._usage += response.usage
        self._messages.append(response.to_message())
        records: list[CallRecord] = []
        if response.calls:
            records = await self._executor.run(
                response.calls,
                step=len(self._steps),
                started=lambda call: emit(ToolCallStarted(call)),
                finished=lambda record: emit(ToolResult(record)),
            )
            self._messages += [
                ToolMessage(record.observation, record.call.id, record.call.name)
                for record in records
            ]
        tools_end = time.perf_counter()
        busy = (model_end - model_begin) + (tools_end - tools_begin)
        step = StepRecord(
            text=response.text,
            finish_reason=response.finish_reason,
            usage=response.usage,
            timings=response.timings,
            calls=tuple(records),
            model_seconds=model_end - model_begin,
            tool_seconds=tools_end - tools_begin,
            overhead_seconds=time.perf_counter() - begin - busy,
        )
        self._steps.append(step)
        self._partial = ""
        emit(StepFinished(step, tuple(self._messages[known:])))
        return step

    def _prompt_messages(self) -> tuple[Message, ...]:
        start = 1 if isinstance(self._messages[0], SystemMessage) else 0
        return (*self._messages[:start], *self._examples, *self._messages[start:])

    async def _ask(self, request: ModelRequest, emit: Callable[[Event], None]) -> ModelResponse:
        stream = self._model.stream(request)
        try:
            async for event in stream:
                if isinstance(event, ModelResponse):
                    return event
                if isinstance(event, TextDelta):
                    self._partial += event.text
                if isinstance(event, TextDelta | CallDelta):
                    emit(event)
        finally:
            # Also where the run is cancelled: the model must have stopped before we return.
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        raise ModelError(f"model {self._model.name!r} ended its stream without a ModelResponse")

    def _sampling(self) -> Sampling:
        """The sampling rules, held to the tokens that the run has left."""
        sampling, limit = self._settings.sampling, self._settings.limits.max_tokens
        if limit is None:
            return sampling
        left = max(1, limit - self._spent())
        return dataclasses.replace(sampling, max_tokens=min(sampling.max_tokens, left))

    def _spent(self) -> int:
        return self._usage.prefilled_tokens + self._usage.generated_tokens

    def _check_limits(self) -> None:
        limits = self._settings.limits
        if len(self._steps) >= limits.max_steps:
            raise _LimitReached(
                "max_steps", f"the run took {len(self._steps)} steps and has no answer yet"
            )
        if limits.max_tokens is not None and self._spent() >= limits.max_tokens:
            raise _LimitReached(
                "max_tokens", f"the run read and wrote {self._spent()} tokens and has no answer yet"
            )

    def _count_failures(self, step: StepRecord, emit: Callable[[Event], None]) -> None:
        limits = self._settings.limits
        refused = [call for call in step.calls if call.status == "refused"]
        if refused and limits.on_exceeded == "raise":
            name = refused[0].call.name
            raise _LimitReached(
                "max_calls_per_tool",
                f"the model called {name} more than {limits.calls_allowed(name)} times",
            )
        failed = [call for call in step.calls if call.status != "ok"]
        if not failed:
            self._failures = 0
            return
        self._failures += 1
        reason = "\n".join(call.observation for call in failed)
        if self._failures > limits.max_retries:
            raise _LimitReached(
                "max_retries", f"calls failed in {self._failures} steps in a row; last: {reason}"
            )
        emit(Retry(reason, self._failures))

    def _finish(self, step: StepRecord) -> RunResult:
        return self._result(step.text, "length" if step.finish_reason == "length" else "answer")

    def _stop(self, reached: _LimitReached) -> RunResult:
        """End at a limit, with the text so far or an exception, as the limits say."""
        text = self._partial or next((s.text for s in reversed(self._steps) if s.text), "")
        result = self._result(text, reached.limit)
        limits = self._settings.limits
        if limits.on_exceeded == "answer":
            return result
        if reached.limit == "max_retries":
            raise InvalidToolCallError(f"{reached} (Limits.max_retries)", result=result)
        raise LimitExceededError(
            f"{reached} (Limits.{reached.limit})", limit=reached.limit, result=result
        )

    def _result(self, output: str, reason: StopReason) -> RunResult:
        self._answer_open_calls()
        return RunResult(
            output=output.strip(),
            messages=tuple(self._messages),
            steps=tuple(self._steps),
            retrievals=tuple(self._retrievals),
            stop_reason=reason,
            model=self._model.name,
            seconds=time.perf_counter() - self._begin,
            new_from=self._new_from,
        )

    def _answer_open_calls(self) -> None:
        """Where the run ended amid its tools, say so to the model that will read on from here."""
        last = self._messages[-1]
        if isinstance(last, AssistantMessage):
            self._messages += [
                ToolMessage("Error: the run ended before this call did.", call.id, call.name)
                for call in last.tool_calls
            ]
