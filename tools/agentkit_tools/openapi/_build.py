"""From an operation to what an HTTPTool is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from agentkit.errors import SchemaError
from agentkit_tools._http_style import ParameterStyle, StyleName
from agentkit_tools.openapi._document import Document, Node
from agentkit_tools.openapi._schemas import SchemaSet
from agentkit_tools.openapi._text import shortened
from agentkit_tools.openapi.operations import (
    Body,
    Operation,
    Parameter,
    read_body,
    read_parameters,
)

__all__ = ["Request", "build_request"]

_STYLES: dict[str, tuple[StyleName, ...]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
_SCALARS = {"string", "integer", "number", "boolean"}
# Schemas of bodies that say nothing beside these can be taken apart into arguments.
_PLAIN = {"type", "properties", "required", "description", "examples", "default"}
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_MAX_DEFAULT_CHARS = 40


@dataclass
class Request:
    """Where an operation's arguments go."""

    properties: dict[str, Any] = field(default_factory=dict)
    """Schemas of the arguments."""
    required: list[str] = field(default_factory=list)
    """Arguments that must be given."""
    path: str = ""
    """Template of the path."""
    query: dict[str, str] = field(default_factory=dict)
    """Templates by names on the wire; likewise the following."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of headers."""
    cookies: dict[str, str] = field(default_factory=dict)
    """Of cookies."""
    body: dict[str, str] | str | None = None
    """Of the body's fields, or of the body."""
    body_type: str = "json"
    """As for HTTPTool."""
    content_type: str | None = None
    """As for HTTPTool."""
    styles: dict[str, ParameterStyle] = field(default_factory=dict)
    """By names of arguments."""

    def add(self, wire_name: str, place: str, schema: Any, *, required: bool) -> str:
        """Add an argument; returns its name."""
        name = _argument_name(wire_name, place, self.properties)
        self.properties[name] = schema
        if required:
            self.required.append(name)
        return name


def build_request(
    document: Document,
    operation: Operation,
    schemas: SchemaSet,
    *,
    max_description_chars: int,
    deprecated: bool,
) -> Request:
    """Put an operation's parameters and body together.

    Args:
        document: That describes it.
        operation: The operation.
        schemas: Translates its schemas.
        max_description_chars: Of an argument; longer ones are cut.
        deprecated: Keep optional parameters that are deprecated.

    Raises:
        SchemaError: It cannot be called; the message says where in the document the reason is.
    """
    request = Request()
    names: dict[str, str] = {}
    for parameter in read_parameters(document, operation):
        if parameter.deprecated and not parameter.required and not deprecated:
            continue
        schema = _argument_schema(parameter, schemas, max_description_chars)
        name = request.add(parameter.name, parameter.place, schema, required=parameter.required)
        _place(request, parameter, name, names)
        style = _style(document, parameter, schema)
        if style is not None:
            request.styles[name] = style
    request.path = _path_template(operation, request, names)
    body = read_body(document, operation)
    if body is not None and operation.method not in ("GET", "HEAD"):
        _add_body(document, request, body, schemas, max_description_chars)
    elif body is not None and body.required:
        raise SchemaError(f"{body.node.where}: a {operation.method} request has no body")
    return request


# --- parameters -------------------------------------------------------------------------------


def _argument_schema(parameter: Parameter, schemas: SchemaSet, limit: int) -> Any:
    schema = schemas.translate(parameter.schema)
    if not isinstance(schema, dict):
        schema = {} if schema is True else {"not": {}}
    schema = dict(schema)
    said = parameter.node.value.get("description")
    return _described(schema, said if isinstance(said, str) else "", limit)


def _described(schema: dict[str, Any], said: str, limit: int) -> dict[str, Any]:
    """The schema with a description, and in it the default: services fill in their own."""
    text = shortened(said, limit) or schema.get("description", "")
    default = schema.pop("default", None)
    if default is not None:
        shown = json.dumps(default, ensure_ascii=False)
        if len(shown) <= _MAX_DEFAULT_CHARS and "default" not in text.casefold():
            text = f"{text} (default: {shown})".strip()
    schema.pop("description", None)
    leading = {"type": schema.pop("type")} if "type" in schema else {}
    return {**leading, **({"description": text} if text else {}), **schema}


def _place(request: Request, parameter: Parameter, name: str, names: dict[str, str]) -> None:
    template = f"{{{name}}}"
    if parameter.place == "path":
        names[parameter.name] = name
    elif parameter.place == "query":
        request.query[parameter.name] = template
    elif parameter.place == "header":
        request.headers[parameter.name] = template
    else:
        request.cookies[parameter.name] = template


def _style(document: Document, parameter: Parameter, schema: Any) -> ParameterStyle | None:
    """How to write it; None where every way gives the same."""
    if parameter.is_json:
        return ParameterStyle("json")
    value = parameter.node.value
    known = _STYLES[parameter.place]
    style: StyleName = value["style"] if value.get("style") in known else known[0]
    explode = value.get("explode")
    reserved = parameter.place == "query" and value.get("allowReserved") is True
    kinds = schema.get("type")
    is_scalar = isinstance(kinds, str) and kinds in _SCALARS
    if is_scalar and style == known[0] and not reserved:
        return None
    return ParameterStyle(
        style,
        explode if isinstance(explode, bool) else style == "form",
        allow_reserved=reserved,
        name=parameter.name if style == "matrix" else None,
    )


def _path_template(operation: Operation, request: Request, names: dict[str, str]) -> str:
    """The path with arguments' names in place of parameters'."""

    def argument(match: re.Match[str]) -> str:
        wire_name = match[1]
        if wire_name not in names:  # often forgotten; there is only one thing that it can be
            names[wire_name] = request.add(wire_name, "path", {"type": "string"}, required=True)
        return f"\0{names[wire_name]}\1"

    # Documents tell operations of one path apart by what follows "#", which is never sent.
    path = _PLACEHOLDER.sub(argument, operation.path.partition("#")[0])
    path = path.replace("{", "{{").replace("}", "}}").replace("\0", "{").replace("\1", "}")
    for wire_name in [n for n in names if f"{{{n}}}" not in operation.path]:
        request.properties.pop(names[wire_name])  # declared, but the path has no place for it
        request.required.remove(names[wire_name])
        request.styles.pop(names[wire_name], None)
    return path


# --- bodies -----------------------------------------------------------------------------------


def _add_body(
    document: Document, request: Request, body: Body, schemas: SchemaSet, limit: int
) -> None:
    request.body_type = body.kind
    if body.kind in ("json", "text") and "*" not in body.media_type:
        plain = body.media_type in ("application/json", "text/plain")
        request.content_type = None if plain else body.media_type
    target = document.resolved(body.schema)
    schema = schemas.translate(target)
    if not isinstance(schema, dict):
        schema = {}
    if body.kind == "text":
        schema = _described({**schema, "type": "string"}, body.description, limit)
        request.body = f"{{{request.add('body', 'body', schema, required=body.required)}}}"
        return
    if body.kind != "json":
        schema = _without_files(document, body, schema, target)
    # Arguments of their own are easier for small models than an object within the arguments.
    properties = schema.get("properties")
    needed = schema.get("required", [])
    if isinstance(properties, Mapping) and properties and _can_be_split(schema, body, needed):
        request.body = {}
        for wire_name, part in properties.items():
            part = _described(dict(part), "", limit) if isinstance(part, dict) else part
            name = request.add(wire_name, "body", part, required=wire_name in needed)
            request.body[wire_name] = f"{{{name}}}"
            if body.kind == "form":
                style = _form_style(body, wire_name)
                if style is not None:
                    request.styles[name] = style
        return
    said = body.description or schema.get("description", "")
    schema = _described(schema, said if isinstance(said, str) else "", limit)
    if body.kind != "json":
        schema.setdefault("type", "object")
    name = request.add("body", "body", schema, required=body.required)
    request.body = f"{{{name}}}"


def _can_be_split(schema: Mapping[str, Any], body: Body, needed: list[str]) -> bool:
    if not body.required and needed:
        return False  # all or nothing, which separate arguments cannot say
    closed = schema.get("additionalProperties", False) is False
    return closed and not schema.keys() - _PLAIN - {"additionalProperties"}


def _form_style(body: Body, wire_name: str) -> ParameterStyle | None:
    encoding = body.node.child("encoding", wire_name).value
    if not isinstance(encoding, Mapping):
        return None
    style, explode = encoding.get("style", "form"), encoding.get("explode")
    if style not in get_args(StyleName) or style not in _STYLES["query"]:
        return None
    return ParameterStyle(style, explode if isinstance(explode, bool) else None)


def _without_files(
    document: Document, body: Body, schema: dict[str, Any], target: Node
) -> dict[str, Any]:
    """The schema of a form without fields for files, which models do not have."""
    properties = dict(schema.get("properties") or {})
    for wire_name in list(properties):
        node = document.resolved(target.child("properties", wire_name))
        item = document.resolved(node.child("items"))
        if not (_is_file(node.value) or _is_file(item.value)):
            continue
        if wire_name in schema.get("required", ()):
            raise SchemaError(f"{node.where}: {wire_name!r} is a file, which cannot be sent")
        del properties[wire_name]
    return {**schema, "properties": properties} if properties else schema


def _is_file(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (
        schema.get("format") in ("binary", "base64")
        or schema.get("contentMediaType") == "application/octet-stream"
    )


def _argument_name(wire_name: str, place: str, taken: Collection[str]) -> str:
    """A name for an argument that templates can hold, resembling the one on the wire."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", wire_name).strip("_-") or place
    if not (name[0].isalpha() or name[0] == "_"):
        name = f"_{name}"
    if name not in taken:
        return name
    unique, count = f"{name}_{place}", 2
    while unique in taken:
        unique, count = f"{name}_{place}{count}", count + 1
    return unique
