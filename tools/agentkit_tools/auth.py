"""Credentials for :class:`~agentkit_tools.http.HTTPTool`, read from the environment.

The classes hold the variables' names only, never a secret: they can be printed and pickled. The
variables are read when a tool is made, so that a missing one is noticed at once, and again
at each call, so that a renewed token is picked up.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import quote, quote_plus

from agentkit.errors import UserError
from agentkit_tools._http_request import set_query_pairs

if TYPE_CHECKING:
    import httpx

__all__ = ["APIKeyAuth", "Auth", "BasicAuth", "BearerAuth"]


@runtime_checkable
class Auth(Protocol):
    """Anything that signs requests."""

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never reach the model; they are blotted out of responses.

        Raises:
            UserError: A credential is missing.
        """
        ...

    def apply(self, request: httpx.Request) -> None:
        """Put the credentials into a request. May be called twice on one request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerAuth:
    """``Authorization: Bearer <token>``."""

    env: str
    """Environment variable that holds the token."""

    def secrets(self) -> tuple[str, ...]:
        """The token."""
        return (_read(self.env),)

    def apply(self, request: httpx.Request) -> None:
        """Set the ``Authorization`` header."""
        request.headers["Authorization"] = f"Bearer {_read(self.env)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class APIKeyAuth:
    """A key in a header or, for services that offer nothing better, in the query.

    Prefer the header: URLs, and with them queries, end up in many logs, httpx's own included.
    """

    env: str
    """Environment variable that holds the key."""
    header: str | None = None
    """Name of the header to send it in, such as ``X-API-Key``."""
    query: str | None = None
    """Name of the query parameter to send it in."""

    def __post_init__(self) -> None:
        if (self.header is None) == (self.query is None):
            raise UserError("APIKeyAuth: give either header=... or query=..., and not both")

    def secrets(self) -> tuple[str, ...]:
        """The key, also as the query has it."""
        key = _read(self.env)
        return key, quote(key, safe=""), quote_plus(key)

    def apply(self, request: httpx.Request) -> None:
        """Set the header or the query parameter."""
        key = _read(self.env)
        if self.header is not None:
            request.headers[self.header] = key
        elif self.query is not None:
            pair = (quote(self.query, safe=""), quote(key, safe=""))
            request.url = set_query_pairs(request.url, [pair])


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """HTTP Basic authentication."""

    user_env: str
    """Environment variable that holds the user's name."""
    password_env: str
    """Environment variable that holds the password."""

    def secrets(self) -> tuple[str, ...]:
        """The password, and user and password as the header has them."""
        return _read(self.password_env), self._encoded()

    def apply(self, request: httpx.Request) -> None:
        """Set the ``Authorization`` header."""
        request.headers["Authorization"] = f"Basic {self._encoded()}"

    def _encoded(self) -> str:
        pair = f"{_read(self.user_env)}:{_read(self.password_env)}"
        return base64.b64encode(pair.encode()).decode("ascii")


def _read(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UserError(
            f"the environment variable {variable} is not set or empty; it must hold a credential"
        )
    if not (value.isascii() and value.isprintable()):
        raise UserError(
            f"the environment variable {variable} holds characters that cannot be sent (line "
            "breaks or non-ASCII)"
        )
    return value
