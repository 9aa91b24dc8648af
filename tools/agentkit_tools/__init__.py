"""Ready tools for agentkit agents.

The names load on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit_tools.auth import APIKeyAuth, Auth, BasicAuth, BearerAuth
    from agentkit_tools.calculator import calculator
    from agentkit_tools.dates import date_tools
    from agentkit_tools.files import FileTools
    from agentkit_tools.function import FunctionTool, tool
    from agentkit_tools.http import HTTPTool
    from agentkit_tools.sql import SQLTools

__all__ = [
    "APIKeyAuth",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "FileTools",
    "FunctionTool",
    "HTTPTool",
    "SQLTools",
    "calculator",
    "date_tools",
    "tool",
]

_HOMES = {
    "APIKeyAuth": ".auth",
    "Auth": ".auth",
    "BasicAuth": ".auth",
    "BearerAuth": ".auth",
    "FileTools": ".files",
    "FunctionTool": ".function",
    "HTTPTool": ".http",
    "SQLTools": ".sql",
    "calculator": ".calculator",
    "date_tools": ".dates",
    "tool": ".function",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
