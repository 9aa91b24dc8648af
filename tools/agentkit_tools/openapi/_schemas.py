"""Schemas of OpenAPI documents as JSON Schemas that stand alone, in a model's prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from agentkit_tools._json_schema import LISTS, MAPS, SINGLES, modernized_node
from agentkit_tools._names import tool_name
from agentkit_tools.openapi._document import Document, Node
from agentkit_tools.openapi._text import shortened

__all__ = ["SchemaSet"]

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
# Formats that mean something to a model, and that grammars know.
_FORMATS = (
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "time",
    "uri",
    "uuid",
)
_NOISE = (
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveRef",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "deprecated",
    "discriminator",
    "externalDocs",
    "readOnly",
    "writeOnly",
    "xml",
)
# What grammars do not know of regular expressions.
_LOOKAROUND = re.compile(r"\(\?<?[=!]|\\[1-9bB]|\(\?P?[<(]")
_MAX_EXAMPLE_CHARS = 60
_SMALL_CHARS = 200
"""Definitions up to this size are written where they are used, however often that is."""


class SchemaSet:
    """Translates the schemas of a document, each once.

    Args:
        document: The document.
        max_description_chars: Longer descriptions are cut.
        deprecated: Keep optional properties that are deprecated.
    """

    def __init__(self, document: Document, *, max_description_chars: int, deprecated: bool) -> None:
        self._document = document
        self._max_chars = max_description_chars
        self._deprecated = deprecated
        self._names: dict[tuple[str, str], str] = {}  # of definitions, by where they stand
        self._definitions: dict[str, Any] = {}

    def translate(self, node: Node) -> Any:
        """A schema that refers to its definitions as ``#/$defs/...``; see :meth:`complete`.

        Raises:
            SchemaError: A reference leads nowhere.
        """
        schema = node.value
        if not isinstance(schema, Mapping):
            return schema if isinstance(schema, bool) else {}
        if isinstance(schema.get("$ref"), str):
            rest = {} if self._document.is_30 else {k: v for k, v in schema.items() if k != "$ref"}
            reference = {"$ref": f"#/$defs/{self._define(node, schema['$ref'])}"}
            if not rest:
                return reference
            return {**reference, **self._object(Node(rest, node.source, node.pointer))}
        return self._object(node)

    def complete(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema with the definitions that it needs: in place where that is short or said
        once, else in ``$defs``."""
        used = self._reached(schema)
        counts: dict[str, int] = {}
        for part in (schema, *(self._definitions[name] for name in used)):
            for name in _references(part):
                counts[name] = counts.get(name, 0) + 1
        inlined: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        recursive = {name for name in used if name in self._reached(self._definitions[name])}

        def expand(part: Any) -> Any:
            if not isinstance(part, Mapping):
                return part
            if "$ref" not in part:
                return {k: _mapped(k, v, expand) for k, v in part.items()}
            name = part["$ref"].removeprefix("#/$defs/")
            rest = {k: _mapped(k, v, expand) for k, v in part.items() if k != "$ref"}
            if name in recursive:
                kept.setdefault(name, None)
                return {"$ref": part["$ref"], **rest}
            if name not in inlined:
                inlined[name] = expand(self._definitions[name])
            target = inlined[name]
            small = counts[name] == 1 or len(json.dumps(target)) <= _SMALL_CHARS
            if small and isinstance(target, dict) and not (target.keys() & rest.keys() - _ABOUT):
                return {**target, **rest}
            kept[name] = target
            return {"$ref": part["$ref"], **rest}

        result: dict[str, Any] = expand(schema)
        while missing := [name for name, value in kept.items() if value is None]:
            for name in missing:
                kept[name] = expand(self._definitions[name])
        return {**result, "$defs": dict(sorted(kept.items()))} if kept else result

    # --- one schema -------------------------------------------------------------------------

    def _define(self, node: Node, ref: str) -> str:
        target = self._document.follow(node, ref)
        place = (target.source, target.pointer)
        if place not in self._names:
            last = target.pointer.rpartition("/")[2] or target.source.rpartition("/")[2]
            name = tool_name(last.replace(".", "_"), self._definitions)
            self._names[place] = name
            self._definitions[name] = True  # takes the name, and ends a cycle
            self._definitions[name] = self.translate(target)
        return self._names[place]

    def _object(self, node: Node) -> dict[str, Any]:
        schema = {
            key: value
            for key, value in node.value.items()
            if key not in _NOISE and not key.startswith("x-")
        }
        places = {id(value): place for value, place in _children(schema, node)}
        result = modernized_node(
            schema, lambda part: self.translate(places.get(id(part), Node(part, node.source, "")))
        )
        self._tidy(result)
        self._drop_unsent(node, result)
        alone = result.get("allOf")
        if isinstance(alone, list) and len(alone) == 1 and isinstance(alone[0], dict):
            rest = {key: value for key, value in result.items() if key != "allOf"}
            if not (alone[0].keys() & rest.keys() - _ABOUT):
                return {**alone[0], **rest}
        return result

    def _drop_unsent(self, node: Node, result: dict[str, Any]) -> None:
        """Leave out what only responses hold, and optional properties of the past."""
        properties = result.get("properties")
        if not isinstance(properties, dict):
            return
        required = [name for name in result.get("required", ()) if isinstance(name, str)]
        for name in list(properties):
            property_ = node.child("properties", name)
            said = [property_.value, self._document.resolved(property_).value]
            said = [value for value in said if isinstance(value, Mapping)]
            read_only = any(value.get("readOnly") is True for value in said)
            past = any(value.get("deprecated") is True for value in said)
            if read_only or (past and name not in required and not self._deprecated):
                del properties[name]
                required = [other for other in required if other != name]
        if "required" in result:
            result["required"] = list(dict.fromkeys(required))
            if not result["required"]:
                del result["required"]

    def _tidy(self, node: dict[str, Any]) -> None:
        """Mend what documents often get wrong, and leave out what no model needs."""
        kinds = node.get("type")
        if isinstance(kinds, str | list):
            known = [k for k in ([kinds] if isinstance(kinds, str) else kinds) if k in _TYPES]
            if not known:
                del node["type"]
            else:
                node["type"] = known[0] if len(known) == 1 else known
        if "format" in node and node["format"] not in _FORMATS:
            del node["format"]
        if "pattern" in node and not _is_usable(node["pattern"]):
            del node["pattern"]
        if isinstance(node.get("enum"), list):
            node["enum"] = _distinct(node["enum"])
            if not node["enum"]:
                del node["enum"]
        for key in ("allOf", "anyOf", "oneOf"):
            if node.get(key) == []:
                del node[key]
        if isinstance(node.get("description"), str):
            node["description"] = shortened(node["description"], self._max_chars)
            if not node["description"]:
                del node["description"]
        examples = [e for e in node.pop("examples", ()) if not isinstance(e, dict | list)]
        if examples and "enum" not in node and len(str(examples[0])) <= _MAX_EXAMPLE_CHARS:
            node["examples"] = examples[:1]
        if "default" in node and node["default"] is None:
            del node["default"]

    def _reached(self, schema: Any) -> set[str]:
        """Names of all definitions that a schema needs, directly or not."""
        found: set[str] = set()
        waiting = [schema]
        while waiting:
            for name in _references(waiting.pop()):
                if name not in found:
                    found.add(name)
                    waiting.append(self._definitions[name])
        return found


_ABOUT = {"description", "examples", "default"}
"""Keywords that may be said anew of a schema that is referred to."""


def _mapped(key: str, value: Any, change: Any) -> Any:
    """The value of a keyword with the schemas within it changed."""
    if key in MAPS and isinstance(value, Mapping):
        return {name: change(item) for name, item in value.items()}
    if key in LISTS and isinstance(value, list):
        return [change(item) for item in value]
    return change(value) if key in SINGLES else value


def _children(schema: Mapping[str, Any], node: Node) -> Iterator[tuple[Any, Node]]:
    """The schemas directly within one, and where they stand."""
    for key, value in schema.items():
        if key in (*MAPS, "dependencies") and isinstance(value, Mapping):
            yield from ((item, node.child(key, name)) for name, item in value.items())
        elif isinstance(value, list) and (key in LISTS or key == "items"):
            yield from ((item, node.child(key, index)) for index, item in enumerate(value))
        elif key in SINGLES:
            yield value, node.child(key)


def _references(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    if isinstance(schema.get("$ref"), str):
        yield schema["$ref"].removeprefix("#/$defs/")
    for key, value in schema.items():
        if key in MAPS and isinstance(value, Mapping):
            for item in value.values():
                yield from _references(item)
        elif key in LISTS and isinstance(value, list):
            for item in value:
                yield from _references(item)
        elif key in SINGLES:
            yield from _references(value)


def _is_usable(pattern: Any) -> bool:
    """Whether a pattern can be validated and sampled under; the service knows it in any case."""
    if not isinstance(pattern, str) or _LOOKAROUND.search(pattern):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _distinct(values: list[Any]) -> list[Any]:
    seen: dict[str, Any] = {}
    for value in values:
        seen.setdefault(json.dumps(value, sort_keys=True, default=str), value)
    return list(seen.values())
