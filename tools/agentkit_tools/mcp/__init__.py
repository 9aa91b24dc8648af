"""The Model Context Protocol: servers' tools for agents, and agents' tools for other clients.

Needs the extra ``mcp``. The names load on first use.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from agentkit._lazy import lazy_exports
from agentkit.errors import MissingExtraError

if TYPE_CHECKING:
    from agentkit_tools.mcp._connection import MCPConnectionError
    from agentkit_tools.mcp.options import ServerOptions
    from agentkit_tools.mcp.resources import (
        MCPContent,
        MCPPrompt,
        MCPPromptArgument,
        MCPResource,
    )
    from agentkit_tools.mcp.server import MCPServer
    from agentkit_tools.mcp.serving import make_mcp_server, serve_mcp
    from agentkit_tools.mcp.tool import MCPTool, MCPToolHints

__all__ = [
    "MCPConnectionError",
    "MCPContent",
    "MCPPrompt",
    "MCPPromptArgument",
    "MCPResource",
    "MCPServer",
    "MCPTool",
    "MCPToolHints",
    "ServerOptions",
    "make_mcp_server",
    "serve_mcp",
]

_HOMES = {
    "MCPConnectionError": "._connection",
    "MCPContent": ".resources",
    "MCPPrompt": ".resources",
    "MCPPromptArgument": ".resources",
    "MCPResource": ".resources",
    "MCPServer": ".server",
    "MCPTool": ".tool",
    "MCPToolHints": ".tool",
    "ServerOptions": ".options",
    "make_mcp_server": ".serving",
    "serve_mcp": ".serving",
}

_get, __dir__ = lazy_exports(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES and importlib.util.find_spec("mcp") is None:
        raise MissingExtraError(
            "agentkit_tools.mcp needs the package mcp: pip install 'agentkit-granite[mcp]'"
        )
    return _get(name)
