"""Output in the form of a schema: a call that the model is made to write, taken apart."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

__all__ = ["ANY_OBJECT", "Schema", "output_parser", "schema_tool", "with_raw"]

Schema: TypeAlias = dict[str, Any] | type
"""A pydantic model, a TypedDict, a JSON Schema or an OpenAI function definition."""

ANY_OBJECT: dict[str, Any] = {
    "title": "answer",
    "description": "The answer, as a JSON object.",
    "type": "object",
    "properties": {},
    "additionalProperties": True,
}
"""The schema of JSON mode, where none is given."""


def schema_tool(schema: Schema, *, strict: bool | None) -> dict[str, Any]:
    """The OpenAI function whose arguments are the output."""
    if isinstance(schema, dict) and schema.get("type") == "object" and "title" not in schema:
        # LangChain takes the function's name from the title, which JSON Schema does not ask for.
        schema = {"title": "output", **schema}
    tool: dict[str, Any] = convert_to_openai_tool(schema, strict=strict)
    return tool


def output_parser(schema: Schema, tool_name: str) -> Runnable[AIMessage, Any]:
    """What makes the output of a message that calls the schema's function."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    return JsonOutputKeyToolsParser(key_name=tool_name, first_tool_only=True)


def with_raw(
    model: Runnable[Any, AIMessage], parser: Runnable[AIMessage, Any]
) -> Runnable[Any, Any]:
    """``raw``, ``parsed`` and ``parsing_error``, as LangChain's ``include_raw`` asks for."""
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")
