"""What MCP servers offer beside tools: resources to read, and prompts."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit.errors import ToolError, UserError
from agentkit.tools import ToolContext, ToolDefinition
from agentkit_tools._names import check_known
from agentkit_tools.mcp._content import cut, describe_blob

if TYPE_CHECKING:
    import mcp_types

__all__ = [
    "MCPContent",
    "MCPPrompt",
    "MCPPromptArgument",
    "MCPResource",
    "ResourceTool",
    "explain_prompt",
]

_MAX_LISTED = 30
_MAX_DESCRIPTION = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class MCPResource:
    """Something that can be read."""

    uri: str
    """Where; of a template, with ``{names}`` to fill in."""
    name: str
    """What the server calls it."""
    description: str = ""
    """What it is."""
    mime_type: str | None = None
    """Its type, if the server says so."""
    size: int | None = None
    """Bytes, if the server says so."""
    is_template: bool = False
    """Whether ``uri`` has places to fill in."""

    @classmethod
    def read(cls, item: mcp_types.Resource | mcp_types.ResourceTemplate) -> MCPResource:
        """From an entry of the server's list."""
        template: str | None = getattr(item, "uri_template", None)
        return cls(
            uri=str(getattr(item, "uri", "")) if template is None else template,
            name=item.title or item.name,
            description=item.description or "",
            mime_type=item.mime_type,
            size=getattr(item, "size", None),
            is_template=template is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MCPContent:
    """One part of a resource: either text or bytes."""

    uri: str
    """Of the part."""
    mime_type: str | None
    """Its type, if the server says so."""
    text: str | None = None
    """The text."""
    data: bytes | None = None
    """The bytes, where it is no text."""

    @classmethod
    def read(
        cls, part: mcp_types.TextResourceContents | mcp_types.BlobResourceContents
    ) -> MCPContent:
        """From a part of the server's answer."""
        blob = getattr(part, "blob", None)
        return cls(
            uri=part.uri,
            mime_type=part.mime_type,
            text=getattr(part, "text", None),
            data=None if blob is None else base64.b64decode(blob),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MCPPromptArgument:
    """What a prompt asks for."""

    name: str
    """Of the argument."""
    description: str = ""
    """What it is."""
    required: bool = False
    """Whether the prompt needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MCPPrompt:
    """A prompt that a server offers."""

    name: str
    """For :meth:`~agentkit_tools.mcp.MCPServer.get_prompt`."""
    description: str = ""
    """What it is for."""
    arguments: tuple[MCPPromptArgument, ...] = ()
    """What it asks for."""

    @classmethod
    def read(cls, prompt: mcp_types.Prompt) -> MCPPrompt:
        """From an entry of the server's list."""
        return cls(
            name=prompt.name,
            description=prompt.description or prompt.title or "",
            arguments=tuple(
                MCPPromptArgument(
                    name=argument.name,
                    description=argument.description or "",
                    required=bool(argument.required),
                )
                for argument in prompt.arguments or ()
            ),
        )


def explain_prompt(
    prompts: Sequence[MCPPrompt], name: str, arguments: Mapping[str, str], *, where: str
) -> None:
    """Say what is wrong with asking for a prompt, if that can be told.

    Raises:
        UserError: There is no such prompt, or an argument is missing.
    """
    known = {prompt.name: prompt for prompt in prompts}
    check_known([name], list(known), where=where, kind="prompt")
    asked = known[name].arguments if name in known else ()
    missing = [a.name for a in asked if a.required and a.name not in arguments]
    if missing:
        raise UserError(f"{where}, prompt {name!r}: it needs {', '.join(missing)}")


class ResourceTool:
    """Lets the model read a server's resources.

    Args:
        read: Reads one by its URI.
        name: Of the tool.
        resources: What there is; the tool's description lists it.
        max_chars: A longer text is cut.
        timeout: Seconds for one call.
    """

    approval = None

    def __init__(
        self,
        read: Callable[[str], Awaitable[list[MCPContent]]],
        *,
        name: str,
        resources: Sequence[MCPResource],
        max_chars: int,
        timeout: float | None,
    ) -> None:
        self._read = read
        self._max_chars = max_chars
        self.timeout = timeout
        """Seconds for one call; ``None`` for the agent's default."""
        uri: dict[str, Any] = {"type": "string", "description": "URI of the resource"}
        fixed = [resource.uri for resource in resources if not resource.is_template]
        if fixed and len(fixed) == len(resources) <= _MAX_LISTED:
            uri["enum"] = fixed
        self.definition = ToolDefinition(
            name=name,
            description="\n".join(["Read a resource by its URI.", *_listing(resources)]),
            parameters={
                "type": "object",
                "properties": {"uri": uri},
                "required": ["uri"],
                "additionalProperties": False,
            },
        )
        """What the model is told."""

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Read the resource; what is not text is described.

        Raises:
            ToolError: There is none of that URI.
        """
        parts = await self._read(arguments["uri"])
        if not parts:
            raise ToolError(f"{arguments['uri']} is empty")
        return cut("\n".join(map(_text, parts)), self._max_chars)


def _text(part: MCPContent) -> str:
    if part.text is not None:
        return part.text
    data = base64.b64encode(part.data or b"").decode("ascii")
    return describe_blob(f"resource {part.uri}", part.mime_type, data)


def _listing(resources: Sequence[MCPResource]) -> list[str]:
    lines = []
    for resource in resources[:_MAX_LISTED]:
        text = " ".join((resource.description or resource.name).split())
        lines.append(f"- {resource.uri}: {text[:_MAX_DESCRIPTION]}")
    if len(resources) > _MAX_LISTED:
        lines.append(f"and {len(resources) - _MAX_LISTED} more")
    return lines
