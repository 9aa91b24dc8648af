"""Schemas of older dialects, written as JSON Schema 2020-12.

What is known: draft 4 (``exclusiveMinimum: true``, ``id``), drafts 6 and 7 (``items`` as a list,
``dependencies``) and OpenAPI 3.0 (``nullable``, ``example``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentkit._schemas import LISTS, MAPS
from agentkit._schemas import SINGLES as _TODAYS_SINGLES

__all__ = ["LISTS", "MAPS", "SINGLES", "modernized"]

SINGLES = (*_TODAYS_SINGLES, "additionalItems")
"""Keywords that hold one schema, today or in older drafts."""

# Titles repeat names, and cost a model tokens.
_NOISE = ("title", "$schema", "$comment")
_BOUNDS = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))


def modernized(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the schema in the words of 2020-12, without titles.

    Args:
        schema: Of any dialect named above, without cycles but for ``$ref``.
    """
    return modernized_node(schema, modernized)


def modernized_node(
    schema: Mapping[str, Any], child: Callable[[Mapping[str, Any]], Any]
) -> dict[str, Any]:
    """One schema object in the words of 2020-12.

    Args:
        schema: The object.
        child: Does the same for the schemas within it.
    """
    node: dict[str, Any] = {}
    for key, value in schema.items():
        if key in MAPS and isinstance(value, Mapping):
            node[key] = {name: _part(item, child) for name, item in value.items()}
        elif key in LISTS and isinstance(value, list):
            node[key] = [_part(item, child) for item in value]
        elif key == "items" and isinstance(value, list):
            node["prefixItems"] = [_part(item, child) for item in value]
        elif key in SINGLES:
            node[key] = _part(value, child)
        elif key not in _NOISE:
            node[key] = value
    _tuples(node, schema)
    _bounds(node)
    _examples(node)
    _nullable(node)
    _dependencies(node, child)
    if isinstance(node.get("required"), bool):  # draft 3 marked the property itself
        del node["required"]
    if isinstance(node.get("id"), str):  # draft 4's $id
        del node["id"]
    return node


def _part(value: Any, child: Callable[[Mapping[str, Any]], Any]) -> Any:
    return child(value) if isinstance(value, Mapping) else value


def _tuples(node: dict[str, Any], schema: Mapping[str, Any]) -> None:
    rest = node.pop("additionalItems", None)
    if isinstance(schema.get("items"), list) and rest is not None:
        node["items"] = rest


def _bounds(node: dict[str, Any]) -> None:
    for exclusive, inclusive in _BOUNDS:
        value = node.get(exclusive)
        if value is True and inclusive in node:
            node[exclusive] = node.pop(inclusive)
        elif isinstance(value, bool):
            del node[exclusive]


def _examples(node: dict[str, Any]) -> None:
    if "example" in node:
        example = node.pop("example")
        if example is not None and "examples" not in node:
            node["examples"] = [example]
    if "examples" in node and not isinstance(node["examples"], list):
        del node["examples"]  # OpenAPI's named examples are no schema's


def _nullable(node: dict[str, Any]) -> None:
    if node.pop("nullable", False) is not True:
        return
    if isinstance(node.get("enum"), list) and None not in node["enum"]:
        node["enum"] = [*node["enum"], None]
    kind = node.get("type")
    if isinstance(kind, str):
        node["type"] = [kind, "null"]
    elif isinstance(kind, list) and "null" not in kind:
        node["type"] = [*kind, "null"]
    elif kind is None and "$ref" in node:
        node["anyOf"] = [{"$ref": node.pop("$ref")}, {"type": "null"}]
    elif kind is None:
        for key in ("anyOf", "oneOf"):
            if key in node:
                node[key] = [*node[key], {"type": "null"}]
                return
        if "allOf" in node:
            node["anyOf"] = [{"allOf": node.pop("allOf")}, {"type": "null"}]


def _dependencies(node: dict[str, Any], child: Callable[[Mapping[str, Any]], Any]) -> None:
    dependencies = node.pop("dependencies", None)
    if not isinstance(dependencies, Mapping):
        return
    for name, value in dependencies.items():
        if isinstance(value, list):
            node.setdefault("dependentRequired", {})[name] = value
        else:
            node.setdefault("dependentSchemas", {})[name] = _part(value, child)
