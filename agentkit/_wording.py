"""Validation errors in words that a small model can act on."""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit._schemas import Path, echo, json_path, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ArgumentError", "describe", "nearest", "word_errors"]

# jsonschema.exceptions.ValidationError, whose stubs call most attributes possibly unset; in the
# errors of a validation they never are.
_Raw = Any

_MAX_MEMBERS = 20
_MAX_NAMES = 30
_MAX_DESCRIPTION_CHARS = 120
_FORMATS = {
    "date": 'a date like "2025-01-31"',
    "date-time": 'a date and time like "2025-01-31T09:30:00Z"',
    "time": 'a time like "09:30:00"',
    "duration": 'a duration like "PT1H30M"',
    "email": "an e-mail address",
    "uri": "a URL",
    "uuid": "a UUID",
}
_KEYWORD_TYPES = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "minItems": "array",
    "maxItems": "array",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "format": "string",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentError:
    """One thing that is wrong with a call's arguments."""

    path: str
    """Where, as ``$.items[2].price``."""
    value: Any
    """What the model wrote there; ``None`` if nothing."""
    expected: str
    """What belongs there, in words."""
    message: str
    """The whole error in one line, path included, for the model."""


def nearest(name: str, names: Iterable[str], *, count: int = 1) -> list[str]:
    """The names that look most like ``name``, best first, letter case aside."""
    by_key = {known.casefold(): known for known in names}
    # Bounded: difflib's cost grows with the square of the length.
    keys = difflib.get_close_matches(name[:100].casefold(), by_key, n=count, cutoff=0.6)
    return [by_key[key] for key in keys]


def describe(schema: Any, root: dict[str, Any], *, depth: int = 2) -> str:
    """Say in words what a schema accepts.

    Args:
        schema: The schema or a part of it.
        root: The whole schema, for its references.
        depth: How many levels of items and properties are spelt out.
    """
    if isinstance(schema, bool) or not schema:
        return "nothing" if schema is False else "any value"
    if "const" in schema:
        return echo(schema["const"])
    if "enum" in schema:
        return _describe_enum(schema["enum"])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            parts = [describe(branch, root, depth=depth) for branch in schema[keyword]]
            return " or ".join(dict.fromkeys(parts))
    if "$ref" in schema:
        return describe(resolve(root, schema["$ref"]), root, depth=depth)
    if "allOf" in schema:
        parts = [describe(part, root, depth=depth) for part in schema["allOf"]]
        if "type" in schema:
            parts.insert(0, describe({**schema, "allOf": []}, root, depth=depth))
        return " and ".join(dict.fromkeys(parts)) or _describe_type(schema, root, depth)
    return _describe_type(schema, root, depth)


def word_errors(errors: Iterable[_Raw], root: dict[str, Any]) -> Iterator[ArgumentError]:
    """Turn jsonschema's errors into ours.

    Args:
        errors: Of one validation.
        root: The schema they come from.
    """
    for error in errors:
        path = tuple(error.absolute_path)
        match error.validator:
            case "required":
                yield from _missing(error, path, root)
            case "additionalProperties" | "unevaluatedProperties":
                yield from _unknown(error, path)
            case "anyOf" | "oneOf":
                yield from _alternatives(error, path, root)
            case "dependentRequired":
                yield from _dependent(error, path)
            case _:
                yield _mismatch(error, path, root)


def _error(path: Path, value: Any, expected: str, text: str) -> ArgumentError:
    where = json_path(path)
    return ArgumentError(path=where, value=value, expected=expected, message=f"{where}: {text}")


def _describe_enum(members: list[Any]) -> str:
    shown = ", ".join(echo(member, limit=40) for member in members[:_MAX_MEMBERS])
    more = len(members) - _MAX_MEMBERS
    if more > 0:
        shown += f" and {more} more"
    return shown if len(members) == 1 else f"one of {shown}"


def _describe_type(schema: dict[str, Any], root: dict[str, Any], depth: int) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        parts = [_describe_type({**schema, "type": name}, root, depth) for name in kind]
        return " or ".join(parts)
    if kind is None:  # what its keywords are about
        kind = next((_KEYWORD_TYPES[word] for word in schema if word in _KEYWORD_TYPES), None)
    match kind:
        case "integer" | "number":
            noun = "an integer" if kind == "integer" else "a number"
            return noun + _describe_range(schema)
        case "string":
            return _describe_string(schema)
        case "array":
            return _describe_array(schema, root, depth)
        case "object":
            return _describe_object(schema, depth)
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "a valid value"


def _describe_range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        parts.append(f"between {low} and {high}")
    elif low is not None:
        parts.append(f"of at least {low}")
    elif high is not None:
        parts.append(f"of at most {high}")
    if above is not None:
        parts.append(f"greater than {above}")
    if below is not None:
        parts.append(f"less than {below}")
    if "multipleOf" in schema:
        parts.append(f"divisible by {schema['multipleOf']}")
    return f" {' and '.join(parts)}" if parts else ""


def _describe_count(low: int | None, high: int | None, unit: str) -> str:
    if low is not None and low == high:
        return f"exactly {low} {unit}"
    if low and high is not None:
        return f"{low} to {high} {unit}"
    if low:
        return f"at least {low} {unit}"
    return f"at most {high} {unit}" if high is not None else ""


def _describe_string(schema: dict[str, Any]) -> str:
    low, high = schema.get("minLength"), schema.get("maxLength")
    kind = schema.get("format")
    if kind in _FORMATS:
        text = _FORMATS[kind]
    elif low == 1 and high is None:
        text = "a non-empty string"
    else:
        count = _describe_count(low, high, "characters")
        text = f"a string of {count}" if count else "a string"
    if "pattern" in schema:
        text += f" that matches the pattern {schema['pattern'][:_MAX_DESCRIPTION_CHARS]}"
    return text


def _describe_array(schema: dict[str, Any], root: dict[str, Any], depth: int) -> str:
    count = _describe_count(schema.get("minItems"), schema.get("maxItems"), "items")
    text = f"an array of {count}" if count else "an array"
    if schema.get("uniqueItems"):
        text += " without repeats"
    if depth > 0 and isinstance(schema.get("items"), dict) and schema["items"]:
        text += f", each {describe(schema['items'], root, depth=depth - 1)}"
    if depth > 0 and "contains" in schema:
        text += f", among them {describe(schema['contains'], root, depth=depth - 1)}"
    return text


def _describe_object(schema: dict[str, Any], depth: int) -> str:
    properties = schema.get("properties", {})
    if not properties or depth <= 0:
        low, high = schema.get("minProperties"), schema.get("maxProperties")
        count = _describe_count(low, high, "keys")
        return f"an object of {count}" if count else "an object"
    required = schema.get("required", ())
    shown = []
    for name, part in list(properties.items())[:_MAX_MEMBERS]:
        if isinstance(part, dict) and "const" in part:  # what tells alternatives apart
            shown.append(f"{name} {echo(part['const'], limit=40)}")
        else:
            shown.append(name if name in required else f"{name} (optional)")
    return f"an object with {', '.join(shown)}"


def _missing(error: _Raw, path: Path, root: dict[str, Any]) -> Iterator[ArgumentError]:
    # jsonschema gives one error for each missing name, with the name in its prose only.
    name = next(
        name
        for name in error.validator_value
        if name not in error.instance and error.message.startswith(repr(name))
    )
    schema = error.schema.get("properties", {}).get(name, True)
    expected = describe(schema, root)
    note = _description(schema, root)
    text = f"missing; {expected} is required" + (f" ({note})" if note else "")
    yield _error((*path, name), None, expected, text)


def _description(schema: Any, root: dict[str, Any]) -> str:
    if not isinstance(schema, dict):
        return ""
    if "description" not in schema and "$ref" in schema:
        return _description(resolve(root, schema["$ref"]), root)
    note = " ".join(str(schema.get("description", "")).split()).rstrip(".")
    return note if len(note) <= _MAX_DESCRIPTION_CHARS else f"{note[:_MAX_DESCRIPTION_CHARS]}…"


def _unknown(error: _Raw, path: Path) -> Iterator[ArgumentError]:
    import re

    known = list(error.schema.get("properties", {}))
    patterns = error.schema.get("patternProperties", {})
    free = [name for name in known if name not in error.instance]
    shown = ", ".join(known[:_MAX_NAMES]) + (", …" if len(known) > _MAX_NAMES else "")
    expected = f"only these keys: {shown}" if known else "no keys"
    for name, value in error.instance.items():
        if name in known or any(re.search(pattern, name) for pattern in patterns):
            continue
        similar = nearest(name, free)
        hint = f"; did you mean {echo(similar[0])}?" if similar else "."
        noun = "key" if path else "argument"
        text = f"unknown {noun}{hint} Allowed: {shown or 'none'}"
        yield _error((*path, name[:80]), value, expected, text)


def _alternatives(error: _Raw, path: Path, root: dict[str, Any]) -> Iterator[ArgumentError]:
    expected = describe({error.validator: error.validator_value}, root)
    if not error.context:  # a oneOf of which more than one alternative fits
        text = f"got {echo(error.instance)}, which fits more than one of: {expected}; fit just one"
        yield _error(path, error.instance, expected, text)
        return
    branches: dict[Any, list[_Raw]] = defaultdict(list)
    for inner in error.context:
        branches[inner.schema_path[0]].append(inner)
    meant = [inner for inner in branches.values() if not any(map(_other_kind, inner))]
    if len(meant) == 1:
        yield from word_errors(meant[0], root)
    else:
        text = f"got {echo(error.instance)}, expected {expected}"
        yield _error(path, error.instance, expected, text)


def _other_kind(error: _Raw) -> bool:
    """Whether an alternative's error shows that the model did not mean that alternative: it is
    of another type, or a key that tells the alternatives apart says so."""
    depth = len(error.relative_path)
    return (error.validator == "type" and depth == 0) or (
        error.validator in ("const", "enum") and depth <= 1
    )


def _dependent(error: _Raw, path: Path) -> Iterator[ArgumentError]:
    for name, needed in error.validator_value.items():
        for other in needed:
            if name in error.instance and other not in error.instance:
                expected = f"{echo(other)} wherever {echo(name)} is given"
                text = f"missing; it is required because {echo(name)} is given"
                yield _error((*path, other), None, expected, text)


def _mismatch(error: _Raw, path: Path, root: dict[str, Any]) -> ArgumentError:
    got = f"got {echo(error.instance)}"
    if error.validator is None or error.validator_value == {}:  # false, or the "not" of anything
        return _error(path, error.instance, "nothing", f"{got}, but nothing is allowed here")
    if error.validator == "not":
        expected = f"anything but {describe(error.validator_value, root)}"
    else:
        expected = describe(error.schema, root)
    keywords = list(error.absolute_schema_path)
    if "propertyNames" in keywords[-2:-1] and "properties" not in keywords[-3:-2]:
        got = f"the key {echo(error.instance)} is not allowed"
        expected = f"keys that are each {expected}"
    return _error(path, error.instance, expected, f"{got}, expected {expected}")
