"""Tools from agentkit's form to LangChain's and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.documents import Document as LangChainDocument
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ValidationError

from agentkit.agent import as_tool
from agentkit.errors import ToolError, ToolTimeoutError, UserError
from agentkit.langchain import background
from agentkit.langchain.documents import document_from_langchain, document_to_langchain
from agentkit.langchain.messages import messages_from_langchain
from agentkit.messages import new_call_id
from agentkit.retrieval import ScoredDocument
from agentkit.tools import Tool, ToolContext, ToolDefinition, ToolOutput, to_observation
from agentkit.validation import ArgumentValidator

__all__ = ["LangChainTool", "from_langchain", "to_langchain"]


def to_langchain(tool: Tool | Callable[..., Any], *, deps: Any = None) -> StructuredTool:
    """An agentkit tool as LangChain's.

    Arguments are checked, and mended where that is safe, as in an agent's run. Called with a
    tool call it gives a message whose artifact is the documents that the result is taken from,
    or else the result itself; what goes wrong becomes a message with the status ``error``.

    Args:
        tool: A tool, or a plain function, which is made into one.
        deps: What the tool finds as ``deps`` in its context.

    Raises:
        SchemaError: The tool's schema or the function's signature cannot be used.
    """
    made = as_tool(tool)
    if not isinstance(made, Tool):
        raise UserError(f"{tool!r:.100} is neither an agentkit tool nor a function")
    validator = ArgumentValidator(made.definition)

    async def call(**arguments: Any) -> tuple[str, Any]:
        validated = validator.validate(arguments)
        if not validated.ok:
            raise ToolException(
                f"the arguments of {made.definition.name} are not valid.\n{validated.explain()}"
            )
        value = await _call(made, validated.arguments, deps)
        return to_observation(value), _artifact(value)

    def call_sync(**arguments: Any) -> tuple[str, Any]:
        return background.run(call(**arguments))

    return StructuredTool(
        name=made.definition.name,
        # LangChain insists on a description.
        description=made.definition.description or made.definition.name,
        args_schema={"properties": {}, **made.definition.parameters, "type": "object"},
        func=call_sync,
        coroutine=call,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


def from_langchain(tool: BaseTool) -> LangChainTool:
    """A LangChain tool as agentkit's. See :class:`LangChainTool`."""
    return LangChainTool(tool)


class LangChainTool:
    """A LangChain tool that an agentkit agent can call.

    A :class:`~langchain_core.tools.ToolException` becomes a :class:`~agentkit.ToolError`, and
    documents in a result's artifact become the result's sources.

    Args:
        tool: The tool.
        timeout: Seconds that one call may take; ``None`` for the agent's default.

    Raises:
        UserError: It is not a LangChain tool.
        SchemaError: Its name or its schema cannot be used.
    """

    def __init__(self, tool: BaseTool, *, timeout: float | None = None) -> None:
        if not isinstance(tool, BaseTool):
            raise UserError(f"{tool!r:.100} is not a LangChain tool")
        self.tool = tool
        self.timeout = timeout
        """Seconds that one call may take; ``None`` for the agent's default."""
        self.definition = ToolDefinition.from_openai(convert_to_openai_tool(tool))
        """What the model is told."""

    def __repr__(self) -> str:
        return f"LangChainTool({self.definition.name!r})"

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Call the LangChain tool. See :meth:`agentkit.Tool.call`."""
        call = {
            "name": self.tool.name,
            "args": dict(arguments),
            "id": context.call_id or new_call_id(),
            "type": "tool_call",
        }
        try:
            result = await self.tool.ainvoke(call)
        except ToolException as error:
            raise ToolError(str(error)) from error
        except ValidationError as error:
            problems = "; ".join(_problem(detail) for detail in error.errors())
            raise ToolError(f"the arguments are not valid: {problems}") from error
        if not isinstance(result, ToolMessage):
            return ToolOutput(content=result)
        text = messages_from_langchain([result])[0].content
        if result.status == "error":
            raise ToolError(text)
        return ToolOutput(content=text, sources=_sources(result.artifact))


async def _call(tool: Tool, arguments: Mapping[str, Any], deps: Any) -> Any:
    name = tool.definition.name
    context = ToolContext(tool_name=name, call_id=new_call_id(), deps=deps)
    try:
        async with asyncio.timeout(tool.timeout) as limit:
            return await tool.call(arguments, context)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise ToolException(str(ToolTimeoutError(name, tool.timeout or 0.0))) from error
    except ToolError as error:
        raise ToolException(str(error)) from error
    finally:
        context.cancelled.set()


def _artifact(value: Any) -> Any:
    if not isinstance(value, ToolOutput):
        return value
    if value.sources:
        return [document_to_langchain(hit.document) for hit in value.sources]
    return value.content


def _sources(artifact: Any) -> tuple[ScoredDocument, ...]:
    if not isinstance(artifact, list | tuple):
        return ()
    return tuple(
        # LangChain's retrievers give no scores, but the best document first.
        ScoredDocument(document_from_langchain(document), 1 / rank)
        for rank, document in enumerate(artifact, start=1)
        if isinstance(document, LangChainDocument)
    )


def _problem(detail: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else str(detail["msg"])
