"""The operations of an OpenAPI document, as it describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentkit.errors import SchemaError
from agentkit_tools.openapi._document import Document, Node
from agentkit_tools.openapi._text import shortened

__all__ = ["Body", "Operation", "Parameter", "read_body", "read_operations", "read_parameters"]

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_SAFE = ("GET", "HEAD")
_PLACES = ("path", "query", "header", "cookie")
# The specification says that parameters of these names are ignored.
_IGNORED_HEADERS = ("accept", "authorization", "content-type")


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path."""

    method: str
    """In upper case."""
    path: str
    """Template of the path, as in the document."""
    operation_id: str | None
    """Its ``operationId``, if it has one."""
    description: str
    """Summary and description, shortened."""
    deprecated: bool
    """Whether the document advises against it."""
    tags: tuple[str, ...]
    """Groups that it belongs to."""
    node: Node
    """The operation object."""
    path_node: Node
    """The path item object."""

    @property
    def key(self) -> str:
        """Such as ``GET /pets/{petId}``."""
        return f"{self.method} {self.path}"

    @property
    def names(self) -> tuple[str, ...]:
        """What it can be called by: its key and, if there is one, its id."""
        return (self.key,) if self.operation_id is None else (self.operation_id, self.key)

    @property
    def read_only(self) -> bool:
        """Whether its method promises to change nothing."""
        return self.method in _SAFE


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path, the query, a header or a cookie."""

    name: str
    """On the wire."""
    place: str
    """``path``, ``query``, ``header`` or ``cookie``."""
    required: bool
    """Whether a request needs it."""
    deprecated: bool
    """Whether the document advises against it."""
    schema: Node
    """Of its value."""
    is_json: bool
    """Whether it is written as JSON."""
    node: Node
    """The parameter object."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, in the form chosen among those that the service takes."""

    media_type: str
    """Such as ``application/json``."""
    kind: str
    """``json``, ``form``, ``multipart`` or ``text``."""
    required: bool
    """Whether a request needs it."""
    schema: Node
    """Of the body."""
    node: Node
    """The media type object."""
    description: str
    """What it is."""


def read_operations(document: Document, *, max_description_chars: int) -> Iterator[Operation]:
    """All operations, in the document's order.

    Args:
        document: The document.
        max_description_chars: Longer descriptions are cut.
    """
    paths = document.root.child("paths")
    for path in paths.value or {}:
        if not path.startswith("/"):
            continue  # an extension
        item = document.resolved(paths.child(path))
        if not isinstance(item.value, Mapping):
            raise SchemaError(f"{item.where} must be an object")
        for method in item.value:
            node = item.child(method)
            if method not in _METHODS or not isinstance(node.value, Mapping):
                continue
            operation_id = node.value.get("operationId")
            yield Operation(
                method=method.upper(),
                path=path,
                operation_id=operation_id if isinstance(operation_id, str) else None,
                description=_describe(node.value, max_description_chars),
                deprecated=node.value.get("deprecated") is True,
                tags=tuple(tag for tag in node.value.get("tags") or () if isinstance(tag, str)),
                node=node,
                path_node=item,
            )


def _describe(operation: Mapping[str, Any], limit: int) -> str:
    summary = shortened(str(operation.get("summary") or ""), limit)
    text = shortened(str(operation.get("description") or ""), limit)
    # Descriptions often begin with the summary once more.
    if not summary or text.casefold().startswith(summary.casefold().rstrip(".")):
        return text
    summary = summary if summary[-1] in ".!?…" else f"{summary}."
    return shortened(f"{summary} {text}".strip(), limit)


def read_parameters(document: Document, operation: Operation) -> list[Parameter]:
    """Parameters of the path, and in their place or after them those of the operation.

    Raises:
        SchemaError: A parameter is malformed.
    """
    found: dict[tuple[str, str], Parameter] = {}
    for owner in (operation.path_node, operation.node):
        listed = owner.child("parameters")
        if not isinstance(listed.value, list | None):
            raise SchemaError(f"{listed.where} must be an array")
        for index in range(len(listed.value or ())):
            parameter = _read_parameter(document, document.resolved(listed.child(index)))
            found[parameter.place, parameter.name.casefold()] = parameter
    return [
        parameter
        for parameter in found.values()
        if not (parameter.place == "header" and parameter.name.casefold() in _IGNORED_HEADERS)
    ]


def _read_parameter(document: Document, node: Node) -> Parameter:
    value = node.value
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise SchemaError(f"{node.where}: a parameter needs a name")
    if value.get("in") not in _PLACES:
        raise SchemaError(
            f"{node.where}: parameter {value['name']!r} is in {value.get('in')!r}; it must be in "
            f"{', '.join(_PLACES)}"
        )
    content = node.child("content")
    schema = node.child("schema")
    if isinstance(content.value, Mapping) and content.value:
        schema = content.child(next(iter(content.value)), "schema")
    return Parameter(
        name=value["name"],
        place=value["in"],
        required=value["in"] == "path" or value.get("required") is True,
        deprecated=value.get("deprecated") is True,
        schema=schema,
        is_json=bool(content.value),
        node=node,
    )


def read_body(document: Document, operation: Operation) -> Body | None:
    """The request's body: JSON if the service takes it, else a form, else text.

    Raises:
        SchemaError: A body is needed, and it is of no such kind.
    """
    node = document.resolved(operation.node.child("requestBody"))
    if not isinstance(node.value, Mapping):
        return None
    content = node.child("content")
    types = content.value if isinstance(content.value, Mapping) else {}
    required = node.value.get("required") is True
    for kind in ("json", "form", "multipart", "text"):
        for media_type in types:
            if _kind(media_type) == kind:
                return Body(
                    media_type=media_type.partition(";")[0].strip(),
                    kind=kind,
                    required=required,
                    schema=content.child(media_type, "schema"),
                    node=content.child(media_type),
                    description=str(node.value.get("description") or ""),
                )
    if required:
        raise SchemaError(
            f"{content.where}: the body must be {' or '.join(types) or 'of some type'}, which "
            "cannot be sent; JSON, forms and text can"
        )
    return None


def _kind(media_type: str) -> str | None:
    name = media_type.partition(";")[0].strip().casefold()
    if name in ("application/json", "*/*", "application/*", "text/json") or name.endswith("+json"):
        return "json"
    if name == "application/x-www-form-urlencoded":
        return "form"
    if name == "multipart/form-data":
        return "multipart"
    return "text" if name.startswith("text/") and name != "text/xml" else None
