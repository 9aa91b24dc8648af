"""An MCP server with one of everything, run by tests as a program of its own.

``python mcp_probe_server.py [--http PORT]``. Tools note in the file ``PROBE_LOG`` what they do, so
that tests see what really arrived.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

server = MCPServer("probe", instructions="Ask kindly.", log_level="WARNING")
log = Path(os.environ["PROBE_LOG"])


def note(text: str) -> None:
    with log.open("a") as file:
        file.write(f"{text}\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def pid() -> int:
    """The process's number."""
    return os.getpid()


@server.tool()
def structured(city: str) -> dict[str, Any]:
    """Weather as JSON."""
    return {"city": city, "days": [1, 2]}


@server.tool()
def mixed() -> CallToolResult:
    """Every kind of content."""
    page = TextResourceContents(uri="file:///a.txt", mime_type="text/plain", text="inside")
    return CallToolResult(
        content=[
            TextContent(type="text", text="hello"),
            ImageContent(type="image", mime_type="image/png", data="AAAA"),
            ResourceLink(type="resource_link", name="a", uri="file:///a.txt", description="A file"),
            EmbeddedResource(type="resource", resource=page),
        ]
    )


@server.tool()
def long(count: int) -> str:
    """Much text."""
    return "x" * count


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@server.tool(
    name="sleep/slowly", annotations=ToolAnnotations(read_only_hint=False, idempotent_hint=True)
)
async def sleep(seconds: float, ctx: Context) -> str:
    """Wait, and tell how far it is."""
    try:
        await ctx.report_progress(1, 2, "halfway")
        await ctx.warning("sleeping")
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    return "slept"


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def die() -> str:
    """End the process, whatever is asked."""
    note("die")
    os._exit(3)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def die_once() -> str:
    """End the process the first time only."""
    note("die_once")
    if log.read_text().count("die_once") == 1:
        os._exit(3)
    return "alive"


@server.tool()
async def learn(name: str, ctx: Context) -> str:
    """Add a tool."""
    server.add_tool(lambda: name, name=name, description="Learnt.")
    await ctx.notify_tools_changed()  # protocols since 2026
    if ctx.protocol_version is not None and ctx.protocol_version < "2026":
        await ctx.session.send_tool_list_changed()
    return "learnt"


@server.resource("probe://greeting", description="A greeting")
def greeting() -> str:
    return "good day"


@server.resource("probe://logo", mime_type="image/png")
def logo() -> bytes:
    return b"\x89PNG"


@server.resource("probe://users/{name}", description="A user")
def user(name: str) -> str:
    return f"user {name}"


@server.prompt()
def review(code: str) -> str:
    """Ask for a review."""
    return f"Review: {code}"


note("started")
if sys.argv[1:2] == ["--http"]:
    server.run("streamable-http", port=int(sys.argv[2]))
else:
    server.run("stdio")
