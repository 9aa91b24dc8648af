"""An agentkit agent as a LangChain runnable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import AddableDict

from agentkit.errors import UserError
from agentkit.events import Event, RunFinished, StepFinished, TextDelta
from agentkit.langchain import background
from agentkit.langchain.documents import documents_for_prompt
from agentkit.langchain.messages import messages_from_langchain, messages_to_langchain
from agentkit.langchain.responses import PROVIDER, usage_metadata
from agentkit.messages import Message
from agentkit.result import RunResult

if TYPE_CHECKING:
    from agentkit.agent import Agent

__all__ = ["AgentInput", "AgentRunnable"]

AgentInput: TypeAlias = str | PromptValue | Sequence[Any] | BaseMessage | Mapping[str, Any]
"""The user's text, messages, or ``{"messages": [...]}``."""


class AgentRunnable(Runnable[AgentInput, Any]):
    """An agent in LangChain's chains and LangGraph's graphs.

    Given text or messages it answers with an :class:`~langchain_core.messages.AIMessage`, whose
    ``response_metadata`` have the run's ``sources`` and ``stop_reason``. Given
    ``{"messages": [...]}`` it gives the same back with the run's messages appended, so it can
    be a node of a graph over messages.

    Streams give the text of every step as it is written, or dictionaries with the messages of
    each step. Keyword arguments go to :meth:`agentkit.Agent.run`.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.name = agent.name

    def invoke(self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the agent; works beside a running event loop, too."""

        def call(value: AgentInput) -> Any:
            return background.run(self._run(value, **kwargs))

        return self._call_with_config(call, input, config)

    async def ainvoke(
        self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        """Run the agent."""

        async def call(value: AgentInput) -> Any:
            return await self._run(value, **kwargs)

        return await self._acall_with_config(call, input, config)

    def stream(
        self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Run the agent, giving what it writes as it does. See the class."""

        def transform(values: Iterator[AgentInput], **options: Any) -> Iterator[Any]:
            for value in values:
                yield from background.iterate(partial(self._chunks, value, **options))

        yield from self._transform_stream_with_config(iter([input]), transform, config, **kwargs)

    async def astream(
        self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """As :meth:`stream`."""

        async def values() -> AsyncIterator[AgentInput]:
            yield input

        async def transform(given: AsyncIterator[AgentInput], **options: Any) -> AsyncIterator[Any]:
            async for value in given:
                async for chunk in self._chunks(value, **options):
                    yield chunk

        async for chunk in self._atransform_stream_with_config(
            values(), transform, config, **kwargs
        ):
            yield chunk

    async def _run(self, value: AgentInput, **options: Any) -> Any:
        given = _read(value)
        result = await self.agent.run(messages_from_langchain(given), **_run_options(options))
        if not isinstance(value, Mapping):
            return _answer(result)
        new = result.new_messages[len(given) :]
        return {**value, "messages": [*given, *messages_to_langchain(new)]}

    async def _chunks(self, value: AgentInput, **options: Any) -> AsyncGenerator[Any, None]:
        prompt = messages_from_langchain(_read(value))
        write = _StateWriter(len(prompt)) if isinstance(value, Mapping) else _answer_chunk
        stream: Any = self.agent.stream(prompt, **_run_options(options))
        async with aclosing(stream) as events:
            async for event in events:
                chunk = write(event)
                if chunk is not None:
                    yield chunk


class _StateWriter:
    """Turns events into updates of a state with ``messages``: each step's, as it ends."""

    def __init__(self, given: int) -> None:
        self._seen = given

    def __call__(self, event: Event) -> AddableDict | None:
        if isinstance(event, StepFinished):
            new: Sequence[Message] = event.messages
        elif isinstance(event, RunFinished):
            # What a step left behind that a limit cut off.
            new = event.result.new_messages[self._seen :]
        else:
            return None
        self._seen += len(new)
        return AddableDict(messages=messages_to_langchain(new)) if new else None


def _read(value: AgentInput) -> list[BaseMessage]:
    if isinstance(value, Mapping):
        if "messages" not in value:
            raise UserError(
                f"the agent's input is a dictionary without 'messages'; it has {list(value)!r:.100}"
            )
        value = value["messages"]
    if isinstance(value, str):
        return [HumanMessage(value)]
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, PromptValue):
        return value.to_messages()
    return convert_to_messages(value)


def _run_options(options: Mapping[str, Any]) -> dict[str, Any]:
    documents = documents_for_prompt(options.get("documents") or ())
    return {**options, "documents": documents}


def _answer(result: RunResult) -> AIMessage:
    last = messages_to_langchain(result.messages[-1:])[0]
    return AIMessage(
        result.output,
        usage_metadata=usage_metadata(result.usage),
        response_metadata=_metadata(result),
        additional_kwargs=last.additional_kwargs if isinstance(last, AIMessage) else {},
    )


def _answer_chunk(event: Event) -> AIMessageChunk | None:
    if isinstance(event, TextDelta):
        return AIMessageChunk(content=event.text)
    if not isinstance(event, RunFinished):
        return None
    answer = _answer(event.result)
    return AIMessageChunk(
        content="",
        chunk_position="last",
        usage_metadata=answer.usage_metadata,
        response_metadata=answer.response_metadata,
        additional_kwargs=answer.additional_kwargs,
    )


def _metadata(result: RunResult) -> dict[str, Any]:
    return {
        "model_name": result.model,
        "model_provider": PROVIDER,
        "stop_reason": result.stop_reason,
        "sources": [hit.to_dict() for hit in result.sources],
    }
