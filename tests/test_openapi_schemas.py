"""Schemas of OpenAPI documents as JSON Schemas of arguments."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_tools._json_schema import modernized
from openapi_support import only_tool, operation, schema_of

REF = {"$ref": "#/components/schemas/Node"}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "string", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"anyOf": [{"type": "integer"}], "nullable": True},
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        ),
        (
            {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            {"type": "integer", "exclusiveMinimum": 0},
        ),
        (
            {"type": "number", "maximum": 9, "exclusiveMaximum": False},
            {"type": "number", "maximum": 9},
        ),
        ({"type": "string", "example": "Rex"}, {"type": "string", "examples": ["Rex"]}),
        ({"type": "integer", "format": "int64"}, {"type": "integer"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "pattern": "^(?!x)y"}, {"type": "string"}),
        ({"type": "string", "pattern": "^[a-z]+$"}, {"type": "string", "pattern": "^[a-z]+$"}),
        ({"type": "string", "xml": {}, "x-hint": 1, "title": "T"}, {"type": "string"}),
        ({"type": "file"}, {}),
    ],
)
def test_the_dialect_of_3_0_becomes_json_schema(
    given_: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert schema_of(given_) == expected


def test_schemas_of_3_1_stay_as_they_are() -> None:
    schema = {"type": ["string", "null"], "examples": ["a"], "const": "a"}
    assert schema_of(schema, "3.1.0") == schema
    tuple_ = {"type": "array", "prefixItems": [{"type": "integer"}], "items": False}
    assert schema_of(tuple_, "3.1.0") == tuple_


def test_beside_a_reference_3_0_says_nothing_and_3_1_does() -> None:
    pet = {"type": "object", "properties": {"name": {"type": "string"}}}
    beside = {"$ref": "#/components/schemas/Pet", "description": "The pet."}
    assert "description" not in schema_of(beside, Pet=pet)
    assert schema_of(beside, "3.1.0", Pet=pet)["description"] == "The pet."


def test_read_only_and_deprecated_properties_are_left_out() -> None:
    made = schema_of(
        {
            "type": "object",
            "required": ["id", "name", "old"],
            "properties": {
                "id": {"type": "integer", "readOnly": True},
                "stamp": {"$ref": "#/components/schemas/Stamp"},
                "name": {"type": "string"},
                "old": {"type": "string", "deprecated": True},
                "older": {"type": "string", "deprecated": True},
                "password": {"type": "string", "writeOnly": True},
            },
        },
        Stamp={"type": "string", "readOnly": True},
    )
    assert list(made["properties"]) == ["name", "old", "password"]
    assert made["required"] == ["name", "old"]


def test_compositions_are_kept_and_what_wraps_one_schema_is_not() -> None:
    either = {"oneOf": [{"type": "integer"}, {"type": "boolean"}]}
    assert schema_of(either) == either
    both = {"allOf": [{"type": "object", "required": ["a"]}, {"minProperties": 2}]}
    assert schema_of(both) == both
    wrapped = {"allOf": [{"$ref": "#/components/schemas/Name"}], "description": "Of the pet."}
    assert schema_of(wrapped, Name={"type": "string"}) == {
        "type": "string",
        "description": "Of the pet.",
    }


def test_what_contains_itself_stays_a_definition() -> None:
    node = {"type": "object", "properties": {"value": {"type": "integer"}, "next": REF}}
    made = schema_of(REF, Node=node)
    assert made["$ref"] == "#/$defs/Node"
    assert made["$defs"]["Node"]["properties"]["next"] == {"$ref": "#/$defs/Node"}
    value = {"value": 1, "next": {"value": 2, "next": {"value": "x"}}}
    with pytest.raises(jsonschema.ValidationError, match="'x' is not of type 'integer'"):
        jsonschema.validate(value, made)


def test_two_that_contain_each_other_do_too() -> None:
    made = schema_of(
        {"$ref": "#/components/schemas/A"},
        A={"type": "object", "properties": {"b": {"$ref": "#/components/schemas/B"}}},
        B={"type": "object", "properties": {"a": {"$ref": "#/components/schemas/A"}}},
    )
    assert set(made["$defs"]) == {"A", "B"}


def test_long_definitions_that_are_used_often_are_written_once() -> None:
    long = {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(30)}}
    reference = {"$ref": "#/components/schemas/Long"}
    made = schema_of({"type": "object", "properties": {"a": reference, "b": reference}}, Long=long)
    assert made["properties"]["a"] == made["properties"]["b"] == {"$ref": "#/$defs/Long"}
    once = schema_of({"type": "object", "properties": {"a": reference}}, Long=long)
    assert "$defs" not in once
    assert len(once["properties"]["a"]["properties"]) == 30


def test_a_property_called_ref_is_no_reference() -> None:
    schema = {"type": "object", "properties": {"$ref": {"type": "string"}, "example": {}}}
    assert schema_of(schema)["properties"] == {"$ref": {"type": "string"}, "example": {}}


def test_descriptions_are_short_plain_text() -> None:
    text = "The <b>name</b>, see [docs](https://example.org/a). " + "It matters a lot. " * 40
    tool = only_tool(operation(summary="Do **it**", description=text), max_description_chars=120)
    assert tool.definition.description.startswith("Do it. The name, see docs. It matters a lot.")
    assert len(tool.definition.description) <= 120
    assert tool.definition.description.endswith("lot.")


def test_defaults_are_told_rather_than_sent() -> None:
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 20}}
    tool = only_tool(operation(parameters=[limit]))
    assert tool.definition.parameters["properties"] == {
        "limit": {"type": "integer", "description": "(default: 20)"}
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"items": [{"type": "string"}], "additionalItems": False},
            {"prefixItems": [{"type": "string"}], "items": False},
        ),
        ({"dependencies": {"a": ["b"]}}, {"dependentRequired": {"a": ["b"]}}),
        (
            {"dependencies": {"a": {"required": ["b"]}}},
            {"dependentSchemas": {"a": {"required": ["b"]}}},
        ),
        ({"id": "urn:x", "$schema": "http://json-schema.org/draft-04/schema#"}, {}),
        (
            {"definitions": {"a": {"minimum": 1, "exclusiveMinimum": True}}},
            {"definitions": {"a": {"exclusiveMinimum": 1}}},
        ),
    ],
)
def test_older_drafts_of_mcp_servers_become_2020_12(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert modernized(old) == new


KEYWORDS = st.sampled_from(
    ["type", "nullable", "enum", "items", "properties", "allOf", "oneOf", "anyOf", "not", "$ref"]
)


def schemas() -> st.SearchStrategy[Any]:
    """Schemas of 3.0 that refer to two definitions, which may refer to themselves."""
    leaf = st.sampled_from(
        [
            {"type": "string", "nullable": True},
            {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
            {"enum": ["a", 1, 1, None]},
            {"$ref": "#/components/schemas/Node"},
            {"$ref": "#/components/schemas/Leaf"},
            {"type": "number", "format": "double", "example": 0.5},
        ]
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
            st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3)}),
            st.builds(
                lambda properties, closed: {
                    "type": "object",
                    "properties": properties,
                    "required": sorted(properties)[:1],
                    **({"additionalProperties": False} if closed else {}),
                },
                st.dictionaries(st.sampled_from(["a", "b", "$ref", "items"]), inner, max_size=3),
                st.booleans(),
            ),
        ),
        max_leaves=8,
    )


@given(schemas())
def test_whatever_the_schema_the_result_is_valid_and_stands_alone(schema: Any) -> None:
    node = {"type": "object", "properties": {"next": REF, "value": {"type": "integer"}}}
    made = schema_of(schema, Node=node, Leaf={"type": "string", "nullable": True})
    jsonschema.Draft202012Validator.check_schema(made)
    text = json.dumps(made)
    assert "#/components" not in text
    assert "nullable" not in text
