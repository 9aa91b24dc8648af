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
    from agentkit_tools.host_limits import HostLimits
    from agentkit_tools.http import HTTPTool, JMESPath, ParameterStyle
    from agentkit_tools.http_errors import (
        HTTPAuthError,
        HTTPBlockedError,
        HTTPConnectionError,
        HTTPRedirectError,
        HTTPRequestError,
        HTTPResponseError,
        HTTPStatusError,
        HTTPTimeoutError,
        HTTPToolError,
    )
    from agentkit_tools.mcp import MCPServer
    from agentkit_tools.network import NetworkPolicy
    from agentkit_tools.oauth2 import OAuth2ClientCredentials
    from agentkit_tools.openapi import OpenAPITools
    from agentkit_tools.python_runner import PythonTool
    from agentkit_tools.sql import SQLTools
    from agentkit_tools.web import WebPageTool

__all__ = [
    "APIKeyAuth",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "FileTools",
    "FunctionTool",
    "HTTPAuthError",
    "HTTPBlockedError",
    "HTTPConnectionError",
    "HTTPRedirectError",
    "HTTPRequestError",
    "HTTPResponseError",
    "HTTPStatusError",
    "HTTPTimeoutError",
    "HTTPTool",
    "HTTPToolError",
    "HostLimits",
    "JMESPath",
    "MCPServer",
    "NetworkPolicy",
    "OAuth2ClientCredentials",
    "OpenAPITools",
    "ParameterStyle",
    "PythonTool",
    "SQLTools",
    "WebPageTool",
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
    "HTTPAuthError": ".http_errors",
    "HTTPBlockedError": ".http_errors",
    "HTTPConnectionError": ".http_errors",
    "HTTPRedirectError": ".http_errors",
    "HTTPRequestError": ".http_errors",
    "HTTPResponseError": ".http_errors",
    "HTTPStatusError": ".http_errors",
    "HTTPTimeoutError": ".http_errors",
    "HTTPTool": ".http",
    "HTTPToolError": ".http_errors",
    "JMESPath": ".http",
    "HostLimits": ".host_limits",
    "MCPServer": ".mcp",
    "NetworkPolicy": ".network",
    "OAuth2ClientCredentials": ".oauth2",
    "OpenAPITools": ".openapi",
    "ParameterStyle": ".http",
    "PythonTool": ".python_runner",
    "SQLTools": ".sql",
    "WebPageTool": ".web",
    "calculator": ".calculator",
    "date_tools": ".dates",
    "tool": ".function",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
