"""The agent loop: ask the model, run its tools, tell it what they gave, until it answers."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from agentkit.approvals import Approval
from agentkit.errors import AgentkitError, ModelError, RunError
from agentkit.events import AnswerChecked, Event, Retrieval, Retry, StepFinished, ToolsSelected
from agentkit.grounding import GroundedAnswer, unchecked
from agentkit.limit_watch import LimitReached, LimitWatch
from agentkit.messages import Message, SystemMessage
from agentkit.models.base import Model, ModelRequest
from agentkit.redaction import Redactor
from agentkit.result import RetrievalRecord, RunResult, StepRecord, StopReason
from agentkit.resuming import PendingCalls
from agentkit.retrieval import Document, ScoredDocument, conversation_text, retrieve_conversation
from agentkit.settings import RunSettings
from agentkit.step import Step
from agentkit.tool_execution import ToolExecutor
from agentkit.tools import ToolDefinition
from agentkit.tracing.current import tracing_for
from agentkit.turn_calls import CallServices, tool_messages

if TYPE_CHECKING:
    from agentkit.journal import RunJournal
    from agentkit.tracing.spans import RunSpan

__all__ = ["Run", "RunSettings"]


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
        self._deps = deps
        self._redact = Redactor(settings.secrets, settings.tools.tools)
        self._messages: list[Message] = self._redact([*history, *new_messages])
        self._examples = tuple(self._redact(list(examples)))
        self._new_from = len(history)
        self._documents: list[Document] = self._redact(list(documents))
        self._definitions: Sequence[ToolDefinition] = settings.tools.definitions
        self._steps: list[StepRecord] = []
        self._retrievals: list[RetrievalRecord] = []
        self.id = f"run_{uuid.uuid4().hex}"
        """Identifies the run."""
        self.journal: RunJournal | None = None
        """Told of everything before the run goes on."""
        self.conversation = ""
        """The conversation that it belongs to, for traces."""
        self._current: Step | None = None
        self._watch = LimitWatch(settings.limits)
        self._begin = 0.0
        self._earlier_seconds = 0.0
        self._answers: Mapping[str, Approval] | None = None
        self._paused = False
        self._trace: RunSpan | None = None

    @classmethod
    def resumed(
        cls,
        model: Model,
        settings: RunSettings,
        paused: RunResult,
        answers: Mapping[str, Approval],
        *,
        examples: Sequence[Message] = (),
        deps: Any = None,
    ) -> Run:
        """A run that goes on from where it waited for approval.

        Args:
            model: As for the run's first part; so the other arguments, too.
            settings: The rules.
            paused: The run so far.
            answers: By the ids of calls; those without one wait on.
            examples: As in the prompts so far.
            deps: For the tools.
        """
        run = cls(
            model,
            settings,
            examples=examples,
            history=paused.messages[: paused.new_from],
            new_messages=paused.messages[paused.new_from :],
            documents=paused.documents,
            deps=deps,
        )
        run._steps = list(paused.steps)
        run._retrievals = list(paused.retrievals)
        run.id = paused.run_id or run.id
        run._earlier_seconds = paused.seconds
        run._answers = answers
        if paused.tools:
            run._definitions = [d for d in run._definitions if d.name in paused.tools]
        run._watch.recall(paused.steps[:-1])
        return run

    async def execute(self, emit: Callable[[Event], None]) -> RunResult:
        """Carry out the run.

        Args:
            emit: Told of every event but the last, which is the result.
        """
        tracing = tracing_for(self._settings.tracing)
        if tracing is None:
            return await self._to_the_end(emit)
        with tracing.run(
            agent=self._settings.agent_name,
            model=self._model,
            run_id=self.id,
            redact=self._redact,
            earlier_steps=len(self._steps),
            conversation=self.conversation,
        ) as self._trace:
            result = await self._to_the_end(self._trace.watch(emit))
            self._trace.finished(result)
            return result

    def so_far(self) -> RunResult:
        """The run as it is now, so that it could be resumed."""
        return self._result("", "approval")

    async def _to_the_end(self, emit: Callable[[Event], None]) -> RunResult:
        if self.journal is None:
            return await self._execute(emit)
        try:
            result = await self._execute(emit)
        except BaseException as error:
            await self.journal.ended(self._redact(getattr(error, "result", None)), error)
            raise
        # The answer is the user's, who may know what stands in it; what is kept is for more eyes.
        await self.journal.ended(self._redact(result), None)
        return result

    async def _execute(self, emit: Callable[[Event], None]) -> RunResult:
        limits = self._settings.limits
        self._begin = time.perf_counter()
        failure: Exception
        try:
            # The deadline holds for model and tools alike, wherever the run may be.
            async with asyncio.timeout(limits.max_seconds) as deadline:
                return await self._checked(await self._loop(emit), emit)
        except ModelError as error:
            self._keep_cut_off_step()
            if self._steps:
                error.add_note(f"after {len(self._steps)} steps of the run")
            error.result = self._result("", "error")
            failure = error
        except Exception as error:
            failure = error
        if isinstance(failure, TimeoutError) and deadline.expired():
            message = f"the run did not finish within {limits.max_seconds:g} s"
            result = self._stop(LimitReached("max_seconds", message))
            check = self._settings.grounding
            if check is None or not result.output:
                return result
            # A check takes time, of which there is none left.
            return _with_check(result, unchecked(result.output, check.refusal), emit)
        # Raised out here, so that nothing uncleaned is behind it as its context.
        raise self._clean(failure)

    async def _checked(self, result: RunResult, emit: Callable[[Event], None]) -> RunResult:
        """The result, with its answer checked against all documents that the model was shown."""
        check = self._settings.grounding
        if check is None or result.stop_reason == "approval":
            return result
        found = (hit.document for hit in result.sources)
        shown = self._documents + [each for each in found if each not in self._documents]
        return _with_check(result, await check.acheck(result.output, shown), emit)

    def _clean(self, error: Exception) -> Exception:
        """The exception without secrets; another one if it cannot be cleaned."""
        if self._redact.scrub(error):
            return error
        text = f"the run failed with {type(error).__name__}: {self._redact(str(error))}"
        return RunError(text) if isinstance(error, AgentkitError) else RuntimeError(text)

    async def _loop(self, emit: Callable[[Event], None]) -> RunResult:
        services = self._services(emit)
        choice = self._settings.tool_choice
        step: StepRecord | None = None
        try:
            if self._answers is None:
                await self._search(emit)
                await self._select_tools(emit)
                if self.journal is not None:
                    await self.journal.began(self.so_far())
            elif self._steps:
                step = await self._resume(services, self._answers)
            while True:
                if step is not None:
                    if self._paused:
                        return self._result(step.text, "approval")
                    if not step.calls:
                        return self._finish(step)
                    if any(call.status in ("ok", "denied") for call in step.calls):
                        choice = "none" if choice == "none" else "auto"
                    if (reason := self._watch.count(step)) is not None:
                        emit(Retry(reason, self._watch.failures))
                self._watch.check(self._steps)
                step = await self._step(choice, services)
        except LimitReached as reached:
            if self._settings.limits.on_exceeded == "answer" and reached.limit in (
                "max_steps",
                "max_retries",
            ):
                step = await self._step("none", services)
                return self._result(step.text, reached.limit)
            return self._stop(reached)

    def _services(self, emit: Callable[[Event], None]) -> CallServices:
        settings = self._settings
        executor = ToolExecutor(
            settings.tools,
            limits=settings.limits,
            timeout=settings.tool_timeout,
            on_error=settings.on_tool_error,
            deps=self._deps,
        )
        executor.count(call for step in self._steps for call in step.calls)
        return CallServices(
            executor=executor,
            policy=settings.approvals,
            redact=self._redact,
            audit=settings.audit,
            run_id=self.id,
            agent=settings.agent_name,
            emit=emit,
            trace=self._trace,
            journal=self.journal,
        )

    async def _search(self, emit: Callable[[Event], None]) -> None:
        """Fill the documents section with what fits the user's words."""
        retriever = self._settings.retriever
        query = conversation_text(self._messages)
        if retriever is None or not query:
            return
        begin = time.perf_counter()
        span: AbstractContextManager[Callable[[list[ScoredDocument]], None] | None]
        span = nullcontext() if self._trace is None else self._trace.search(query)
        with span as tell:
            found = await retrieve_conversation(
                retriever, self._messages, top_k=self._settings.top_k
            )
            hits = self._redact(found)
            if tell is not None:
                tell(hits)
        record = RetrievalRecord(query=query, hits=tuple(hits), seconds=time.perf_counter() - begin)
        self._retrievals.append(record)
        self._documents += [hit.document for hit in hits]
        emit(Retrieval(record))

    async def _select_tools(self, emit: Callable[[Event], None]) -> None:
        """Choose the tools that the prompts show, once: what stays the same stays in the cache."""
        selector = self._settings.tool_selection
        if selector is None or not self._definitions:
            return
        conversation = (*self._examples, *self._messages)
        picked = {*await selector.select(self._definitions, conversation)}
        picked.add(self._settings.tool_choice)
        self._definitions = [d for d in self._definitions if d.name in picked]
        emit(ToolsSelected(tuple(d.name for d in self._definitions)))

    async def _resume(self, services: CallServices, answers: Mapping[str, Approval]) -> StepRecord:
        """Finish the step that waited for approval."""
        pending = PendingCalls(self._steps[-1], answers, services, len(self._steps) - 1)
        try:
            await pending.settle()
        finally:
            # Also where the run ends amid its tools: they have begun.
            step = self._steps[-1] = pending.step()
            self._messages = [pending.told(message) for message in self._messages]
        self._paused = any(call.status == "pending" for call in step.calls)
        if not self._paused:
            await self._step_is_over(step, tool_messages(step.calls), services)
        return step

    async def _step_is_over(
        self, step: StepRecord, messages: Sequence[Message], services: CallServices
    ) -> None:
        if self.journal is not None:
            index = len(self._steps) - 1
            await self.journal.step_finished(index, self._redact(step), messages)
        services.emit(StepFinished(step, tuple(messages)))

    async def _step(self, choice: str, services: CallServices) -> StepRecord:
        begin = time.perf_counter()
        request = ModelRequest(
            messages=self._prompt_messages(),
            tools=self._definitions,
            documents=tuple(self._documents),
            tool_choice=choice,
            parallel_tool_calls=self._settings.parallel_tool_calls,
            constrain=self._settings.constrain,
            response_schema=self._settings.response_schema,
            sampling=self._watch.sampling(self._settings.sampling, self._steps),
        )
        self._current = Step(
            self._model,
            request,
            services,
            index=len(self._steps),
            rewind=self._settings.rewind,
            overlap=self._settings.overlap,
        )
        step = await self._current.execute()
        messages = self._redact(self._current.messages())
        self._current = None
        self._messages += messages
        busy = step.model_seconds + step.tool_seconds
        step = dataclasses.replace(step, overhead_seconds=time.perf_counter() - begin - busy)
        self._steps.append(step)
        self._paused = any(call.status == "pending" for call in step.calls)
        if not self._paused:
            await self._step_is_over(step, messages, services)
        return step

    def _keep_cut_off_step(self) -> None:
        """Where the run ends amid a step, what its tools have done is not forgotten."""
        cut_off, self._current = self._current, None
        if cut_off is not None and cut_off.call_records():
            self._steps.append(cut_off.record())
            self._messages += self._redact(cut_off.messages())

    def _prompt_messages(self) -> tuple[Message, ...]:
        start = 1 if isinstance(self._messages[0], SystemMessage) else 0
        return (*self._messages[:start], *self._examples, *self._messages[start:])

    def _finish(self, step: StepRecord) -> RunResult:
        return self._result(step.text, "length" if step.finish_reason == "length" else "answer")

    def _stop(self, reached: LimitReached) -> RunResult:
        """End at a limit, with the text so far or an exception, as the limits say."""
        text = self._current.partial_text if self._current is not None else ""
        self._keep_cut_off_step()
        text = text or next((s.text for s in reversed(self._steps) if s.text), "")
        result = self._result(text, reached.limit)
        if self._settings.limits.on_exceeded == "answer":
            return result
        raise reached.as_error(result)

    def _result(self, output: str, reason: StopReason) -> RunResult:
        selected = len(self._definitions) < len(self._settings.tools.names)
        return RunResult(
            output=output.strip(),
            messages=tuple(self._messages),
            steps=tuple(self._steps),
            retrievals=tuple(self._retrievals),
            stop_reason=reason,
            model=self._model.name,
            seconds=self._earlier_seconds + (time.perf_counter() - self._begin) * bool(self._begin),
            new_from=self._new_from,
            run_id=self.id,
            # Only who goes on needs them again.
            documents=tuple(self._documents) if reason == "approval" else (),
            tools=tuple(d.name for d in self._definitions) if selected else (),
        )


def _with_check(
    result: RunResult, grounding: GroundedAnswer, emit: Callable[[Event], None]
) -> RunResult:
    emit(AnswerChecked(grounding))
    return dataclasses.replace(result, output=grounding.text, grounding=grounding)
