"""Credentials for :class:`~agentkit_tools.http.HTTPTool`, from the environment or a function.

The classes hold names of variables or functions, never a secret: they can be printed and, where
there is no function, pickled. Variables are read when a tool is made, so that a missing one is
noticed at once, and again at each call, so that a renewed token is picked up. Functions are
called for each request; they may be async, and look at context variables to tell users apart.
"""

from __future__ import annotations

import base64
import inspect
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import quote

from agentkit.errors import UserError
from agentkit_tools._http_request import set_query_pairs
from agentkit_tools._http_style import encode_cookie
from agentkit_tools._secrets import note_secrets

if TYPE_CHECKING:
    import httpx

__all__ = ["APIKeyAuth", "Auth", "BasicAuth", "BearerAuth", "RenewableAuth", "note_secrets"]

Credential = Callable[[], str | Awaitable[str]]
"""A function that gives a credential."""


@runtime_checkable
class Auth(Protocol):
    """Anything that signs requests."""

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never reach the model, as far as they are known before a request.

        They are blotted out of responses, errors and logs, and so is what ``apply`` passes to
        :func:`note_secrets`.

        Raises:
            UserError: A credential is missing.
        """
        ...

    def apply(self, request: httpx.Request) -> Awaitable[None] | None:
        """Put the credentials into a request. May be called twice on one request."""
        ...


@runtime_checkable
class RenewableAuth(Auth, Protocol):
    """Credentials that can be had anew."""

    async def renew(self, rejected: httpx.Request) -> bool:
        """Take note that the service answered 401 to a signed request.

        Returns:
            Whether it is worth signing and sending it again.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerAuth:
    """``Authorization: Bearer <token>``."""

    env: str | None = None
    """Environment variable that holds the token."""
    token: Credential | None = None
    """Instead: a function, sync or async, that gives it."""

    def __post_init__(self) -> None:
        check_sources("BearerAuth", ("env", self.env), ("token", self.token))

    def secrets(self) -> tuple[str, ...]:
        """The token, if it comes from the environment."""
        return known(self.env)

    async def apply(self, request: httpx.Request) -> None:
        """Set the ``Authorization`` header."""
        token = await read(self.env, self.token)
        request.headers["Authorization"] = f"Bearer {token}"


@dataclass(frozen=True, slots=True, kw_only=True)
class APIKeyAuth:
    """A key in a header, a cookie or, for services that offer nothing better, in the query.

    Prefer the header: URLs, and with them queries, end up in many logs along the way.
    """

    env: str | None = None
    """Environment variable that holds the key."""
    key: Credential | None = None
    """Instead: a function, sync or async, that gives it."""
    header: str | None = None
    """Name of the header to send it in, such as ``X-API-Key``."""
    query: str | None = None
    """Name of the query parameter to send it in."""
    cookie: str | None = None
    """Name of the cookie to send it in."""

    def __post_init__(self) -> None:
        check_sources("APIKeyAuth", ("env", self.env), ("key", self.key))
        if sum(name is not None for name in (self.header, self.query, self.cookie)) != 1:
            raise UserError(
                "APIKeyAuth: give one of header=..., query=... and cookie=..., and not both"
            )

    def secrets(self) -> tuple[str, ...]:
        """The key, if it comes from the environment."""
        return known(self.env)

    async def apply(self, request: httpx.Request) -> None:
        """Set the header, the query parameter or the cookie."""
        key = await read(self.env, self.key)
        if self.header is not None:
            request.headers[self.header] = key
        elif self.query is not None:
            pair = (quote(self.query, safe=""), quote(key, safe=""))
            request.url = set_query_pairs(request.url, [pair])
        elif self.cookie is not None:
            note_secrets(encode_cookie(key))
            others = [
                pair
                for pair in request.headers.get("Cookie", "").split("; ")
                if pair and pair.partition("=")[0] != self.cookie
            ]
            request.headers["Cookie"] = "; ".join([*others, f"{self.cookie}={encode_cookie(key)}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """HTTP Basic authentication."""

    user_env: str | None = None
    """Environment variable that holds the user's name."""
    password_env: str | None = None
    """Environment variable that holds the password."""
    user: Credential | None = None
    """Instead: a function, sync or async, that gives the user's name."""
    password: Credential | None = None
    """Instead: a function, sync or async, that gives the password."""

    def __post_init__(self) -> None:
        check_sources("BasicAuth", ("user_env", self.user_env), ("user", self.user))
        check_sources("BasicAuth", ("password_env", self.password_env), ("password", self.password))

    def secrets(self) -> tuple[str, ...]:
        """The password, and both as the header has them, if they come from the environment."""
        pair = (*known(self.user_env), *known(self.password_env))
        encoded = (_encode(*pair),) if len(pair) == 2 else ()
        return (*known(self.password_env), *encoded)

    async def apply(self, request: httpx.Request) -> None:
        """Set the ``Authorization`` header."""
        user = await read(self.user_env, self.user, secret=False)
        password = await read(self.password_env, self.password)
        request.headers["Authorization"] = basic(user, password)


def basic(user: str, password: str) -> str:
    """The value of a header for Basic authentication, noted as a secret."""
    encoded = _encode(user, password)
    note_secrets(encoded)
    return f"Basic {encoded}"


def _encode(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def check_sources(label: str, *sources: tuple[str, object]) -> None:
    """Raise a UserError unless one of the options, and no other, is given."""
    if sum(value is not None for _, value in sources) != 1:
        raise UserError(f"{label}: give either {' or '.join(f'{n}=...' for n, _ in sources)}")


def known(variable: str | None) -> tuple[str, ...]:
    """The credential in a variable, if one is named.

    Raises:
        UserError: It is missing, or cannot be sent.
    """
    return () if variable is None else (_read_variable(variable),)


async def read(variable: str | None, give: Credential | None, *, secret: bool = True) -> str:
    """A credential from its source, noted as a secret.

    Args:
        variable: Name of an environment variable.
        give: Called if there is no variable.
        secret: Whether it is one.

    Raises:
        UserError: It is missing, or cannot be sent.
    """
    if variable is not None:
        value = _read_variable(variable)
    else:
        assert give is not None  # check_sources() has seen to that.
        given = give()
        value = await given if inspect.isawaitable(given) else given
        if not isinstance(value, str) or not _sendable(value):
            raise UserError(
                f"the function {getattr(give, '__qualname__', give)!r} must give a credential of "
                "printable ASCII characters"
            )
    if secret:
        note_secrets(value)
    return value


def _read_variable(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UserError(
            f"the environment variable {variable} is not set or empty; it must hold a credential"
        )
    if not _sendable(value):
        raise UserError(
            f"the environment variable {variable} holds characters that cannot be sent (line "
            "breaks or non-ASCII)"
        )
    return value


def _sendable(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable()
