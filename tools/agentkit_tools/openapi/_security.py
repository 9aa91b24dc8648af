"""From an OpenAPI document's security schemes to credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from agentkit.errors import UserError
from agentkit_tools._names import check_known
from agentkit_tools.auth import APIKeyAuth, Auth, BasicAuth, BearerAuth, RenewableAuth
from agentkit_tools.oauth2 import OAuth2ClientCredentials

if TYPE_CHECKING:
    import httpx

    from agentkit_tools.openapi._document import Document, Node
    from agentkit_tools.openapi.operations import Operation

__all__ = ["AuthConfig", "Credentials"]

AuthConfig = Auth | Mapping[str, "Auth | str | Sequence[str]"]
"""Credentials for everything, or by the names of security schemes: an ``Auth``, or the
environment variables that hold what the scheme asks for."""


class Credentials:
    """Who signs which operation's requests.

    Args:
        document: Declares the schemes.
        config: What the program has; ``None`` for nothing.
        operations: Whose scopes to ask for, where a token is fetched.

    Raises:
        UserError: A scheme is unknown or is not supported, or a variable is not set.
    """

    def __init__(
        self, document: Document, config: AuthConfig | None, operations: Sequence[Operation]
    ) -> None:
        self._document = document
        self._scopes: dict[str, list[str]] = {}
        for operation in operations:
            for alternative in self._needs(operation).value or ():
                for name, scopes in alternative.items():
                    known = self._scopes.setdefault(name, [])
                    known += [scope for scope in scopes if scope not in known]
        self._all = config if isinstance(config, Auth) else None
        self._by_scheme: dict[str, Auth] = {}
        if config is None or isinstance(config, Auth):
            return
        if not isinstance(config, Mapping):
            raise UserError(
                "auth must be a BearerAuth or the like, or name security schemes, as in "
                'auth={"api_key": "MY_API_KEY"}'
            )
        declared = document.root.child("components", "securitySchemes")
        known = list(declared.value or ())
        for name, given in config.items():
            check_known([name], known, where="auth", kind="security scheme")
            scheme = document.resolved(declared.child(name))
            self._by_scheme[name] = (
                given if isinstance(given, Auth) else self._make(name, scheme, given)
            )

    def auth(self, operation: Operation) -> Auth | None:
        """The credentials for an operation, or None if it needs none or there are none.

        Raises:
            UserError: There are credentials, but none that it takes.
        """
        if self._all is not None:
            return self._all
        needs = self._needs(operation)
        alternatives = [item for item in needs.value or () if isinstance(item, Mapping)]
        if not self._by_scheme or not alternatives:
            return None
        for alternative in alternatives:
            if alternative and alternative.keys() <= self._by_scheme.keys():
                parts = [self._by_scheme[name] for name in alternative]
                return parts[0] if len(parts) == 1 else _Several(tuple(parts))
        if {} in alternatives:
            return None
        wanted = " or ".join(" with ".join(alternative) for alternative in alternatives)
        raise UserError(
            f"{needs.where}: {operation.key} needs the security scheme {wanted}; auth has "
            f"{', '.join(self._by_scheme)}"
        )

    def _make(self, name: str, scheme: Node, given: Any) -> Auth:
        variables = [given] if isinstance(given, str) else list(given)
        value = scheme.value if isinstance(scheme.value, Mapping) else {}
        kind, way = value.get("type"), str(value.get("scheme", "")).casefold()
        where = f"auth[{name!r}]"
        if kind == "apiKey":
            (variable,) = _expect(variables, 1, where, "the key")
            place = value.get("in")
            if place in ("header", "query", "cookie"):
                return APIKeyAuth(env=variable, **{place: value.get("name")})
        if kind == "http" and way == "bearer":
            return BearerAuth(env=_expect(variables, 1, where, "the token")[0])
        if kind == "http" and way == "basic":
            user, password = _expect(variables, 2, where, "the user and the password")
            return BasicAuth(user_env=user, password_env=password)
        if kind in ("oauth2", "openIdConnect"):
            if len(variables) == 1:  # a token that was got in some other way
                return BearerAuth(env=variables[0])
            return self._client_credentials(name, scheme, variables)
        raise UserError(
            f"{scheme.where}: security scheme {name!r} ({kind} {way}".rstrip()
            + ") is not supported; give an object with secrets() and apply(request) instead"
        )

    def _client_credentials(self, name: str, scheme: Node, variables: list[str]) -> Auth:
        client_id, secret = _expect(
            variables, 2, f"auth[{name!r}]", "the client's id and its secret"
        )
        flow = scheme.child("flows", "clientCredentials").value
        if not isinstance(flow, Mapping) or not isinstance(flow.get("tokenUrl"), str):
            raise UserError(
                f"{scheme.where}: there is no client credentials flow; get a token otherwise and "
                "name the variable that holds it"
            )
        return OAuth2ClientCredentials(
            token_url=urljoin(self._document.url or "", flow["tokenUrl"]),
            client_id_env=client_id,
            client_secret_env=secret,
            scopes=self._scopes.get(name, ()),
        )

    def _needs(self, operation: Operation) -> Node:
        own = operation.node.child("security")
        return own if own.value is not None else self._document.root.child("security")


def _expect(variables: list[str], count: int, where: str, what: str) -> list[str]:
    if len(variables) != count or not all(isinstance(name, str) for name in variables):
        noun = "variable that holds" if count == 1 else f"{count} variables that hold"
        raise UserError(f"{where}: name the environment {noun} {what}, not {variables!r}")
    return variables


@dataclass(frozen=True, slots=True)
class _Several:
    """Credentials of which a request needs all."""

    parts: tuple[Auth, ...]

    def secrets(self) -> tuple[str, ...]:
        """Those of all."""
        return tuple(secret for part in self.parts for secret in part.secrets())

    async def apply(self, request: httpx.Request) -> None:
        """Apply all."""
        for part in self.parts:
            signing = part.apply(request)
            if signing is not None:
                await signing

    async def renew(self, rejected: httpx.Request) -> bool:
        """Renew what can be."""
        renewed = [
            await part.renew(rejected) for part in self.parts if isinstance(part, RenewableAuth)
        ]
        return any(renewed)
