"""The agent: a model, its tools and documents, and the rules of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agentkit.errors import UserError
from agentkit.events import Event, RunFinished
from agentkit.limits import Limits
from agentkit.messages import Message, SystemMessage, normalize_messages
from agentkit.models.base import Model, Sampling
from agentkit.result import RunResult
from agentkit.retrieval import Document, Retriever, RetrieverTool
from agentkit.runner import Run, RunSettings
from agentkit.tool_execution import ToolSet
from agentkit.tools import Tool

if TYPE_CHECKING:
    from types import TracebackType

    from agentkit.langchain.agent_runnable import AgentRunnable

__all__ = ["Agent", "History", "Prompt", "as_tool"]

Prompt: TypeAlias = str | Iterable[Message | Mapping[str, Any]]
"""What a run begins with: the user's text, or messages."""
History: TypeAlias = RunResult | Iterable[Message | Mapping[str, Any]]
"""An earlier conversation: a run's result, or messages."""


class Agent:
    """Answers with a model that calls tools and reads documents, step by step.

    Args:
        model: A model, or what :class:`agentkit.TransformersModel` takes: a hub id, a folder, a
            ``.gguf`` file, ``embedded``. If not given: what the environment variable
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
        tool_timeout: Seconds for a call of a tool that names no limit of its own.
        on_tool_error: ``feedback`` shows the model what went wrong; ``raise`` ends the run with
            :class:`~agentkit.errors.ToolError`.
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
        tool_timeout: float | None = 30.0,
        on_tool_error: Literal["feedback", "raise"] = "feedback",
        name: str = "agent",
    ) -> None:
        if retrieval not in ("documents", "tool"):
            raise UserError(f"retrieval is {retrieval!r}; it must be 'documents' or 'tool'")
        if on_tool_error not in ("feedback", "raise"):
            raise UserError(f"on_tool_error is {on_tool_error!r}; it must be 'feedback' or 'raise'")
        self.name = name
        self.model = _as_model(model)
        self.system = system
        self.examples = tuple(normalize_messages(examples))
        all_tools = [as_tool(tool) for tool in tools]
        if retriever is not None and retrieval == "tool":
            all_tools.append(RetrieverTool(retriever, top_k=top_k or 4))
            retriever = None
        self._settings = RunSettings(
            tools=ToolSet(all_tools),
            retriever=retriever,
            top_k=top_k,
            limits=limits or Limits(),
            sampling=sampling or Sampling(),
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            constrain=constrain,
            tool_timeout=tool_timeout,
            on_tool_error=on_tool_error,
        )
        self._settings.check_tool_choice(tool_choice)

    @property
    def tools(self) -> ToolSet:
        """The agent's tools."""
        return self._settings.tools

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
        run = self._prepare(prompt, history, documents, tool_choice, limits, sampling, deps)
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
        result: RunResult = _run_sync(
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

    async def stream(
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
        run = self._prepare(prompt, history, documents, tool_choice, limits, sampling, deps)
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

    def as_runnable(self) -> AgentRunnable:
        """The agent for LangChain's chains and LangGraph's graphs."""
        from agentkit.langchain.agent_runnable import AgentRunnable

        return AgentRunnable(self)

    async def aclose(self) -> None:
        """Free the model. The agent must not be used afterwards."""
        await self.model.aclose()

    def close(self) -> None:
        """As :meth:`aclose`, for programs without an event loop."""
        _run_sync(self.aclose())

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

    def _prepare(
        self,
        prompt: Prompt,
        history: History | None,
        documents: Sequence[Document],
        tool_choice: str | None,
        limits: Limits | None,
        sampling: Sampling | None,
        deps: Any,
    ) -> Run:
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
            history=self._with_system(history),
            new_messages=new,
            documents=documents,
            deps=deps,
        )

    def _with_system(self, history: History | None) -> list[Message]:
        if isinstance(history, RunResult):
            earlier: list[Message] = list(history.messages)
        else:
            earlier = normalize_messages(history or ())
        if self.system is None:
            return earlier
        if earlier and isinstance(earlier[0], SystemMessage):
            earlier = earlier[1:]
        return [SystemMessage(self.system), *earlier]


def _as_model(model: Model | str | Path | None) -> Model:
    if isinstance(model, Model):
        return model
    if model is not None and not isinstance(model, str | Path):
        raise UserError(
            f"model is {model!r:.100}; pass a hub id, a path, 'embedded', or a Model such as "
            "TransformersModel"
        )
    from agentkit.models.transformers_model import TransformersModel

    return TransformersModel(model)


def as_tool(tool: Any) -> Tool:
    """The tool itself, or a plain function made into one; anything else as it is."""
    if isinstance(tool, Tool) or not callable(tool):
        return tool  # type: ignore[no-any-return]  # ToolSet says what is wrong with it
    import agentkit

    made: Tool = agentkit.tool(tool)
    return made


def _run_sync(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise UserError("an event loop is running here: use `await agent.run(...)` instead of run_sync")
