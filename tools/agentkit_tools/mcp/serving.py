"""Agents' tools as an MCP server, for any client that speaks the protocol."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import mcp_types
from mcp.server import Server
from mcp.server.stdio import stdio_server

import agentkit
from agentkit.agent import as_tool
from agentkit.call_block import ParsedCall
from agentkit.errors import UserError
from agentkit.limits import Limits
from agentkit.result import CallRecord
from agentkit.tool_execution import ToolExecutor, ToolSet

if TYPE_CHECKING:
    import anyio

    from agentkit.tools import Tool

__all__ = ["make_mcp_server", "serve_mcp"]

_App = Callable[[Any, Any, Any], Awaitable[None]]


def make_mcp_server(
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    name: str = "agentkit",
    instructions: str | None = None,
    tool_timeout: float | None = 60.0,
    deps: Any = None,
) -> Server[Any]:
    """An MCP server that offers tools: the SDK's own object, to be run or mounted.

    Arguments are validated and mended as in an agent's run, and what goes wrong comes back as
    the same words, marked as an error. Mount it in a web application with
    ``server.streamable_http_app()``, or run it with :func:`serve_mcp`.

    Args:
        tools: Tools, or plain functions, which are made into tools.
        name: How the server introduces itself.
        instructions: What a client should know of how to use the tools.
        tool_timeout: Seconds for a call of a tool that names no limit of its own.
        deps: Handed to the tools in their context.

    Raises:
        UserError: There are no tools, or two have the same name.
        SchemaError: A tool's schema or signature cannot be used.
    """
    made = [as_tool(tool) for tool in tools]
    offered = ToolSet(made)
    if not made:
        raise UserError("there are no tools to serve")
    listing = mcp_types.ListToolsResult(tools=[_describe(tool) for tool in made])
    executor = ToolExecutor(
        offered, limits=Limits(), timeout=tool_timeout, on_error="feedback", deps=deps
    )

    async def list_tools(context: Any, params: Any) -> mcp_types.ListToolsResult:
        return listing

    async def call_tool(
        context: Any, params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        call = ParsedCall(raw="", name=params.name, arguments=params.arguments or {})
        (record,) = await executor.run(
            [call], step=0, started=lambda call: None, finished=lambda record: None
        )
        return _result(record)

    return Server(
        name,
        version=agentkit.__version__,
        instructions=instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def serve_mcp(
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    transport: Literal["stdio", "http"] = "stdio",
    host: str = "127.0.0.1",
    port: int = 8000,
    path: str = "/mcp",
    token_env: str | None = None,
    name: str = "agentkit",
    instructions: str | None = None,
    tool_timeout: float | None = 60.0,
    deps: Any = None,
    on_started: Callable[[str], None] | None = None,
    stdout: anyio.AsyncFile[str] | None = None,
) -> None:
    """Serve tools until the client goes (``stdio``) or the task is cancelled.

    Over ``stdio``, whatever tools print goes to standard error, as standard output belongs to the
    protocol.

    Args:
        tools: As for :func:`make_mcp_server`.
        transport: ``stdio``, for a client that starts this program; ``http``, for others.
        host: Address to listen at.
        port: To listen at; 0 for any that is free.
        path: Of the endpoint.
        token_env: Environment variable that holds a token; requests must then carry it as
            ``Authorization: Bearer``. Needed for any other than a loopback address, since whoever
            reaches the port may run the tools.
        name: As for :func:`make_mcp_server`, like the next three.
        instructions: For the client.
        tool_timeout: Seconds.
        deps: For the tools.
        on_started: Told the URL once it accepts requests.
        stdout: For ``stdio``: where the protocol goes instead of standard output.

    Raises:
        UserError: The address is taken or open to others without a token.
    """
    server = make_mcp_server(
        tools, name=name, instructions=instructions, tool_timeout=tool_timeout, deps=deps
    )
    if transport == "stdio":
        # The SDK turns the file descriptor away; Python's own buffer must be turned away as well,
        # or what it still holds would be written at the program's end.
        async with stdio_server(stdout=stdout) as (read, write):
            with contextlib.redirect_stdout(sys.stderr):
                await server.run(read, write, server.create_initialization_options())
        return
    if transport != "http":
        raise UserError(f"transport is {transport!r}; it must be 'stdio' or 'http'")
    token = _token(token_env, host)
    app: _App = server.streamable_http_app(streamable_http_path=path, host=host)
    await _serve_http(app if token is None else _Guarded(app, token), host, port, path, on_started)


def _describe(tool: Tool) -> mcp_types.Tool:
    definition = tool.definition
    read_only = bool(getattr(tool, "read_only", False))
    asks = getattr(tool, "approval", None) == "ask"
    annotations = None
    if read_only or asks:
        annotations = mcp_types.ToolAnnotations(
            read_only_hint=read_only, destructive_hint=asks if not read_only else None
        )
    return mcp_types.Tool(
        name=definition.name,
        description=definition.description,
        input_schema={"type": "object", **definition.parameters},
        annotations=annotations,
    )


def _result(record: CallRecord) -> mcp_types.CallToolResult:
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(type="text", text=record.observation)],
        is_error=record.status != "ok",
    )


def _token(variable: str | None, host: str) -> str | None:
    if variable is None:
        if not _is_loopback(host):
            raise UserError(
                f"at {host!r} anyone in the network could run the tools; name an environment "
                "variable that holds a token (token_env), or listen at 127.0.0.1"
            )
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise UserError(f"the environment variable {variable} is not set or empty")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Guarded:
    """Lets only requests with the token through."""

    def __init__(self, app: _App, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                headers = [(b"www-authenticate", b"Bearer"), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)


async def _serve_http(
    app: _App, host: str, port: int, path: str, on_started: Callable[[str], None] | None
) -> None:
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port}: {error.strerror}") from None
    # The access log would go to standard output.
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on")
    with listening:
        if on_started is not None:
            shown = f"[{host}]" if ":" in host else host
            on_started(f"http://{shown}:{listening.getsockname()[1]}{path}")
        await uvicorn.Server(config).serve(sockets=[listening])
