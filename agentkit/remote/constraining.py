"""What a server is told so that it writes calls which follow their schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentkit._schemas import LISTS, MAPS, SINGLES, plain
from agentkit.chat_format import TOOL_CALL_END, TOOL_CALL_START
from agentkit.tools import ToolDefinition

__all__ = ["call_schema", "is_strict", "structural_tag"]


def is_strict(schema: Any) -> bool:
    """Whether OpenAI's ``strict`` takes a schema: objects list all they may hold, all required."""
    if not isinstance(schema, Mapping):
        return True
    if "properties" in schema or schema.get("type") == "object":
        names = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != names:
            return False
    inner: list[Any] = [schema[key] for key in SINGLES if key in schema]
    for key in MAPS:
        inner += schema.get(key, {}).values()
    for key in LISTS:
        inner += schema.get(key, ())
    return all(map(is_strict, inner))


def call_schema(tools: Sequence[ToolDefinition], *, parallel: bool) -> dict[str, Any]:
    """The schema of a turn that is nothing but calls.

    Args:
        tools: Those that may be called.
        parallel: Whether there may be several: the turn is then a list.
    """
    definitions: dict[str, Any] = {}
    calls = []
    for tool in tools:
        definitions[tool.name] = _moved(plain(tool.parameters), f"#/$defs/{tool.name}")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "enum": [tool.name]},
                    "arguments": {"$ref": f"#/$defs/{tool.name}"},
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    one = calls[0] if len(calls) == 1 else {"anyOf": calls}
    whole = {"type": "array", "items": one, "minItems": 1} if parallel else one
    return {**whole, "$defs": definitions}


def structural_tag(
    tools: Iterable[ToolDefinition], *, required: bool, parallel: bool
) -> dict[str, Any]:
    """A response format of vLLM and SGLang: free text with calls, the calls under a grammar.

    Args:
        tools: Those that may be called.
        required: Whether there must be a call.
        parallel: Whether there may be several.
    """
    tags = [
        {
            "type": "tag",
            "begin": f'{TOOL_CALL_START}\n{{"name": "{tool.name}", "arguments": ',
            "content": {"type": "json_schema", "json_schema": plain(tool.parameters)},
            "end": f"}}\n{TOOL_CALL_END}",
        }
        for tool in tools
    ]
    return {
        "type": "structural_tag",
        "format": {
            "type": "triggered_tags",
            "triggers": [TOOL_CALL_START],
            "tags": tags,
            "at_least_one": required,
            "stop_after_first": not parallel,
        },
    }


def _moved(node: Any, place: str) -> Any:
    """A schema whose local references hold at another place; the place is without ``/`` or ``~``,
    as names of tools are."""
    if isinstance(node, list):
        return [_moved(item, place) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in node.items()
    }
