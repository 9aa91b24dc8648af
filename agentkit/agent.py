"""The agent: a model, its tools and documents, and the rules of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentkit.agent_inputs import (
    History,
    Prompt,
    as_model,
    as_schema,
    as_secrets,
    as_tool,
    run_sync,
    with_system,
)
from agentkit.approvals import Approval, ApprovalCallback, ApprovalPolicy, Approvals
from agentkit.audit import AuditSink
from agentkit.errors import UserError
from agentkit.events import Event, RunFinished
from agentkit.grounding import AnswerCheck
from agentkit.limits import Limits
from agentkit.messages import Message, normalize_messages
from agentkit.models.base import Model, Sampling
from agentkit.redaction import Secrets
from agentkit.result import RunResult
from agentkit.resuming import Answers, read_answers
from agentkit.retrieval import Document, Retriever, RetrieverTool
from agentkit.runner import Run
from agentkit.settings import RunSettings
from agentkit.tool_execution import ToolSet
from agentkit.tool_selection import ToolSelection, ToolSelector
from agentkit.tools import Tool
from agentkit.tracing.current import read_setting

if TYPE_CHECKING:
    from types import TracebackType

    from agentkit.langchain.agent_runnable import AgentRunnable
    from agentkit.tracing import Tracing

__all__ = ["Agent", "History", "Prompt", "as_tool"]


class Agent:
    """Answers with a model that calls tools and reads documents, step by step.

    Args:
        model: A model, or what :class:`agentkit.TransformersModel` takes: a hub id, a folder, a
            ``.gguf`` file, ``embedded``; or a server's address, as
            :class:`agentkit.OpenAIModel` takes it. If not given: what the environment variable
            ``AGENTKIT_MODEL`` names, or a Granite model in the hub's cache, or the embedded one.
        tools: What the model may call: tools, or plain functions, which are made into tools.
        retriever: Where documents are searched for.
        retrieval: How: ``documents`` searches with the user's words before the first step and
            puts what is found into the prompt; ``tool`` lets the model search by itself.
        top_k: How many documents one search gives; ``None`` for the retriever's own default.
        system: Instructions; they stand before everything else.
        examples: A conversation that shows the model how it is done, put before every prompt;
            see :func:`agentkit.example_call`. Small models call tools far more reliably with
            one example for each tool. Read once and kept in the KV cache.
        limits: How far a run may go.
        sampling: How the model chooses tokens.
        tool_choice: ``auto``, ``required``, ``none`` or a tool's name, for the first step; once a
            required call has been made, later steps are ``auto``.
        parallel_tool_calls: Whether one turn may hold several calls.
        constrain: Sample calls under the grammar of the tools' schemas.
        response_schema: The form of the answer: a JSON Schema, or a pydantic model. Turns that
            call no tool are JSON of this form, written under a grammar. The model is not shown
            it: say in ``system`` what is wanted.
        tool_timeout: Seconds for a call of a tool that names no limit of its own.
        on_tool_error: ``feedback`` shows the model what went wrong; ``raise`` ends the run with
            :class:`~agentkit.errors.ToolError`.
        overlap: Begin with a tool as soon as the model has written its call, while the model goes
            on with the turn.
        rewind: How many calls of a turn that cannot be run (an unknown tool, invalid arguments)
            the model writes anew at once, as if it had not written them; further ones it is
            told of. 0 to tell it of each.
        approvals: Which calls may run: ``allow``, ``ask``, ``deny``, a function of the call and
            its context, or any of these by the tool's name (with ``*`` for anything). Goes
            before what a tool says in its ``approval``.
        approver: Answers for calls that have to be asked about. Without one the run ends there,
            with ``stop_reason`` ``approval``, and :meth:`resume` goes on.
        audit: Where a record of every call goes: an :class:`~agentkit.AuditLog` or a function.
        redact: Secrets that must not reach the model, events, records or errors; tools may bring
            more with a method ``secrets()``.
        tool_selection: Picks the tools that are shown to the model, where there are many; see
            :class:`~agentkit.ToolSelector`.
        tracing: OpenTelemetry spans and metrics of each run: ``True`` with the program's own
            providers, a :class:`~agentkit.tracing.Tracing` for others; ``False`` for none, also
            where :func:`agentkit.tracing.instrument` traces every agent.
        grounding: Checks each answer against the documents that the model was shown, such as
            ``agentkit_retrievers.Grounding()``; see :attr:`RunResult.grounding`. One that they
            do not support is replaced by a refusal.
        name: What the agent is called, in logs and as a tool.

    Raises:
        UserError: Tools share a name, or options contradict each other.
        SchemaError: A tool's schema or signature cannot be used.

    Example:
        >>> agent = Agent(tools=[get_weather])
        >>> agent.run_sync("What is the weather in Paris?").output
    """

    def __init__(
        self,
        model: Model | str | Path | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        *,
        retriever: Retriever | None = None,
        retrieval: Literal["documents", "tool"] = "documents",
        top_k: int | None = None,
        system: str | None = None,
        examples: Iterable[Message | Mapping[str, Any]] = (),
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        tool_choice: str = "auto",
        parallel_tool_calls: bool = True,
        constrain: bool = True,
        response_schema: Mapping[str, Any] | type | None = None,
        tool_timeout: float | None = 30.0,
        on_tool_error: Literal["feedback", "raise"] = "feedback",
        overlap: bool = True,
        rewind: int = 1,
        approvals: Approvals | None = None,
        approver: ApprovalCallback | None = None,
        audit: AuditSink | None = None,
        redact: Secrets | Iterable[str] | None = None,
        tool_selection: ToolSelection | None = None,
        tracing: Tracing | bool | None = None,
        grounding: AnswerCheck | None = None,
        name: str = "agent",
    ) -> None:
        if retrieval not in ("documents", "tool"):
            raise UserError(f"retrieval is {retrieval!r}; it must be 'documents' or 'tool'")
        if on_tool_error not in ("feedback", "raise"):
            raise UserError(f"on_tool_error is {on_tool_error!r}; it must be 'feedback' or 'raise'")
        if grounding is not None and not isinstance(grounding, AnswerCheck):
            raise UserError(
                f"grounding is {grounding!r:.100}; pass agentkit_retrievers.Grounding()"
            )
        if rewind < 0:
            raise UserError(f"rewind is {rewind!r}; it must be 0 or more")
        self.name = name
        self.model = as_model(model)
        self.system = system
        self.examples = tuple(normalize_messages(examples))
        all_tools = [as_tool(tool) for tool in tools]
        if retriever is not None and retrieval == "tool":
            all_tools.append(RetrieverTool(retriever, top_k=top_k or 4))
            retriever = None
        tool_set = ToolSet(all_tools)
        if isinstance(tool_selection, ToolSelector):
            tool_selection.check(tool_set.names)
        self._settings = RunSettings(
            tools=tool_set,
            retriever=retriever,
            top_k=top_k,
            limits=limits or Limits(),
            sampling=sampling or Sampling(),
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            constrain=constrain,
            response_schema=as_schema(response_schema),
            tool_timeout=tool_timeout,
            on_tool_error=on_tool_error,
            overlap=overlap,
            rewind=rewind,
            approvals=ApprovalPolicy(approvals, approver=approver, tools=tool_set.tools),
            audit=audit,
            secrets=as_secrets(redact),
            tool_selection=tool_selection,
            agent_name=name,
            tracing=read_setting(tracing),
            grounding=grounding,
        )
        self._settings.check_tool_choice(tool_choice)

    @property
    def tools(self) -> ToolSet:
        """The agent's tools."""
        return self._settings.tools

    @property
    def sampling(self) -> Sampling:
        """How the model chooses tokens, where a run does not say otherwise."""
        return self._settings.sampling

    @property
    def secrets(self) -> Secrets | None:
        """What must not reach the model, beside the secrets of tools."""
        return self._settings.secrets

    async def run(
        self,
        prompt: Prompt,
        *,
        history: History | None = None,
        documents: Sequence[Document] = (),
        tool_choice: str | None = None,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> RunResult:
        """Answer a prompt.

        Args:
            prompt: The user's text, or messages.
            history: An earlier conversation to go on from.
            documents: Documents for this run, before those that the retriever finds.
            tool_choice: In place of the agent's.
            limits: In place of the agent's.
            sampling: In place of the agent's.
            deps: Any object; tools find it in their :class:`~agentkit.ToolContext`.

        Raises:
            ModelError: The model cannot be loaded, or the conversation does not fit it.
            LimitExceededError: A limit was reached, and the limits say to raise.
            InvalidToolCallError: Calls stayed invalid, and the limits say to raise.
            ToolError: A tool failed, and ``on_tool_error`` is ``raise``.
        """
        run = self.prepare(
            prompt,
            history=history,
            documents=documents,
            tool_choice=tool_choice,
            limits=limits,
            sampling=sampling,
            deps=deps,
        )
        return await run.execute(lambda event: None)

    def run_sync(
        self,
        prompt: Prompt,
        *,
        history: History | None = None,
        documents: Sequence[Document] = (),
        tool_choice: str | None = None,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> RunResult:
        """As :meth:`run`, for programs without an event loop.

        Raises:
            UserError: An event loop is running in this thread.
        """
        result: RunResult = run_sync(
            self.run(
                prompt,
                history=history,
                documents=documents,
                tool_choice=tool_choice,
                limits=limits,
                sampling=sampling,
                deps=deps,
            )
        )
        return result

    def stream(
        self,
        prompt: Prompt,
        *,
        history: History | None = None,
        documents: Sequence[Document] = (),
        tool_choice: str | None = None,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> AsyncIterator[Event]:
        """As :meth:`run`, giving each event as it happens; the last is :class:`RunFinished`.

        Closing the iterator early cancels the run.
        """
        run = self.prepare(
            prompt,
            history=history,
            documents=documents,
            tool_choice=tool_choice,
            limits=limits,
            sampling=sampling,
            deps=deps,
        )
        return self.events_of(run)

    async def resume(
        self,
        paused: RunResult,
        approve: Answers,
        *,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> RunResult:
        """Go on with a run that waits for approval, perhaps one of another process.

        The calls that are approved run now, those denied are told to the model, and the run
        goes on as if it had not paused; calls that have run do not run again.

        Args:
            paused: A result whose ``stop_reason`` is ``approval``; also a saved and loaded one.
            approve: Answers by the ids of the calls in :attr:`RunResult.pending`, or one answer
                for all: ``True``, ``False``, ``("deny", reason)``, a dict of other arguments, or
                an :class:`~agentkit.Approval`. Calls without an answer go on waiting.
            limits: In place of the agent's. Steps and tokens before the pause count.
            sampling: In place of the agent's.
            deps: Any object, for the tools.

        Raises:
            UserError: The run does not wait, an answer is for no call that does, or a call was
                allowed with arguments that its tool cannot take.
        """
        run = self.prepare_resumed(
            paused, read_answers(paused, approve), limits=limits, sampling=sampling, deps=deps
        )
        return await run.execute(lambda event: None)

    def resume_sync(
        self,
        paused: RunResult,
        approve: Answers,
        *,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> RunResult:
        """As :meth:`resume`, for programs without an event loop."""
        result: RunResult = run_sync(
            self.resume(paused, approve, limits=limits, sampling=sampling, deps=deps)
        )
        return result

    def resume_stream(
        self,
        paused: RunResult,
        approve: Answers,
        *,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> AsyncIterator[Event]:
        """As :meth:`resume`, giving each event as it happens; see :meth:`stream`."""
        run = self.prepare_resumed(
            paused, read_answers(paused, approve), limits=limits, sampling=sampling, deps=deps
        )
        return self.events_of(run)

    def as_runnable(self) -> AgentRunnable:
        """The agent for LangChain's chains and LangGraph's graphs."""
        from agentkit.langchain.agent_runnable import AgentRunnable

        return AgentRunnable(self)

    async def aclose(self) -> None:
        """Free the model. The agent must not be used afterwards."""
        await self.model.aclose()

    def close(self) -> None:
        """As :meth:`aclose`, for programs without an event loop."""
        run_sync(self.aclose())

    async def __aenter__(self) -> Agent:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def events_of(self, run: Run) -> AsyncIterator[Event]:
        """The events of a run from :meth:`prepare`, as they happen."""
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        async def execute() -> RunResult:
            try:
                return await run.execute(events.put_nowait)
            finally:
                events.put_nowait(None)

        task = asyncio.create_task(execute(), name=f"{self.name}-run")
        try:
            while (event := await events.get()) is not None:
                yield event
            yield RunFinished(await task)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def prepare_resumed(
        self,
        paused: RunResult,
        answers: Mapping[str, Approval],
        *,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> Run:
        """As :meth:`prepare`, for a run that goes on."""
        return Run.resumed(
            self.model,
            self._settings.replace(limits=limits, sampling=sampling),
            paused,
            answers,
            examples=self.examples,
            deps=deps,
        )

    def prepare(
        self,
        prompt: Prompt,
        *,
        history: History | None = None,
        documents: Sequence[Document] = (),
        tool_choice: str | None = None,
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        deps: Any = None,
    ) -> Run:
        """A run that has not begun, for whoever wants a journal of it; as :meth:`run`."""
        settings = self._settings.replace(tool_choice=tool_choice, limits=limits, sampling=sampling)
        if tool_choice is not None:
            settings.check_tool_choice(tool_choice)
        new = normalize_messages(prompt)
        if not new:
            raise UserError("the prompt is empty: pass the user's text or at least one message")
        return Run(
            self.model,
            settings,
            examples=self.examples,
            history=with_system(history, self.system),
            new_messages=new,
            documents=documents,
            deps=deps,
        )
