"""Tools made of the operations of an OpenAPI document."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from agentkit.errors import SchemaError, UserError
from agentkit_tools._names import check_known, matches, tool_name
from agentkit_tools.http import HTTPTool
from agentkit_tools.openapi._build import build_request
from agentkit_tools.openapi._document import Document
from agentkit_tools.openapi._schemas import SchemaSet
from agentkit_tools.openapi._security import AuthConfig, Credentials
from agentkit_tools.openapi._servers import ServerChoice
from agentkit_tools.openapi.operations import Operation, read_operations

__all__ = ["OpenAPITools", "SkippedOperation"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SkippedOperation:
    """An operation that was asked for and is no tool."""

    operation: Operation
    """The operation."""
    reason: str
    """Why, and where in the document the reason is."""


class OpenAPITools(Sequence[HTTPTool]):
    """A service's operations as tools, each an :class:`~agentkit_tools.http.HTTPTool`.

    Made by :meth:`from_spec`; a sequence, to be given to an agent as it is::

        tools = OpenAPITools.from_spec(
            "https://petstore3.swagger.io/api/v3/openapi.json",
            include=["findPetsByStatus", "GET /store/*", "addPet"],
            auth={"api_key": "PETSTORE_KEY"},
        )
        agent = Agent(tools=tools)
    """

    def __init__(
        self,
        tools: Sequence[HTTPTool],
        operations: Sequence[Operation],
        skipped: Sequence[SkippedOperation],
    ) -> None:
        self._tools = tuple(tools)
        self.operations = tuple(operations)
        """The operation of each tool."""
        self.skipped = tuple(skipped)
        """Operations that a pattern took in, but that cannot be called."""

    @overload
    def __getitem__(self, index: int) -> HTTPTool: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[HTTPTool]: ...
    def __getitem__(self, index: int | slice) -> HTTPTool | Sequence[HTTPTool]:
        return self._tools[index]

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> Iterator[HTTPTool]:
        return iter(self._tools)

    def __repr__(self) -> str:
        return f"OpenAPITools({[tool.definition.name for tool in self._tools]})"

    @classmethod
    def from_spec(
        cls,
        spec: str | Path | Mapping[str, Any],
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        auth: AuthConfig | None = None,
        server: str | None = None,
        server_variables: Mapping[str, str] | None = None,
        prefix: str = "",
        deprecated: bool = False,
        approval: Literal["allow", "ask", "deny"] | Callable[..., Any] | None = None,
        max_description_chars: int = 300,
        options: Mapping[str, Any] | None = None,
    ) -> OpenAPITools:
        """Read an OpenAPI document, version 3.0 or 3.1, JSON or YAML.

        Args:
            spec: Path, URL, or the parsed document. References to other files are followed where
                they stay on the machine or the host that the document is from.
            include: Which operations: ids, keys such as ``GET /pets/{id}``, or patterns of either
                (``list*``, ``GET /pets*``). By default all that only read (GET and HEAD); others
                must be named here.
            exclude: Which not, likewise.
            auth: Credentials for all operations, or by the names of the document's security
                schemes: the environment variable with the key or token; two of them for user and
                password, or client id and secret; or an object such as
                :class:`~agentkit_tools.auth.BearerAuth`.
            server: URL of the service, or the beginning of the description of one that the
                document lists. By default the first that is listed.
            server_variables: Values for variables in the server's URL.
            prefix: Stands before each tool's name.
            deprecated: Take deprecated operations, parameters and properties, too.
            approval: As for :class:`~agentkit_tools.http.HTTPTool`, for operations that may change
                something: ``ask`` has a person agree to each call.
            max_description_chars: Longer descriptions are cut, at a sentence's end if possible.
            options: Further arguments for each :class:`~agentkit_tools.http.HTTPTool`, such as
                ``timeout``, ``network`` or ``max_items``. Under ``network`` the document is loaded,
                too, where ``spec`` is a URL.

        Raises:
            SchemaError: The document cannot be used, or an operation that ``include`` names
                cannot be called; the message says where in the document the reason is. What a
                pattern takes in and cannot be called is left out, see :attr:`skipped`.
            UserError: An option fits nothing in the document; the message says what there is.
        """
        document = Document(spec, network=(options or {}).get("network"))
        found = list(read_operations(document, max_description_chars=max_description_chars))
        chosen = _choose(found, include, exclude, deprecated=deprecated)
        credentials = Credentials(document, auth, chosen)
        servers = ServerChoice(document, server, server_variables or {})
        schemas = SchemaSet(
            document, max_description_chars=max_description_chars, deprecated=deprecated
        )
        tools: dict[str, HTTPTool] = {}
        operations: list[Operation] = []
        skipped: list[SkippedOperation] = []
        for operation in chosen:
            text = operation.operation_id or f"{operation.method.lower()}{operation.path}"
            name = tool_name(prefix + text, tools)
            try:
                request = build_request(
                    document,
                    operation,
                    schemas,
                    max_description_chars=max_description_chars,
                    deprecated=deprecated,
                )
                parameters = schemas.complete(
                    {
                        "type": "object",
                        "properties": request.properties,
                        **({"required": request.required} if request.required else {}),
                        "additionalProperties": False,
                    }
                )
                tool = HTTPTool(
                    name=name,
                    description=operation.description,
                    url=servers.url(operation).replace("{", "{{").replace("}", "}}") + request.path,
                    method=operation.method,
                    parameters=parameters,
                    query=request.query,
                    headers=request.headers,
                    cookies=request.cookies,
                    body=request.body,
                    body_type=request.body_type,  # type: ignore[arg-type]
                    content_type=request.content_type,
                    styles=request.styles,
                    auth=credentials.auth(operation),
                    **{"approval": None if operation.read_only else approval, **(options or {})},
                )
            except (SchemaError, RecursionError) as error:
                reason = str(error) if isinstance(error, SchemaError) else "nested too deeply"
                if operation.node.where not in reason:
                    reason = f"{operation.node.where}: {reason}"
                if include is not None and set(operation.names) & set(include):
                    raise SchemaError(f"{operation.key} cannot be a tool: {reason}") from None
                logger.warning("left out %s: %s", operation.key, reason)
                skipped.append(SkippedOperation(operation, reason))
                continue
            tool.read_only = operation.read_only  # type: ignore[attr-defined]
            tools[name] = tool
            operations.append(operation)
        return cls(list(tools.values()), operations, skipped)


def _choose(
    found: Sequence[Operation],
    include: Sequence[str] | None,
    exclude: Sequence[str],
    *,
    deprecated: bool,
) -> list[Operation]:
    for option, patterns in (("include", include), ("exclude", exclude)):
        if isinstance(patterns, str):
            raise UserError(f"{option} must be a list, as in {option}=[{patterns!r}]")
    known = [name for operation in found for name in operation.names]
    check_known(list(include or ()), known, where="include", kind="operation")
    check_known(list(exclude), known, where="exclude", kind="operation")
    chosen = []
    for operation in found:
        names = operation.names
        named = include is not None and bool(set(names) & set(include))
        if operation.deprecated and not (deprecated or named):
            continue
        wanted = operation.read_only if include is None else matches(names, include)
        if wanted and not matches(names, exclude):
            chosen.append(operation)
    return chosen
