"""JSON Schema ground work: copying, walking, resolving ``$ref``, and judging a tool's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from agentkit.errors import SchemaError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

__all__ = [
    "LISTS",
    "MAPS",
    "SINGLES",
    "build_validator",
    "check_schema",
    "echo",
    "json_path",
    "plain",
    "resolve",
]

Path = tuple[str | int, ...]
"""Keys and indexes that lead from a root to a place below it."""

MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords that hold schemas by name."""
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
"""Keywords that hold a list of schemas."""
SINGLES = (
    "items",
    "additionalProperties",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
)
"""Keywords that hold one schema."""
# Keywords whose subschemas judge the same value, so that a $ref among them does not descend.
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE_SINGLES = ("not", "if", "then", "else")

_BARE_KEY = re.compile(r"[^\W\d][\w-]*")
_PYTHON_TYPES = {
    "int": "integer",
    "float": "number",
    "double": "number",
    "str": "string",
    "text": "string",
    "bool": "boolean",
    "list": "array",
    "tuple": "array",
    "dict": "object",
    "none": "null",
}


def json_path(path: Sequence[str | int]) -> str:
    """Write a path as ``$.items[2].price``; keys that are not plain words are quoted."""
    parts = ["$"]
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif _BARE_KEY.fullmatch(part):
            parts.append(f".{part}")
        else:
            parts.append(f"[{echo(part, limit=40)}]")
    return "".join(parts)


def echo(value: Any, *, limit: int = 80) -> str:
    """Show a value as JSON in at most about ``limit`` characters."""
    if isinstance(value, str) and len(value) > limit:
        # Cut before quoting: a huge string must not be copied only to be thrown away.
        return f'{json.dumps(value[: limit - 2], ensure_ascii=False)[:-1]}…"'
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= limit + 2 else f"{text[:limit]}…"


def plain(value: Any) -> Any:
    """Copy a JSON value deeply, with every mapping a ``dict`` and every tuple a ``list``."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def resolve(root: Any, ref: str) -> Any:
    """Follow a local reference, ``#`` or ``#/...``.

    Args:
        root: The schema that the reference is written in.
        ref: The reference.

    Raises:
        LookupError: It leads nowhere.
    """
    target = root
    for raw in ref[1:].split("/")[1:]:
        part = unquote(raw).replace("~1", "/").replace("~0", "~")
        target = target[int(part)] if isinstance(target, list) and part.isdigit() else target[part]
    return target


def check_schema(schema: Mapping[str, Any], *, tool_name: str | None) -> None:
    """Refuse a schema of arguments that cannot be validated against.

    Args:
        schema: JSON Schema, draft 2020-12, of a tool's arguments.
        tool_name: For the error message; None for a ``response_schema``.

    Raises:
        SchemaError: The schema is not valid, uses something that is not supported, or has a
            ``$ref`` that is not local, leads nowhere or leads back to itself.
    """
    build_validator(plain(schema), tool_name=tool_name)


def build_validator(root: dict[str, Any], *, tool_name: str | None) -> Draft202012Validator:
    """Check a schema as :func:`check_schema` does and make its validator.

    Args:
        root: The schema, a copy that may be rewritten.
        tool_name: For the error message.
    """
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import best_match

    try:
        # The metaschema's only format that matters here is "regex": a pattern that does not
        # compile would otherwise surface as re.error in the middle of a run.
        meta = Draft202012Validator(
            Draft202012Validator.META_SCHEMA, format_checker=FormatChecker(formats=["regex"])
        )
        error = best_match(meta.iter_errors(root))
        if error is not None:
            raise _invalid(tool_name, error)
        for path, node in _walk(root, ()):
            _check_node(root, path, node, tool_name)
            _replace_false(node)
    except RecursionError:
        raise SchemaError(
            f"{_subject(tool_name)} is nested too deeply; move the inner parts to $defs"
        ) from None
    return Draft202012Validator(root)


def _invalid(tool_name: str | None, error: Any) -> SchemaError:
    path, value = list(error.absolute_path), error.instance
    if path and path[-1] == "type" and isinstance(value, str):
        known = "array, boolean, integer, null, number, object, string"
        meant = _PYTHON_TYPES.get(value.lower())
        hint = f'; did you mean "{meant}"?' if meant else ""
        problem = f"is not a JSON Schema type{hint} (types: {known})"
    elif path and path[-1] == "required":
        problem = "must be an array of property names, placed beside 'properties'"
    elif error.validator == "format":
        problem = "is not a regular expression that can be compiled"
    elif error.validator == "type":
        expected = error.validator_value
        names = [expected] if isinstance(expected, str) else list(expected)
        problem = f"must be of type {' or '.join(names)}"
    else:
        problem = f"is not valid here: {error.message[:200]}"
    return _schema_error(tool_name, path, value, problem)


def _subject(tool_name: str | None) -> str:
    return "response_schema" if tool_name is None else f"tool {tool_name!r}: the parameters' schema"


def _schema_error(
    tool_name: str | None, path: Sequence[str | int], value: Any, why: str
) -> SchemaError:
    return SchemaError(
        f"{_subject(tool_name)} is not usable at {json_path(path)}: {echo(value)} {why}"
    )


def _walk(node: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every subschema that is an object. Looks only where schemas stand, so that a property
    called ``$ref`` or an example holding one is not taken for a reference."""
    if not isinstance(node, dict):
        return
    yield path, node
    for key in MAPS:
        for name, child in node.get(key, {}).items():
            yield from _walk(child, (*path, key, name))
    for key in LISTS:
        for index, child in enumerate(node.get(key, ())):
            yield from _walk(child, (*path, key, index))
    for key in SINGLES:
        yield from _walk(node.get(key), (*path, key))


def _check_node(
    root: dict[str, Any], path: Path, node: dict[str, Any], tool_name: str | None
) -> None:
    for key in ("$dynamicRef", "$dynamicAnchor"):
        if key in node:
            raise _schema_error(
                tool_name, (*path, key), node[key], 'is not supported; use "$ref": "#/$defs/..."'
            )
    if path and "$id" in node:
        raise _schema_error(
            tool_name, (*path, "$id"), node["$id"], "is supported at the schema's root only"
        )
    if "$ref" not in node:
        return
    ref, where = node["$ref"], (*path, "$ref")
    if ref != "#" and not ref.startswith("#/"):
        raise _schema_error(
            tool_name, where, ref, "is not a local reference; use '#/$defs/...' and put it there"
        )
    try:
        target = resolve(root, ref)
    except (LookupError, TypeError):
        raise _schema_error(tool_name, where, ref, "leads to nothing in this schema") from None
    if not isinstance(target, dict | bool):
        raise _schema_error(tool_name, where, ref, "leads to something that is no schema")
    if _comes_back(root, target, node, set()):
        raise _schema_error(tool_name, where, ref, "leads back to itself without an end")


def _replace_false(node: dict[str, Any]) -> None:
    """Write ``false`` as ``{"not": {}}`` among properties: jsonschema's errors about ``false``
    lack the property's name."""
    for key in ("properties", "patternProperties"):
        for name, child in node.get(key, {}).items():
            if child is False:
                node[key][name] = {"not": {}}


def _comes_back(root: dict[str, Any], node: Any, origin: dict[str, Any], seen: set[int]) -> bool:
    """Whether judging a value by ``node`` means judging the same value by ``origin`` again."""
    if node is origin:
        return True
    if not isinstance(node, dict) or id(node) in seen:
        return False
    seen.add(id(node))
    children = [child for key in _IN_PLACE_LISTS for child in node.get(key, ())]
    children += [node[key] for key in _IN_PLACE_SINGLES if key in node]
    children += node.get("dependentSchemas", {}).values()
    if "$ref" in node:
        try:
            children.append(resolve(root, node["$ref"]))
        except (LookupError, TypeError):
            return False  # reported where that reference stands
    return any(_comes_back(root, child, origin, seen) for child in children)
