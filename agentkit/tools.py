"""What the agent needs to know of a tool: its definition, and how to call it.

Ready tools (``@tool``, ``HTTPTool`` and others) live in ``agentkit_tools``; any object with a
``definition``, a ``timeout`` and an async ``call`` works in their place.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agentkit.errors import SchemaError

if TYPE_CHECKING:
    from agentkit.retrieval import ScoredDocument

__all__ = ["Tool", "ToolContext", "ToolDefinition", "ToolOutput", "to_observation"]

# The rule of OpenAI's API for function names, which Granite's training data follows.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDefinition:
    """An OpenAI function definition: what the model is told of a tool."""

    name: str
    """Unique among an agent's tools: letters, digits, ``_``, ``-`` or ``.``; at most 64."""
    description: str = ""
    """What it does and when to use it, in the model's words."""
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )
    """JSON Schema (draft 2020-12) of the arguments object."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SchemaError(
                f"tool name {self.name!r} is not usable: begin with a letter or '_' and use at "
                "most 64 letters, digits, '_', '-' or '.'"
            )
        if self.parameters.get("type", "object") != "object":
            raise SchemaError(
                f'tool {self.name!r}: the parameters\' schema must have "type": "object", '
                f"not {self.parameters.get('type')!r}"
            )

    def to_openai(self) -> dict[str, Any]:
        """``{"type": "function", "function": {...}}``, as prompts show it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
            },
        }

    @classmethod
    def from_openai(cls, data: Mapping[str, Any]) -> ToolDefinition:
        """Read an OpenAI function definition, with or without its ``function`` envelope.

        Raises:
            SchemaError: There is no usable name or the parameters are not an object schema.
        """
        function = data.get("function", data)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise SchemaError(
                f"not an OpenAI function definition (no function name in it): {data!r:.200}"
            )
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        if not isinstance(parameters, Mapping):
            raise SchemaError(
                f"tool {function['name']!r}: 'parameters' must be a JSON Schema object, "
                f"not {parameters!r:.100}"
            )
        return cls(
            name=function["name"],
            description=function.get("description") or "",
            parameters=parameters,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a tool may know of the call that it serves."""

    tool_name: str
    """The name under which it was called."""
    call_id: str = ""
    """Identifier of the call within the conversation."""
    step: int = 0
    """Index of the agent's step, from 0."""
    deps: Any = None
    """The ``deps`` object that the program passed to the run."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the call timed out or the run was cancelled.

    A synchronous tool cannot be interrupted from outside; one that runs long should look at
    this now and then and return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput:
    """A tool's return value with more to it than its text. Plain values need no wrapping."""

    content: Any
    """What the model sees: text, or anything JSON can hold."""
    sources: Sequence[ScoredDocument] = ()
    """Documents that the content is taken from; they join the run's sources."""
    repairs: Sequence[str] = ()
    """What the tool mended in its input or output, one sentence each; joins the record."""


@runtime_checkable
class Tool(Protocol):
    """Anything that the model may call."""

    definition: ToolDefinition
    """What the model is told."""
    timeout: float | None
    """Seconds that one call may take; ``None`` for the agent's default."""

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Do the work.

        Args:
            arguments: Valid against ``definition.parameters``.
            context: Of this call.

        Returns:
            Text, anything JSON can hold, or a :class:`ToolOutput`.

        Raises:
            ToolError: To tell the model, in its words, what to do otherwise. Any other
                exception counts as the tool's own failure.
        """
        ...


def to_observation(value: Any) -> str:
    """The text under which a tool's return value is shown to the model.

    Text stays as it is; everything else is written as JSON, non-ASCII kept, values that JSON
    does not know by way of pydantic (dataclasses, models, dates, sets ...) or ``str``.
    """
    if isinstance(value, ToolOutput):
        value = value.content
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        from pydantic_core import to_json

        try:
            return to_json(value, fallback=str, inf_nan_mode="constants").decode("utf-8")
        except ValueError:
            return str(value)
