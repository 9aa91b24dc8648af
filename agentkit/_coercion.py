"""Mending of tool arguments that are right in all but their JSON type.

Small models write ``"3"`` for ``3`` and ``"[1, 2]"`` for ``[1, 2]``. A value is changed only
where it does not validate as it stands, the change loses nothing, and the result validates.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agentkit._schemas import Path, json_path, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import Draft202012Validator

__all__ = ["Coercer", "Coercion"]

_ALL = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_BLANKS = " \t\r\n"
# JSON's own grammar of numbers: no "+3", "007", "1_000" or digits of other scripts, each of
# which may well be meant as text.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MAX_NUMBER_CHARS = 64
# Alternatives within alternatives multiply; past this many visits values stay as they are.
_MAX_VISITS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Coercion:
    """One change made to a call's arguments."""

    path: str
    """Where, as ``$.items[2].price``."""
    before: Any
    """The value as the model wrote it."""
    after: Any
    """The value now; ``None`` if it was dropped."""
    description: str
    """What was done, in words."""


_Repaired = tuple[Any, list[Coercion]]
_Schema = dict[str, Any] | bool


class Coercer:
    """Mends one call's arguments.

    Args:
        validator: Of the whole schema.
        root: That schema.
    """

    def __init__(self, validator: Draft202012Validator, root: dict[str, Any]) -> None:
        self._validator = validator
        self._root = root
        self._visits_left = _MAX_VISITS

    def repair(self, value: Any, schema: _Schema, path: Path = ()) -> _Repaired:
        """Mend a value as far as that is safe.

        Args:
            value: Never changed itself; containers come back as copies.
            schema: What the value must satisfy.
            path: Where it stands.

        Returns:
            The value, mended or not (it may still not validate), and what was changed.
        """
        self._visits_left -= 1
        if self._visits_left < 0 or isinstance(schema, bool):
            return value, []
        if isinstance(value, dict | list):
            return self._repair_container(value, schema, path)
        return self._repair_scalar(value, schema, path)

    def _valid(self, value: Any, schema: _Schema) -> bool:
        return self._validator.evolve(schema=schema).is_valid(value)

    def _repair_scalar(self, value: Any, schema: dict[str, Any], path: Path) -> _Repaired:
        if self._valid(value, schema):
            # JSON Schema takes 3.0 for an integer; Python functions may not.
            if isinstance(value, float) and "number" not in self._types(schema):
                return int(value), [_coercion(path, value, int(value), "number to integer")]
            return value, []
        for candidate, description in self._candidates(value, schema):
            mended: Any = candidate
            inner: list[Coercion] = []
            if isinstance(candidate, dict | list):
                mended, inner = self.repair(candidate, schema, path)
            if self._valid(mended, schema):
                return mended, [_coercion(path, value, candidate, description), *inner]
        return value, []

    def _candidates(self, value: Any, schema: dict[str, Any]) -> Iterator[tuple[Any, str]]:
        types = self._types(schema)
        if isinstance(value, str):
            yield from self._from_enum(value, schema)
            text = value.strip(_BLANKS)
            yield from _from_number_text(text, types)
            if text.lower() in ("true", "false") and "boolean" in types:
                yield text.lower() == "true", "string to boolean"
            if text == "null" and "null" in types:
                yield None, "string to null"
            yield from _from_json_text(text, types)
        elif (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and "string" in types
            # A number where numbers are allowed breaks some bound; as text it would evade it.
            and not types & {"number", "integer"}
        ):
            try:
                yield json.dumps(value), "number to string"
            except ValueError:  # more digits than Python converts
                return

    def _from_enum(self, value: str, schema: dict[str, Any]) -> Iterator[tuple[Any, str]]:
        wanted = value.strip().casefold()
        found = {m for m in self._members(schema) if m.strip().casefold() == wanted}
        if len(found) == 1:
            yield found.pop(), "letter case or surrounding blanks mended"

    def _members(self, schema: _Schema) -> Iterator[str]:
        """All strings among the enum and const values that a schema offers."""
        for layer in self._layers(schema):
            values = [*layer.get("enum", ()), layer.get("const")]
            yield from (value for value in values if isinstance(value, str))
            for _, branches in _groups(layer):
                for branch in branches:
                    yield from self._members(branch)

    def _repair_container(
        self, value: dict[str, Any] | list[Any], schema: dict[str, Any], path: Path
    ) -> _Repaired:
        layers = list(self._layers(schema))
        if isinstance(value, dict):
            mended, coercions = self._repair_object(value, layers, path)
        else:
            mended, coercions = self._repair_array(value, layers, path)
        for layer in layers:
            for keyword, branches in _groups(layer):
                mended, more = self._repair_by_branch(mended, keyword, branches, path)
                coercions += more
        return mended, coercions

    def _repair_by_branch(
        self, value: Any, keyword: str, branches: list[_Schema], path: Path
    ) -> _Repaired:
        group: dict[str, Any] = {keyword: branches}
        if self._valid(value, group):
            valid = next(branch for branch in branches if self._valid(value, branch))
            return self.repair(value, valid, path)
        kind = "object" if isinstance(value, dict) else "array"
        fitting = [branch for branch in branches if kind in self._types(branch)]
        if len(fitting) == 1:  # as with an optional object: there is no choice to be made
            return self.repair(value, fitting[0], path)
        best: _Repaired | None = None
        for branch in fitting:
            mended, coercions = self.repair(value, branch, path)
            if (best is None or len(coercions) < len(best[1])) and self._valid(mended, group):
                best = mended, coercions
        return best or (value, [])

    def _repair_object(
        self, value: dict[str, Any], layers: list[dict[str, Any]], path: Path
    ) -> _Repaired:
        mended: dict[str, Any] = {}
        coercions: list[Coercion] = []
        for name, child in value.items():
            schema, where = _all_of(_property_schemas(layers, name)), (*path, name)
            if child is None and _optional(layers, name) and not self._valid(None, schema):
                coercions.append(_coercion(where, None, None, "null for an optional key dropped"))
                continue
            mended[name], more = self.repair(child, schema, where)
            coercions += more
        return mended, coercions

    def _repair_array(
        self, value: list[Any], layers: list[dict[str, Any]], path: Path
    ) -> _Repaired:
        mended: list[Any] = []
        coercions: list[Coercion] = []
        for index, child in enumerate(value):
            schema = _all_of(_item_schemas(layers, index))
            item, more = self.repair(child, schema, (*path, index))
            mended.append(item)
            coercions += more
        return mended, coercions

    def _layers(self, schema: _Schema) -> Iterator[dict[str, Any]]:
        """The schema and all that it makes hold for the same value, by $ref or allOf."""
        if isinstance(schema, bool):
            return
        yield schema
        if "$ref" in schema:
            yield from self._layers(resolve(self._root, schema["$ref"]))
        for member in schema.get("allOf", ()):
            yield from self._layers(member)

    def _types(self, schema: _Schema) -> frozenset[str]:
        """JSON types that a schema may accept; "number" stands for numbers with a fraction."""
        if isinstance(schema, bool):
            return _ALL if schema else frozenset()
        types = _ALL
        for layer in self._layers(schema):
            types &= _own_types(layer)
            for _, branches in _groups(layer):
                types &= frozenset().union(*(self._types(branch) for branch in branches))
        return types


def _coercion(path: Path, before: Any, after: Any, description: str) -> Coercion:
    return Coercion(path=json_path(path), before=before, after=after, description=description)


def _from_number_text(text: str, types: frozenset[str]) -> Iterator[tuple[Any, str]]:
    if len(text) > _MAX_NUMBER_CHARS or not _NUMBER.fullmatch(text):
        return
    if text.lstrip("-").isdigit():
        if types & {"integer", "number"}:
            yield int(text), "string to number"
        return
    exact, number = Decimal(text), float(text)
    # Also refuses what float cannot hold: 1e400, or more digits than it has.
    if not math.isfinite(number) or Decimal(repr(number)) != exact:
        return
    if "number" in types:
        yield number, "string to number"
    elif "integer" in types and exact == exact.to_integral_value():
        yield int(exact), "string to number"


def _from_json_text(text: str, types: frozenset[str]) -> Iterator[tuple[Any, str]]:
    kind = {"{": "object", "[": "array"}.get(text[:1])
    if kind not in types:
        return
    try:
        yield json.loads(text, parse_constant=_refuse), f"string to {kind}"
    except (ValueError, RecursionError):
        return


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _own_types(schema: dict[str, Any]) -> frozenset[str]:
    types = _ALL
    if "type" in schema:
        named = schema["type"]
        types &= {named} if isinstance(named, str) else set(named)
        if "number" in types:
            types |= {"integer"}
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return types if values is None else types & {_type_of(value) for value in values}


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    names = {float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _groups(schema: dict[str, Any]) -> Iterator[tuple[str, list[_Schema]]]:
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            yield keyword, schema[keyword]


def _all_of(schemas: list[_Schema]) -> _Schema:
    if not schemas:
        return True
    return schemas[0] if len(schemas) == 1 else {"allOf": schemas}


def _property_schemas(layers: list[dict[str, Any]], name: str) -> list[_Schema]:
    found: list[_Schema] = []
    for layer in layers:
        own = [layer["properties"][name]] if name in layer.get("properties", {}) else []
        patterns = layer.get("patternProperties", {})
        own += [schema for pattern, schema in patterns.items() if re.search(pattern, name)]
        found += own or [layer.get("additionalProperties", True)]
    return [schema for schema in found if schema is not True]


def _item_schemas(layers: list[dict[str, Any]], index: int) -> list[_Schema]:
    found: list[_Schema] = []
    for layer in layers:
        prefix = layer.get("prefixItems", [])
        found.append(prefix[index] if index < len(prefix) else layer.get("items", True))
    return [schema for schema in found if schema is not True]


def _optional(layers: list[dict[str, Any]], name: str) -> bool:
    known = any(name in layer.get("properties", {}) for layer in layers)
    return known and not any(name in layer.get("required", ()) for layer in layers)
