"""What can be said of how an MCP server is dealt with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

__all__ = ["ServerOptions"]


class ServerOptions(TypedDict, total=False):
    """How a server is dealt with; for :class:`~agentkit_tools.mcp.MCPServer`."""

    timeout: float | None
    """Seconds for one request, 60 if not given; ``None`` for no limit but the agent's."""
    connect_timeout: float
    """Seconds for starting and greeting the server; 30 if not given."""
    attempts: int
    """How often to try to reach it; 4 if not given. A program is tried again only if it has run
    before."""
    max_result_chars: int
    """A longer result is cut, and the model told so; 50,000 if not given."""
    on_log: Callable[[str, Any], None] | None
    """Told of the server's log messages: level and data. Called in another thread, as is
    ``on_progress``; both must be quick."""
    on_progress: Callable[[str, float, float | None, str | None], None] | None
    """Told how far a call is: tool, progress, total, and a text."""
