"""Where an OpenAPI document's service is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from agentkit.errors import SchemaError, UserError

if TYPE_CHECKING:
    from agentkit_tools.openapi._document import Document, Node
    from agentkit_tools.openapi.operations import Operation

__all__ = ["ServerChoice"]

_VARIABLE = re.compile(r"\{([^{}]*)\}")


class ServerChoice:
    """Finds the URL of the server for each operation.

    Args:
        document: The document.
        server: The program's own choice: a URL, or the beginning of the URL or of the description
            of a server that the document lists.
        variables: Values for variables in servers' URLs.
    """

    def __init__(
        self, document: Document, server: str | None, variables: Mapping[str, str]
    ) -> None:
        self._document = document
        self._variables = dict(variables)
        self._chosen = None if server is None else self._choose(server)

    def url(self, operation: Operation) -> str:
        """The URL that the operation's path is appended to.

        Raises:
            SchemaError: There is none, or it cannot be used.
            UserError: A variable has no such value.
        """
        if self._chosen is not None:
            return self._chosen
        for owner in (operation.node, operation.path_node, self._document.root):
            servers = owner.child("servers")
            if isinstance(servers.value, list) and servers.value:
                return self._fill(servers.child(0))
        if self._document.url is None:
            raise SchemaError(
                f"{self._document.root.where}: the document names no server; give "
                "server='https://...'"
            )
        return urljoin(self._document.url, "/").rstrip("/")

    def _choose(self, server: str) -> str:
        if urlsplit(server).scheme in ("http", "https"):
            return server.rstrip("/")
        servers = self._document.root.child("servers")
        listed = [servers.child(index) for index in range(len(servers.value or ()))]
        for node in listed:
            described = str(node.child("description").value or "")
            if described.casefold().startswith(server.casefold()):
                return self._fill(node)
        known = [str(n.child("description").value or n.child("url").value) for n in listed]
        raise UserError(
            f"server={server!r} is neither a URL nor the description of a server; there are: "
            f"{', '.join(map(repr, known)) or 'none'}"
        )

    def _fill(self, node: Node) -> str:
        url = node.child("url").value
        if not isinstance(url, str):
            raise SchemaError(f"{node.where}: a server needs a url")

        def value(match: re.Match[str]) -> str:
            name = match[1]
            declared = node.child("variables", name)
            default = declared.child("default").value
            chosen = self._variables.get(name, default)
            if chosen is None:
                raise UserError(
                    f"{declared.where}: the server's url needs a value for {name!r}; give "
                    f"server_variables={{{name!r}: ...}}"
                )
            allowed = declared.child("enum").value
            if isinstance(allowed, list) and allowed and chosen not in allowed:
                raise UserError(
                    f"server_variables[{name!r}] is {chosen!r}; it must be one of "
                    f"{', '.join(map(repr, allowed))}"
                )
            return str(chosen)

        filled = _VARIABLE.sub(value, url)
        if not urlsplit(filled).scheme:
            if self._document.url is None:
                raise SchemaError(
                    f"{node.where}: the server's url {filled!r} is relative to where the document "
                    "is published; give server='https://...'"
                )
            filled = urljoin(self._document.url, filled)
        return filled.rstrip("/")
