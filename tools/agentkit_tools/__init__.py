"""Ready tools for agentkit agents.

The names load on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit_tools.auth import APIKeyAuth, Auth, BasicAuth, BearerAuth
    from agentkit_tools.function import FunctionTool, tool
    from agentkit_tools.http import HTTPTool

__all__ = [
    "APIKeyAuth",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "FunctionTool",
    "HTTPTool",
    "tool",
]

_HOMES = {
    "APIKeyAuth": "auth",
    "Auth": "auth",
    "BasicAuth": "auth",
    "BearerAuth": "auth",
    "FunctionTool": "function",
    "HTTPTool": "http",
    "tool": "function",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
