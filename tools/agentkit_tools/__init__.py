"""Ready tools for agentkit agents.

The names load on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit_tools.auth import APIKeyAuth, Auth, BasicAuth, BearerAuth
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

__all__ = [
    "APIKeyAuth",
    "Auth",
    "BasicAuth",
    "BearerAuth",
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
    "tool",
]

_HOMES = {
    "APIKeyAuth": ".auth",
    "Auth": ".auth",
    "BasicAuth": ".auth",
    "BearerAuth": ".auth",
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
    "tool": ".function",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
