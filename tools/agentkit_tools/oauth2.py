"""OAuth 2.0 client credentials (RFC 6749, section 4.4)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote_plus, urlencode
from weakref import WeakKeyDictionary

from agentkit.errors import ToolError, UserError
from agentkit_tools._http_pool import ClientPool
from agentkit_tools._http_response import redact
from agentkit_tools._secrets import in_use, note_secrets, watching
from agentkit_tools.auth import Credential, basic, check_sources, known, read
from agentkit_tools.http_errors import HTTPAuthError
from agentkit_tools.network import NetworkPolicy

if TYPE_CHECKING:
    import httpx

__all__ = ["OAuth2ClientCredentials"]

_MAX_BYTES = 65_536
_RETRIES = 2


class _TokenState:
    """What changes: the token, and who may fetch it. It is not pickled."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.expires_at: float | None = None
        self.pool: ClientPool | None = None
        self.locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[_TokenState], tuple[()]]:
        return _TokenState, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2ClientCredentials:
    """A bearer token that is fetched with a client's own credentials.

    It is fetched when first needed, by one call at a time, kept until shortly before it expires,
    and fetched once more where a service answers 401. Share one object among the tools of a
    service.
    """

    token_url: str
    """Where tokens are fetched."""
    client_id_env: str | None = None
    """Environment variable that holds the client's identifier."""
    client_secret_env: str | None = None
    """Environment variable that holds the client's secret."""
    client_id: Credential | None = None
    """Instead: a function, sync or async, that gives the identifier."""
    client_secret: Credential | None = None
    """Instead: a function, sync or async, that gives the secret."""
    scopes: Sequence[str] = ()
    """To ask for."""
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Further fields of the request, such as ``audience`` or ``resource``."""
    secret_in: Literal["basic", "body"] = "basic"
    """Whether identifier and secret go into the ``Authorization`` header or the request's body."""
    leeway: float = 30.0
    """Seconds before a token expires from which on it is not used any more."""
    attempt_timeout: float = 10.0
    """Seconds that one attempt to fetch a token may take."""
    network: NetworkPolicy | None = None
    """Where connections may go; see :class:`~agentkit_tools.http.HTTPTool`."""
    _state: _TokenState = field(
        default_factory=_TokenState, init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        label = "OAuth2ClientCredentials"
        check_sources(label, ("client_id_env", self.client_id_env), ("client_id", self.client_id))
        check_sources(
            label,
            ("client_secret_env", self.client_secret_env),
            ("client_secret", self.client_secret),
        )
        if isinstance(self.scopes, str):
            raise UserError(f"{label}: scopes must be a list, as {self.scopes.split()!r}")
        if self.secret_in not in ("basic", "body"):
            raise UserError(f"{label}: secret_in={self.secret_in!r} is neither 'basic' nor 'body'")
        self._policy()

    def secrets(self) -> tuple[str, ...]:
        """The client's secret, if it comes from the environment, and the token, if there is one."""
        known(self.client_id_env)
        token = self._state.token
        return (*known(self.client_secret_env), *(() if token is None else (token,)))

    async def apply(self, request: httpx.Request) -> None:
        """Set the ``Authorization`` header, with a new token if need be.

        Raises:
            HTTPAuthError: There is no token to be had.
        """
        token = await self._token()
        note_secrets(token)
        request.headers["Authorization"] = f"Bearer {token}"

    async def renew(self, rejected: httpx.Request) -> bool:
        """Drop the token of a request that was answered with 401, if it is still in use."""
        state = self._state
        # Another call may have renewed it meanwhile; then the new one is worth a try as well.
        if rejected.headers.get("Authorization") == f"Bearer {state.token}":
            state.token = None
        return True

    async def aclose(self) -> None:
        """Close the running loop's connections to the token service."""
        if self._state.pool is not None:
            await self._state.pool.aclose()

    def _policy(self) -> NetworkPolicy:
        return (self.network or NetworkPolicy()).guarding(
            self.token_url, label="OAuth2ClientCredentials: token_url"
        )

    async def _token(self) -> str:
        state = self._state
        # A lock belongs to its loop. Loops in several threads may each fetch a token: no harm.
        lock = state.locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            fresh = state.expires_at is None or time.monotonic() < state.expires_at
            if state.token is None or not fresh:
                began = time.monotonic()
                with watching(known(self.client_secret_env)):
                    state.token, lifetime = await self._fetch()
                state.expires_at = (
                    # One that lives shorter than the leeway is used for half of its life.
                    None if lifetime is None else began + max(lifetime - self.leeway, lifetime / 2)
                )
            return state.token

    async def _fetch(self) -> tuple[str, float | None]:
        """A token, and how many seconds it is good for, if that is known."""
        from agentkit_tools._http_body import ACCEPT_ENCODING
        from agentkit_tools._http_client import Sender

        client_id = await read(self.client_id_env, self.client_id, secret=False)
        secret = await read(self.client_secret_env, self.client_secret)
        form = {"grant_type": "client_credentials", **self.parameters}
        if self.scopes:
            form["scope"] = " ".join(self.scopes)
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPT_ENCODING,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if self.secret_in == "basic":
            headers["Authorization"] = basic(quote_plus(client_id), quote_plus(secret))
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        body = urlencode(form).encode("ascii")
        if self._state.pool is None:
            self._state.pool = ClientPool(self._policy().client)
        sender = Sender(
            pool=self._state.pool,
            retries=_RETRIES,
            repeatable=True,  # a token more does no harm
            attempt_timeout=self.attempt_timeout,
            max_bytes=_MAX_BYTES,
        )
        try:
            reply = await sender.send(
                lambda client: client.build_request(
                    "POST", self.token_url, headers=headers, content=body, timeout=None
                )
            )
            answer = _read_object(reply.body)
            if not 200 <= reply.status < 300:
                reason = answer.get("error")
                because = f": {reason:.80}" if isinstance(reason, str) else ""
                raise HTTPAuthError(f"the token service answered {reply.status}{because}")
            return _read_token(answer)
        except ToolError as error:
            message = redact(str(error), in_use())
            raise HTTPAuthError(
                f"the tool could not get an access token ({message}); other arguments will not help"
            ) from None


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _read_token(answer: Mapping[str, Any]) -> tuple[str, float | None]:
    token = answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise HTTPAuthError("the token service's answer holds no access_token")
    note_secrets(token)
    kind = answer.get("token_type", "bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise HTTPAuthError("the token service's answer holds a token that is not a bearer token")
    try:
        lifetime = float(answer["expires_in"])
    except (KeyError, TypeError, ValueError):
        return token, None
    return token, lifetime if lifetime > 0 else None
