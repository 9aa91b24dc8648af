"""The tools, resources and prompts of an MCP server, for agents."""

from __future__ import annotations

import logging
import warnings
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack
from urllib.parse import urlsplit

import mcp_types
from mcp import Client, MCPError
from pydantic import ValidationError

from agentkit.errors import SchemaError, ToolError, UserError
from agentkit.messages import AssistantMessage, Message, UserMessage
from agentkit_tools._names import check_known, tool_name
from agentkit_tools.mcp import _background
from agentkit_tools.mcp._connection import Callbacks, Connection, MCPConnectionError
from agentkit_tools.mcp._content import block_text, result_value
from agentkit_tools.mcp._endpoints import HTTPEndpoint, StdioEndpoint
from agentkit_tools.mcp._state import ListKind, ServerState, list_all
from agentkit_tools.mcp.options import ServerOptions
from agentkit_tools.mcp.resources import (
    MCPContent,
    MCPPrompt,
    MCPResource,
    ResourceTool,
    explain_prompt,
)
from agentkit_tools.mcp.tool import MCPTool, chosen

if TYPE_CHECKING:
    from types import TracebackType

    import httpx2

    from agentkit.tools import Tool
    from agentkit_tools.auth import Auth

__all__ = ["MCPServer"]

T = TypeVar("T")

logger = logging.getLogger(__name__)


class MCPServer:
    """A server that speaks the Model Context Protocol, over pipes or HTTP.

    It is reached when it is first needed, in a thread of its own, so that one session serves
    every event loop of the program. A session that breaks is opened again, after a growing
    pause. ``async with`` closes it at the end of the block; without, it is closed when the
    program ends. Made by :meth:`stdio` or :meth:`http`::

        server = MCPServer.stdio("uvx", ["mcp-server-time"])
        agent = Agent(tools=server.tools_sync())

    The model may offer what a server sends as tools' results to the user, so connect to servers
    that you trust only.
    """

    def __init__(
        self,
        endpoint: StdioEndpoint | HTTPEndpoint,
        *,
        name: str,
        **options: Unpack[ServerOptions],
    ) -> None:
        self.name = name
        """How errors and logs name it."""
        self.timeout = options.get("timeout", 60.0)
        """Seconds for one request; ``None`` for no limit but the agent's."""
        connect_timeout, attempts = options.get("connect_timeout", 30.0), options.get("attempts", 4)
        self._max_chars = options.get("max_result_chars", 50_000)
        for option, value in (("timeout", self.timeout), ("connect_timeout", connect_timeout)):
            if value is not None and not value > 0:
                raise UserError(f"MCP server {name!r}: {option} must be more than 0 s, not {value}")
        if attempts < 1 or self._max_chars < 1:
            raise UserError(f"MCP server {name!r}: attempts and max_result_chars must be 1 or more")
        self._secrets = endpoint.secrets
        self._on_progress = options.get("on_progress")
        self._state = ServerState(name, options.get("on_log"))
        self._connection = Connection(
            endpoint,
            label=f"the MCP server {name!r}",
            connect_timeout=connect_timeout,
            attempts=attempts,
            # Held by the session's task: must not hold the server, or nobody could forget it.
            callbacks=Callbacks(
                message=self._state.on_message,
                log=self._state.on_log_message,
                connected=self._state.follow,
            ),
        )
        self._finalizer = weakref.finalize(self, _background.post, self._connection.close_soon)
        self._finalizer.atexit = False  # at exit there is time to wait for the process's end

    @classmethod
    def stdio(
        cls,
        command: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        name: str | None = None,
        **options: Unpack[ServerOptions],
    ) -> MCPServer:
        """A program that is started and spoken to through pipes.

        Args:
            command: The program.
            args: Its arguments.
            env: Environment variables for it. Of this program's own it gets only ``PATH``,
                ``HOME`` and the like, so that secrets go where they are sent.
            cwd: Folder to start it in.
            name: How errors and logs name it; by default the command.
            options: See :class:`ServerOptions`.
        """
        endpoint = StdioEndpoint(command, args, env or {}, cwd)
        return cls(endpoint, name=name or Path(command).name, **options)

    @classmethod
    def http(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Auth | httpx2.Auth | None = None,
        name: str | None = None,
        **options: Unpack[ServerOptions],
    ) -> MCPServer:
        """A service that is spoken to over streamable HTTP.

        Args:
            url: Its endpoint, such as ``https://example.org/mcp``.
            headers: Sent with each request.
            auth: Credentials, such as :class:`~agentkit_tools.auth.BearerAuth`, or an
                ``httpx2.Auth`` such as the SDK's ``mcp.client.auth.OAuthClientProvider``.
            name: How errors and logs name it; by default the URL's host.
            options: See :class:`ServerOptions`.

        Raises:
            UserError: The URL cannot be used, or a credential is missing.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"MCP server {url!r}: the URL must begin with http:// or https:// and a host"
            )
        if parts.username is not None:
            raise UserError(f"MCP server {parts.hostname}: no password in the URL; use auth=...")
        endpoint = HTTPEndpoint(url, headers or {}, auth)
        endpoint.secrets()  # raises now rather than in the middle of a run
        return cls(endpoint, name=name or parts.hostname, **options)

    def __repr__(self) -> str:
        return f"MCPServer({self.name!r})"

    # --- lifetime ---------------------------------------------------------------------------

    async def connect(self) -> None:
        """Reach the server now rather than with the first request.

        Raises:
            MCPConnectionError: It cannot be reached.
            UserError: Its command does not exist.
        """
        await _background.run(self._connection.client())

    async def aclose(self) -> None:
        """End the session, and the server's process. A later request begins a new one."""
        await _background.run(self._connection.aclose())

    def close(self) -> None:
        """As :meth:`aclose`, for programs without an event loop."""
        _background.run_blocking(self._connection.aclose())

    async def __aenter__(self) -> MCPServer:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def instructions(self) -> str:
        """What the server says of how to use it; fits an agent's ``system``."""
        client = await _background.run(self._connection.client())
        return client.instructions or ""

    # --- tools ------------------------------------------------------------------------------

    async def tools(
        self,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        prefix: str = "",
        resources: bool = False,
        approval: Literal["hints", "always", "never"] = "hints",
    ) -> list[Tool]:
        """The server's tools. The list is asked for once, and again when the server says that it
        has changed.

        Args:
            include: Take only these: names as the server gives them, or patterns (``read_*``).
            exclude: Leave these out.
            prefix: Stands before each name, to tell the tools of several servers apart.
            resources: Add a tool with which the model reads the server's resources.
            approval: Which tools get ``approval="ask"``: those that the server says destroy or
                change things (``hints``), all, or none.

        Raises:
            MCPConnectionError: The server cannot be reached.
            SchemaError: A tool that ``include`` names has a schema that cannot be used. Other such
                tools are left out with a warning.
            UserError: No tool has a name that ``include`` gives.
        """
        listed = await self._listed("tools")
        known = [tool.name for tool in listed]
        where = f"MCP server {self.name!r}: include"
        check_known(list(include or ()), known, where=where)
        made: list[Tool] = []
        taken: set[str] = set()
        for tool in chosen(listed, include, exclude):
            name = tool_name(prefix + tool.name, taken)
            try:
                made.append(self._tool(tool, name, approval))
            except SchemaError as error:
                if include is not None and tool.name in include:
                    raise
                warnings.warn(f"MCP server {self.name!r}: left out: {error}", stacklevel=2)
            else:
                taken.add(name)
        if resources:
            name = tool_name(f"{prefix}read_resource", taken)
            reader = ResourceTool(
                self.read_resource,
                name=name,
                resources=await self.resources(),
                max_chars=self._max_chars,
                timeout=self.timeout,
            )
            made.append(reader)
        return made

    def tools_sync(
        self,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        prefix: str = "",
        resources: bool = False,
        approval: Literal["hints", "always", "never"] = "hints",
    ) -> list[Tool]:
        """As :meth:`tools`, where no event loop runs; blocks until the server has answered."""
        return _background.run_blocking(
            self.tools(
                include=include,
                exclude=exclude,
                prefix=prefix,
                resources=resources,
                approval=approval,
            )
        )

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any], *, repeatable: bool = False
    ) -> Any:
        """Call a tool by the server's own name for it.

        Args:
            name: Of the tool.
            arguments: For it.
            repeatable: Whether the call may be sent again if the server goes away before it
                answers.

        Returns:
            JSON or text.

        Raises:
            ToolError: The server cannot be reached, or says that it failed.
        """
        report = self._on_progress

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            if report is not None:
                report(name, progress, total, message)

        async def send(client: Client) -> mcp_types.CallToolResult:
            return await client.call_tool(
                name,
                dict(arguments),
                read_timeout_seconds=self.timeout,
                progress_callback=None if report is None else on_progress,
            )

        try:
            result = await self._request(send, repeatable=repeatable)
        except MCPConnectionError as error:
            # How a server failed to start is for people; it may also hold what a model must not
            # see.
            logger.warning("%s", error)
            raise ToolError(
                f"the MCP server {self.name!r} cannot be reached; it may work later"
            ) from error
        except MCPError as error:
            raise ToolError(f"the MCP server refused the call: {error.message[:500]}") from None
        except (ValidationError, RuntimeError) as error:
            # RuntimeError is how the SDK reports a result that its own schema does not allow.
            reason = str(error).splitlines()[0]
            raise ToolError(f"the MCP server's result cannot be used: {reason[:300]}") from None
        value = result_value(result, max_chars=self._max_chars)
        if result.is_error:
            text = value if isinstance(value, str) else str(value)
            raise ToolError(text.removeprefix("Error: ") or "the tool failed and does not say why")
        return value

    # --- resources and prompts --------------------------------------------------------------

    async def resources(self) -> list[MCPResource]:
        """What can be read by its URI, and templates of such URIs."""
        listed = await self._listed("resources")
        templates = await self._listed("resource_templates")
        return [MCPResource.read(item) for item in (*listed, *templates)]

    async def read_resource(self, uri: str) -> list[MCPContent]:
        """Read a resource.

        Raises:
            ToolError: There is none, or it cannot be read.
        """
        try:
            result = await self._request(lambda c: c.read_resource(uri), repeatable=True)
        except MCPError as error:
            raise ToolError(f"{uri} cannot be read: {error.message[:500]}") from None
        return [MCPContent.read(part) for part in result.contents]

    async def prompts(self) -> list[MCPPrompt]:
        """The prompts that the server offers."""
        listed = await self._listed("prompts")
        return [MCPPrompt.read(prompt) for prompt in listed]

    async def get_prompt(
        self, name: str, arguments: Mapping[str, str] | None = None
    ) -> list[Message]:
        """A prompt, filled in, as messages to begin a run with.

        Args:
            name: Of the prompt.
            arguments: What it asks for.

        Raises:
            UserError: There is no such prompt, or an argument is missing.
        """
        values = None if arguments is None else dict(arguments)
        try:
            result = await self._request(lambda c: c.get_prompt(name, values), repeatable=True)
        except MCPError as error:
            where = f"MCP server {self.name!r}"
            explain_prompt(await self.prompts(), name, arguments or {}, where=where)
            raise UserError(f"{where}, prompt {name!r}: {error.message[:500]}") from None
        make = {"user": UserMessage, "assistant": AssistantMessage}
        return [make[message.role](block_text(message.content)) for message in result.messages]

    # --- beneath ----------------------------------------------------------------------------

    def _tool(
        self, tool: mcp_types.Tool, name: str, approval: Literal["hints", "always", "never"]
    ) -> MCPTool:
        return MCPTool.read(
            tool,
            self._send_call,
            name=name,
            approval=approval,
            timeout=self.timeout,
            secrets=self._secrets,
        )

    async def _send_call(self, name: str, arguments: dict[str, Any], repeatable: bool) -> Any:
        return await self.call_tool(name, arguments, repeatable=repeatable)

    async def _request(self, send: Callable[[Client], Awaitable[T]], *, repeatable: bool) -> T:
        request = self._connection.request(send, repeatable=repeatable, timeout=self.timeout)
        return await _background.run(request)

    async def _listed(self, kind: ListKind) -> list[Any]:
        """All pages of a list, from memory if the server has not said that it changed."""
        kept = self._state.lists.get(kind)
        if kept is not None:
            return kept
        changes = self._state.changes
        try:
            items = await self._request(lambda c: list_all(c, kind), repeatable=True)
        except MCPError as error:
            raise ToolError(
                f"the MCP server {self.name!r} does not list its {kind}: {error.message[:300]}"
            ) from None
        if changes == self._state.changes:
            self._state.lists[kind] = items
        return items
