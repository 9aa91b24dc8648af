"""What can go wrong between a tool and a service, each kind a class of its own.

All are :class:`~agentkit.errors.ToolError`: the message is what the model is told, short and
without credentials or internal addresses. The classes are for programs that call tools
themselves, and for tests.
"""

from __future__ import annotations

from agentkit.errors import ToolError

__all__ = [
    "HTTPAuthError",
    "HTTPBlockedError",
    "HTTPConnectionError",
    "HTTPRedirectError",
    "HTTPRequestError",
    "HTTPResponseError",
    "HTTPStatusError",
    "HTTPTimeoutError",
    "HTTPToolError",
]


class HTTPToolError(ToolError):
    """A call of a service failed."""


class HTTPRequestError(HTTPToolError):
    """The arguments cannot be sent: missing, empty, or not to be expressed where they go."""


class HTTPBlockedError(HTTPToolError):
    """The network policy forbids the scheme, the host, the port or the address."""


class HTTPConnectionError(HTTPToolError):
    """The service could not be reached, or broke off or garbled its answer."""


class HTTPTimeoutError(HTTPToolError):
    """The service did not answer in time."""


class HTTPRedirectError(HTTPToolError):
    """The service redirects too often, or to where the tool does not follow."""


class HTTPStatusError(HTTPToolError):
    """The service answered with a status that is not a success."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status code."""


class HTTPResponseError(HTTPToolError):
    """The answer is a success, but too large, unreadable, or not what was asked for."""


class HTTPAuthError(HTTPToolError):
    """No access token could be had."""
