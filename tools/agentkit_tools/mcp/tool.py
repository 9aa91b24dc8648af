"""A tool of an MCP server as a tool of an agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentkit.errors import SchemaError
from agentkit.tools import ToolContext, ToolDefinition
from agentkit.validation import check_schema
from agentkit_tools._json_schema import modernized
from agentkit_tools._names import matches

if TYPE_CHECKING:
    import mcp_types

__all__ = ["MCPTool", "MCPToolHints", "chosen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MCPToolHints:
    """What a server says of a tool. The server may be wrong, or lie."""

    title: str | None = None
    """A name for people."""
    read_only: bool = False
    """It changes nothing."""
    destructive: bool = False
    """It may delete or overwrite."""
    idempotent: bool = False
    """Calling it twice does no more than calling it once."""
    open_world: bool = True
    """It deals with the world outside, as a web search does."""

    @classmethod
    def read(cls, annotations: mcp_types.ToolAnnotations | None) -> MCPToolHints:
        """From annotations; where there are none, nothing is claimed.

        Of a tool that is said to change things, MCP assumes that it destroys.
        """
        if annotations is None:
            return cls()
        read_only = annotations.read_only_hint is True
        destructive = annotations.destructive_hint
        if destructive is None:
            destructive = annotations.read_only_hint is False
        return cls(
            title=annotations.title,
            read_only=read_only,
            destructive=destructive and not read_only,
            idempotent=read_only or annotations.idempotent_hint is True,
            open_world=annotations.open_world_hint is not False,
        )


class MCPTool:
    """One tool of a server; made by :meth:`agentkit_tools.mcp.MCPServer.tools`.

    Args:
        send: Calls the server's tool of that name.
        name: As the model sees it.
        server_name: As the server calls it.
        description: For the model.
        parameters: JSON Schema of the arguments, as the server gives it.
        hints: What the server says of it.
        approval: ``ask`` if a person is to agree to each call.
        timeout: Seconds that one call may take.
        secrets: Gives what must never reach the model.

    Raises:
        SchemaError: The schema cannot be used.
    """

    def __init__(
        self,
        send: Callable[[str, dict[str, Any], bool], Awaitable[Any]],
        *,
        name: str,
        server_name: str,
        description: str,
        parameters: Mapping[str, Any],
        hints: MCPToolHints,
        approval: Literal["ask"] | None,
        timeout: float | None,
        secrets: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._send = send
        self._secrets = secrets
        self.server_name = server_name
        """The name that the server knows it by."""
        self.hints = hints
        """What the server says of it."""
        self.approval = approval
        """``ask`` if a person is to agree to each call."""
        self.timeout = timeout
        """Seconds that one call may take; ``None`` for the agent's default."""
        schema = modernized(parameters)
        if not isinstance(schema.get("properties", {}), Mapping):
            raise SchemaError(f"tool {name!r}: the schema's properties are no object")
        self.definition = ToolDefinition(
            name=name,
            description=description,
            parameters={"type": "object", "properties": {}, **schema},
        )
        """What the model is told."""
        check_schema(self.definition.parameters, tool_name=name)

    @classmethod
    def read(
        cls,
        tool: mcp_types.Tool,
        send: Callable[[str, dict[str, Any], bool], Awaitable[Any]],
        *,
        name: str,
        approval: Literal["hints", "always", "never"],
        timeout: float | None,
        secrets: Callable[[], tuple[str, ...]],
    ) -> MCPTool:
        """From what a server lists; ``approval`` is as for ``MCPServer.tools``."""
        hints = MCPToolHints.read(tool.annotations)
        ask = approval == "always" or (approval == "hints" and hints.destructive)
        return cls(
            send,
            name=name,
            server_name=tool.name,
            description=(tool.description or tool.title or hints.title or "").strip(),
            parameters=tool.input_schema,
            hints=hints,
            approval="ask" if ask else None,
            timeout=timeout,
            secrets=secrets,
        )

    def __repr__(self) -> str:
        return f"MCPTool({self.definition.name!r})"

    @property
    def read_only(self) -> bool:
        """Whether the server says that it changes nothing."""
        return self.hints.read_only

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never reach the model."""
        return self._secrets()

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Have the server do it. Cancelling the call tells the server so.

        Args:
            arguments: Valid against ``definition.parameters``.
            context: Of this call; not used.

        Returns:
            JSON or text; images and the like are described in words.

        Raises:
            ToolError: The server cannot be reached, or says that it failed.
        """
        return await self._send(self.server_name, dict(arguments), self.hints.idempotent)


def chosen(
    listed: Iterable[mcp_types.Tool], include: Sequence[str] | None, exclude: Sequence[str]
) -> list[mcp_types.Tool]:
    """The tools that are asked for and can be called; see ``MCPServer.tools``."""
    return [
        tool
        for tool in listed
        if (include is None or matches([tool.name], include))
        and not matches([tool.name], exclude)
        and not _needs_task(tool)
    ]


def _needs_task(tool: mcp_types.Tool) -> bool:
    """Whether it can be called as a task only, which is not supported."""
    return tool.execution is not None and tool.execution.task_support == "required"
