"""The tools, resources and prompts of an MCP server, for agents."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import warnings
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import mcp_types
from mcp import Client, MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from agentkit.errors import SchemaError, ToolError, UserError
from agentkit.messages import AssistantMessage, Message, UserMessage
from agentkit_tools._names import check_known, matches, tool_name
from agentkit_tools.mcp import _background
from agentkit_tools.mcp._connection import Callbacks, Connection, MCPConnectionError
from agentkit_tools.mcp._content import block_text, result_value
from agentkit_tools.mcp._endpoints import HTTPEndpoint, StdioEndpoint
from agentkit_tools.mcp.resources import (
    MCPContent,
    MCPPrompt,
    MCPPromptArgument,
    MCPResource,
    ResourceTool,
)
from agentkit_tools.mcp.tool import MCPTool, MCPToolHints

if TYPE_CHECKING:
    from types import TracebackType

    import httpx2

    from agentkit.tools import Tool
    from agentkit_tools.auth import Auth

__all__ = ["MCPServer"]

T = TypeVar("T")

logger = logging.getLogger(__name__)
# What servers log is told to a program that has set up logging, and to nobody else.
logging.getLogger("agentkit_tools.mcp").addHandler(logging.NullHandler())

_MAX_PAGES = 100
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO}


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
        timeout: float | None,
        connect_timeout: float,
        attempts: int,
        max_result_chars: int,
        on_log: Callable[[str, Any], None] | None,
        on_progress: Callable[[str, float, float | None, str | None], None] | None,
    ) -> None:
        for option, value in (("timeout", timeout), ("connect_timeout", connect_timeout)):
            if value is not None and not value > 0:
                raise UserError(f"MCP server {name!r}: {option} must be more than 0 s, not {value}")
        if attempts < 1 or max_result_chars < 1:
            raise UserError(f"MCP server {name!r}: attempts and max_result_chars must be 1 or more")
        self.name = name
        """How errors and logs name it."""
        self.timeout = timeout
        """Seconds for one request; ``None`` for no limit but the agent's."""
        self._max_chars = max_result_chars
        self._secrets = endpoint.secrets
        self._on_progress = on_progress
        self._state = _State(name, on_log)
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
        timeout: float | None = 60.0,
        connect_timeout: float = 30.0,
        attempts: int = 4,
        max_result_chars: int = 50_000,
        on_log: Callable[[str, Any], None] | None = None,
        on_progress: Callable[[str, float, float | None, str | None], None] | None = None,
    ) -> MCPServer:
        """A program that is started and spoken to through pipes.

        Args:
            command: The program.
            args: Its arguments.
            env: Environment variables for it. Of this program's own it gets only ``PATH``,
                ``HOME`` and the like, so that secrets go where they are sent.
            cwd: Folder to start it in.
            name: How errors and logs name it; by default the command.
            timeout: Seconds for one request.
            connect_timeout: Seconds for starting and greeting it.
            attempts: How often to try to start it again after it has ended.
            max_result_chars: A longer result is cut, and the model told so.
            on_log: Told of the server's log messages: level and data. Called in another thread,
                as is ``on_progress``; both must be quick.
            on_progress: Told how far a call is: tool, progress, total, and a text.
        """
        return cls(
            StdioEndpoint(command, args, env or {}, cwd),
            name=name or Path(command).name,
            timeout=timeout,
            connect_timeout=connect_timeout,
            attempts=attempts,
            max_result_chars=max_result_chars,
            on_log=on_log,
            on_progress=on_progress,
        )

    @classmethod
    def http(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Auth | httpx2.Auth | None = None,
        name: str | None = None,
        timeout: float | None = 60.0,
        connect_timeout: float = 30.0,
        attempts: int = 4,
        max_result_chars: int = 50_000,
        on_log: Callable[[str, Any], None] | None = None,
        on_progress: Callable[[str, float, float | None, str | None], None] | None = None,
    ) -> MCPServer:
        """A service that is spoken to over streamable HTTP.

        Args:
            url: Its endpoint, such as ``https://example.org/mcp``.
            headers: Sent with each request.
            auth: Credentials, such as :class:`~agentkit_tools.auth.BearerAuth`, or an
                ``httpx2.Auth`` such as the SDK's ``mcp.client.auth.OAuthClientProvider``.
            name: How errors and logs name it; by default the URL's host.
            timeout: As for :meth:`stdio`, like all that follow.
            connect_timeout: Seconds.
            attempts: How often to try to reach it.
            max_result_chars: Of one result.
            on_log: Told of log messages.
            on_progress: Told of progress.
        """
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"MCP server {url!r}: the URL must begin with http:// or https:// and a host"
            )
        if parts.username is not None:
            raise UserError(f"MCP server {parts.hostname}: no password in the URL; use auth=...")
        if auth is not None and hasattr(auth, "secrets"):
            auth.secrets()  # raises now rather than in the middle of a run
        return cls(
            HTTPEndpoint(url, headers or {}, auth),
            name=name or parts.hostname,
            timeout=timeout,
            connect_timeout=connect_timeout,
            attempts=attempts,
            max_result_chars=max_result_chars,
            on_log=on_log,
            on_progress=on_progress,
        )

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
        listed = await self._listed("tools", lambda c, cursor: c.list_tools(cursor=cursor))
        known = [tool.name for tool in listed]
        where = f"MCP server {self.name!r}: include"
        check_known(list(include or ()), known, where=where)
        made: list[Tool] = []
        taken: set[str] = set()
        for tool in listed:
            if include is not None and not matches([tool.name], include):
                continue
            if matches([tool.name], exclude) or _needs_task(tool):
                continue
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
            made.append(await self._resource_tool(name))
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

        async def progress(done: float, total: float | None, message: str | None) -> None:
            if report is not None:
                report(name, done, total, message)

        async def send(client: Client) -> mcp_types.CallToolResult:
            return await client.call_tool(
                name,
                dict(arguments),
                read_timeout_seconds=self.timeout,
                progress_callback=None if report is None else progress,
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
        listed = await self._listed("resources", lambda c, cur: c.list_resources(cursor=cur))
        templates = await self._listed(
            "resource_templates", lambda c, cur: c.list_resource_templates(cursor=cur)
        )
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
        return [
            MCPContent(
                uri=part.uri,
                mime_type=part.mime_type,
                text=part.text if isinstance(part, mcp_types.TextResourceContents) else None,
                data=base64.b64decode(part.blob)
                if isinstance(part, mcp_types.BlobResourceContents)
                else None,
            )
            for part in result.contents
        ]

    async def prompts(self) -> list[MCPPrompt]:
        """The prompts that the server offers."""
        listed = await self._listed("prompts", lambda c, cur: c.list_prompts(cursor=cur))
        return [
            MCPPrompt(
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
            for prompt in listed
        ]

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
            known = {prompt.name: prompt for prompt in await self.prompts()}
            where = f"MCP server {self.name!r}"
            check_known([name], list(known), where=where, kind="prompt")
            asked = known[name].arguments if name in known else ()
            missing = [a.name for a in asked if a.required and a.name not in (arguments or {})]
            why = f"it needs {', '.join(missing)}" if missing else error.message[:500]
            raise UserError(f"{where}, prompt {name!r}: {why}") from None
        make = {"user": UserMessage, "assistant": AssistantMessage}
        return [make[message.role](block_text(message.content)) for message in result.messages]

    # --- beneath ----------------------------------------------------------------------------

    def _tool(
        self, tool: mcp_types.Tool, name: str, approval: Literal["hints", "always", "never"]
    ) -> MCPTool:
        hints = MCPToolHints.read(tool.annotations)
        ask = approval == "always" or (approval == "hints" and hints.destructive)
        return MCPTool(
            self._send_call,
            name=name,
            server_name=tool.name,
            description=(tool.description or tool.title or hints.title or "").strip(),
            parameters=tool.input_schema,
            hints=hints,
            approval="ask" if ask else None,
            timeout=self.timeout,
            secrets=self._secrets,
        )

    async def _send_call(self, name: str, arguments: dict[str, Any], repeatable: bool) -> Any:
        return await self.call_tool(name, arguments, repeatable=repeatable)

    async def _resource_tool(self, name: str) -> ResourceTool:
        return ResourceTool(
            self.read_resource,
            name=name,
            resources=await self.resources(),
            max_chars=self._max_chars,
            timeout=self.timeout,
        )

    async def _request(self, send: Callable[[Client], Awaitable[T]], *, repeatable: bool) -> T:
        request = self._connection.request(send, repeatable=repeatable, timeout=self.timeout)
        return await _background.run(request)

    async def _listed(
        self, kind: str, ask: Callable[[Client, str | None], Awaitable[Any]]
    ) -> list[Any]:
        """All pages of a list, from memory if the server has not said that it changed."""
        capability = kind.partition("_")[0].rstrip("s") + "s"
        kept = self._state.lists.get(kind)
        if kept is not None:
            return kept

        async def send(client: Client) -> list[Any]:
            if getattr(client.server_capabilities, capability, None) is None:
                return []
            items: list[Any] = []
            cursor: str | None = None
            for _ in range(_MAX_PAGES):
                page = await ask(client, cursor)
                items += getattr(page, kind)
                cursor = page.next_cursor
                if not cursor:
                    break
            return items

        changes = self._state.changes
        try:
            items = await self._request(send, repeatable=True)
        except MCPError as error:
            if error.code == mcp_types.METHOD_NOT_FOUND:
                items = []
            else:
                raise ToolError(
                    f"the MCP server {self.name!r} does not list its {kind}: {error.message[:300]}"
                ) from None
        if changes == self._state.changes:
            self._state.lists[kind] = items
        return items


def _needs_task(tool: mcp_types.Tool) -> bool:
    """Whether it can be called as a task only, which is not supported."""
    return tool.execution is not None and tool.execution.task_support == "required"


class _State:
    """What notifications change; apart from the server, which must be free to go."""

    def __init__(self, name: str, on_log: Callable[[str, Any], None] | None) -> None:
        self.lists: dict[str, list[Any]] = {}
        self.changes = 0
        self._on_log = on_log
        self._logger = logging.getLogger(f"{__name__}.{name}")

    def _changed(self, *kinds: str) -> None:
        self.changes += 1
        for kind in kinds:
            self.lists.pop(kind, None)

    async def on_message(self, message: Any) -> None:
        """Of a session of the protocol before 2026."""
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._changed("tools")
        elif isinstance(message, mcp_types.PromptListChangedNotification):
            self._changed("prompts")
        elif isinstance(message, mcp_types.ResourceListChangedNotification):
            self._changed("resources", "resource_templates")

    async def on_log_message(self, params: mcp_types.LoggingMessageNotificationParams) -> None:
        """A log message of the server."""
        self._logger.log(_LEVELS.get(params.level, logging.WARNING), "%s", params.data)
        if self._on_log is not None:
            try:
                self._on_log(params.level, params.data)
            except Exception:
                logger.exception("on_log failed")

    async def follow(self, client: Client) -> None:
        """Of a session of the protocol since 2026, which sends changes to those who ask."""
        self._changed(*self.lists.copy())  # the server may be another than before
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return
        has = client.server_capabilities
        wanted = {
            f"{kind}_list_changed": bool(part is not None and part.list_changed)
            for kind, part in (
                ("tools", has.tools),
                ("prompts", has.prompts),
                ("resources", has.resources),
            )
        }
        while any(wanted.values()):
            with contextlib.suppress(SubscriptionLost, MCPError, TimeoutError):
                async with client.listen(**wanted) as events:
                    async for event in events:
                        kind = type(event).__name__
                        self._changed(
                            *(
                                k
                                for k in ("tools", "prompts", "resources", "resource_templates")
                                if kind.lower().startswith(k.partition("_")[0].rstrip("s"))
                            )
                        )
            self._changed(*self.lists.copy())  # what was missed meanwhile is not told again
            await asyncio.sleep(1.0)
