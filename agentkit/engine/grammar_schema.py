"""Schemas as the grammar is given them: a little narrower than written, never wider.

Every value that the narrower schema allows is valid against the schema as written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["JSON_LAYOUT", "grammar_schema", "not_enforced"]

JSON_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""The layout of Granite's own calls, so that constrained text reads as the model learnt it."""

# Keywords beside which a missing additionalProperties may not be read as false.
_OPEN_ENDED = ("additionalProperties", "patternProperties", "unevaluatedProperties")
# Keywords under which several schemas hold at once, so that none may be narrowed by itself.
_COMBINING = ("allOf", "anyOf", "oneOf", "not", "if", "$ref", "dependentSchemas")

# RFC 3339 dates that exist: no year 0, no 31 April, 29 February in leap years only.
# llguidance's own formats let such dates pass, and then no date type can be made of them.
_YEAR = r"(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_DAY = (
    r"((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    r"|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    r"|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_YEAR = r"([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DATE = rf"({_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_OFFSET = r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_FORMATS = {"date": f"^{_DATE}$", "date-time": f"^{_DATE}T{_TIME}{_OFFSET}$"}


def grammar_schema(schema: Mapping[str, Any]) -> str:
    """The schema for the grammar, as JSON text.

    Args:
        schema: Of an arguments object, as its tool gives it.
    """
    return json.dumps({**_narrowed(schema), "x-guidance": JSON_LAYOUT})


def not_enforced(schema: Mapping[str, Any]) -> str:
    """What of a schema a grammar cannot express; empty if it can express all of it."""
    from llguidance import LLMatcher

    grammar = LLMatcher.grammar_from_json_schema(grammar_schema(schema))
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    return "; ".join(messages) if failed else ""


def _narrowed(schema: Any) -> Any:
    """The schema without unnamed properties, and with dates that exist.

    Where a schema lists its properties and says nothing of others, JSON Schema allows any.
    A small model would use that freedom to invent arguments, so the grammar does not offer it.
    """
    if not isinstance(schema, Mapping):
        return schema
    narrowed = dict(schema)
    if any(key in schema for key in _COMBINING):
        return narrowed
    if schema.get("format") in _FORMATS and "pattern" not in schema:
        narrowed["pattern"] = _FORMATS[narrowed.pop("format")]
    if isinstance(schema.get("properties"), Mapping):
        narrowed["properties"] = {k: _narrowed(v) for k, v in schema["properties"].items()}
        if not any(key in schema for key in _OPEN_ENDED):
            narrowed["additionalProperties"] = False
    if "items" in schema:
        narrowed["items"] = _narrowed(schema["items"])
    return narrowed
