"""Schemas of arguments: which are refused, and that what was judged once is judged right again."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import SchemaError
from agentkit.tools import ToolDefinition
from agentkit.validation import ArgumentValidator, check_schema


@pytest.mark.parametrize(
    ("schema", "parts"),
    [
        ({"properties": {"a": {"type": "int"}}}, ["$.properties.a.type", '"int"', '"integer"']),
        ({"properties": {"a": {"required": True}}}, ["$.properties.a.required", "array of prop"]),
        ({"properties": {"a": {"pattern": "("}}}, ["$.properties.a.pattern", "regular expr"]),
        ({"properties": {"a": {"minimum": "3"}}}, ["$.properties.a.minimum", "type number"]),
        ({"properties": {"a": {"type": str}}}, ["$.properties.a.type"]),
        ({"items": {"$ref": "https://x.test/s"}}, ["$.items", "x.test", "local reference"]),
        ({"items": {"$ref": "#/$defs/a"}}, ["$.items", "#/$defs/a", "leads to nothing"]),
        ({"items": {"$ref": "#name"}}, ["#name", "local reference"]),
        ({"allOf": [{"$ref": "#"}]}, ["$.allOf[0]", "back to itself"]),
        ({"items": {"$id": "urn:x"}}, ["$.items", "urn:x", "root only"]),
        ({"items": {"$dynamicRef": "#x"}}, ["$.items", "not supported"]),
    ],
)
def test_unusable_schemas_are_refused(schema: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(SchemaError) as caught:
        check_schema(schema, tool_name="weather")
    for part in ["'weather'", *parts]:
        assert part in str(caught.value)
    with pytest.raises(SchemaError):
        ArgumentValidator(ToolDefinition(name="t", parameters=schema))


def test_usable_schemas_are_accepted() -> None:
    check_schema({"properties": {"$ref": {"type": "string"}}}, tool_name="t")
    check_schema({"properties": {"a": {"default": {"$ref": "nowhere"}}}}, tool_name="t")
    check_schema({"properties": {"child": {"$ref": "#"}}}, tool_name="t")


def test_what_is_alike_but_not_the_same_is_judged_for_itself() -> None:
    for _ in range(2):  # Also when all of it has been seen.
        for good, bad in (
            ({"minLength": 1}, {"minLength": "1"}),
            ({"uniqueItems": True}, {"uniqueItems": 1}),
            ({"required": ["a"]}, {"required": "a"}),
            ({"type": "array", "items": {"type": "string"}}, {"items": {"type": "text"}}),
        ):
            check_schema({"properties": {"a": good}}, tool_name="t")
            check_schema({"properties": {"b": good}, "required": ["b"]}, tool_name="t")
            with pytest.raises(SchemaError, match=r"\$\.properties\.a\."):
                check_schema({"properties": {"a": bad, "b": good}}, tool_name="t")
            with pytest.raises(SchemaError):
                check_schema(bad, tool_name="t")
    with pytest.raises(SchemaError, match="properties"):
        check_schema({"properties": ["a"]}, tool_name="t")
    with pytest.raises(SchemaError, match="required"):
        check_schema({"properties": {"a": {}}, "required": "a"}, tool_name="t")
