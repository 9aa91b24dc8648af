"""JSON Schemas of arguments, cut down to what a small model's prompt should hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["clean_schema", "model_parameters"]

_MAPS = ("properties", "patternProperties", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "contains", "propertyNames", "not")
# "discriminator" is OpenAPI's; the alternatives' own "const" says the same.
_NOISE = ("title", "discriminator", "$defs")
# The order in which people write schemas, and models have seen them.
_ORDER = ("type", "description", "enum", "const", "$ref", "anyOf", "properties", "required")


def model_parameters(model: type[BaseModel], *, closed: bool = False) -> dict[str, Any]:
    """The schema of a pydantic model's input, cleaned and closed to unknown arguments.

    Args:
        model: Its fields, by alias, are the arguments.
        closed: Close nested objects as well.
    """
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        # Defaults that JSON cannot hold are left out, which is what is wanted.
        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    schema = model.model_json_schema(by_alias=True, schema_generator=Quiet)
    cleaned = clean_schema(schema, closed=closed)
    return {**cleaned, "additionalProperties": cleaned.get("additionalProperties", False)}


def clean_schema(schema: Mapping[str, Any], *, closed: bool = False) -> dict[str, Any]:
    """Drop titles and null defaults, inline definitions, and simplify optional arguments.

    An optional argument whose default is ``None`` loses its "null" alternative: leaving the
    argument out says the same, and a small model has one thing less to get wrong. Definitions
    that contain themselves stay in ``$defs``.

    Args:
        schema: As pydantic writes it; not changed.
        closed: Add ``"additionalProperties": false`` to objects that list their properties.
    """
    cleaner = _Cleaner(schema.get("$defs", {}), closed=closed)
    root = dict(schema)
    if "$ref" in root:  # a model that contains itself
        root = {**cleaner.definition(root.pop("$ref")), **root}
    cleaned = cleaner.clean(root)
    if cleaner.recursive:
        cleaned["$defs"] = {
            name: cleaner.clean(cleaner.definitions[name]) for name in sorted(cleaner.recursive)
        }
    return cleaned


class _Cleaner:
    def __init__(self, definitions: Mapping[str, Any], *, closed: bool) -> None:
        self.definitions = definitions
        self.recursive = {name for name in definitions if self._reaches(name, name, set())}
        self._closed = closed

    def definition(self, ref: str) -> dict[str, Any]:
        found: dict[str, Any] = self.definitions[ref.removeprefix("#/$defs/")]
        return found

    def clean(self, node: Mapping[str, Any]) -> dict[str, Any]:
        node = dict(node)
        if "$ref" in node and node["$ref"].removeprefix("#/$defs/") not in self.recursive:
            ref = node.pop("$ref")
            node = {**self.clean(self.definition(ref)), **node}
        cleaned = {
            key: value
            for key, value in node.items()
            if key not in _NOISE and not (key == "default" and value is None)
        }
        if "properties" in node:
            cleaned["properties"] = self._clean_properties(node)
            if self._closed:
                cleaned.setdefault("additionalProperties", False)
        for key in _MAPS[1:]:
            if key in node:
                cleaned[key] = {name: self._part(child) for name, child in node[key].items()}
        for key in _LISTS:
            if key in node:
                cleaned[key] = [self._part(child) for child in node[key]]
        for key in _SINGLES:
            if key in node:
                cleaned[key] = self._part(node[key])
        leading = {key: cleaned[key] for key in _ORDER if key in cleaned}
        return {**leading, **cleaned}

    def _part(self, node: Any) -> Any:
        return self.clean(node) if isinstance(node, Mapping) else node  # true or false

    def _clean_properties(self, node: Mapping[str, Any]) -> dict[str, Any]:
        required = node.get("required", ())
        properties: dict[str, Any] = {}
        for name, child in node["properties"].items():
            cleaned = self._part(child)
            if name not in required and isinstance(child, Mapping) and _defaults_to_null(child):
                cleaned = _without_null(cleaned)
            properties[name] = cleaned
        return properties

    def _reaches(self, name: str, goal: str, seen: set[str]) -> bool:
        for other in _references(self.definitions.get(name)):
            if other == goal:
                return True
            if other not in seen:
                seen.add(other)
                if self._reaches(other, goal, seen):
                    return True
        return False


def _references(node: Any) -> set[str]:
    if isinstance(node, Mapping):
        found = {name for child in node.values() for name in _references(child)}
        ref = node.get("$ref")
        return found | {ref.removeprefix("#/$defs/")} if isinstance(ref, str) else found
    if isinstance(node, list):
        return {name for child in node for name in _references(child)}
    return set()


def _defaults_to_null(child: Mapping[str, Any]) -> bool:
    return "default" in child and child["default"] is None


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("enum"), list):
        return {**schema, "enum": [member for member in schema["enum"] if member is not None]}
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    if not branches or len(branches) == len(schema["anyOf"]):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    # What is said of the argument itself goes before what is said of its type.
    simple = {**branches[0], **rest} if len(branches) == 1 else {**rest, "anyOf": branches}
    return {**{key: simple[key] for key in _ORDER if key in simple}, **simple}
