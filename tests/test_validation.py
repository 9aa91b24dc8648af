"""Validation of arguments: schemas refused, values mended, errors worded."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentkit.tools import ToolDefinition
from agentkit.validation import ArgumentValidator, check_schema, unknown_tool_message

ITEM = {
    "type": "object",
    "properties": {"price": {"type": "number"}, "count": {"type": "integer"}},
    "required": ["price"],
}
CIRCLE = {
    "type": "object",
    "properties": {"kind": {"const": "circle"}, "radius": {"type": "number"}},
    "required": ["kind", "radius"],
}
SQUARE = {
    "type": "object",
    "properties": {"kind": {"const": "square"}, "side": {"type": "integer"}},
    "required": ["kind", "side"],
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city."},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "ratio": {"type": "number"},
        "verbose": {"type": "boolean"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "mode": {"anyOf": [{"const": "auto"}, {"type": "integer"}]},
        "limit": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "string"}]},
        "level": {"type": ["integer", "null"]},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "item": {"anyOf": [{"$ref": "#/$defs/item"}, {"type": "null"}]},
        "shape": {"oneOf": [CIRCLE, SQUARE]},
        "both": {"allOf": [{"type": "integer"}, {"minimum": 3}]},
        "tree": {"$ref": "#/$defs/tree"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
    "additionalProperties": False,
    "$defs": {
        "item": ITEM,
        "tree": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            },
        },
    },
}


def validator(schema: dict[str, Any] = SCHEMA) -> ArgumentValidator:
    return ArgumentValidator(ToolDefinition(name="probe", parameters=schema))


def explain(arguments: dict[str, Any], schema: dict[str, Any] = SCHEMA) -> str:
    return validator(schema).validate(arguments).explain()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"days": "3"}, {"days": 3}),
        ({"days": " 3\n"}, {"days": 3}),
        ({"days": 3.0}, {"days": 3}),
        ({"days": "3.0"}, {"days": 3}),
        ({"ratio": "3.5"}, {"ratio": 3.5}),
        ({"ratio": "-3"}, {"ratio": -3}),
        ({"ratio": "1e3"}, {"ratio": 1000.0}),
        ({"verbose": "True"}, {"verbose": True}),
        ({"verbose": "false"}, {"verbose": False}),
        ({"city": 90210}, {"city": "90210"}),
        ({"city": 1.5}, {"city": "1.5"}),
        ({"unit": " Celsius"}, {"unit": "celsius"}),
        ({"mode": "AUTO"}, {"mode": "auto"}),
        ({"mode": "7"}, {"mode": 7}),
        ({"level": "null"}, {"level": None}),
        ({"days": None}, {}),
        ({"items": '[{"price": "3"}]'}, {"items": [{"price": 3}]}),
        ({"items": [{"price": "2.5", "count": None}]}, {"items": [{"price": 2.5}]}),
        ({"item": {"price": "2"}}, {"item": {"price": 2}}),
        ({"item": '{"price": 2}'}, {"item": {"price": 2}}),
        ({"shape": {"kind": "square", "side": "2"}}, {"shape": {"kind": "square", "side": 2}}),
        ({"shape": {"kind": "Circle", "radius": 2}}, {"shape": {"kind": "circle", "radius": 2}}),
        ({"both": "4"}, {"both": 4}),
        (
            {"tree": {"value": "1", "children": [{"value": "2"}]}},
            {"tree": {"value": 1, "children": [{"value": 2}]}},
        ),
        ({"tags": [1, "b"]}, {"tags": ["1", "b"]}),
    ],
)
def test_safe_coercions(before: dict[str, Any], after: dict[str, Any]) -> None:
    original = copy.deepcopy(before)
    result = validator().validate(before)
    assert result.ok, result.explain()
    assert result.arguments == after
    assert json.dumps(result.arguments) == json.dumps(after)  # tells 3 from 3.0
    assert result.coercions
    assert before == original


@pytest.mark.parametrize(
    "arguments",
    [
        {"days": "1_000"},
        {"days": "٣"},
        {"days": "+3"},
        {"days": "007"},
        {"days": "3.5"},
        {"days": "soon"},
        {"days": ""},
        {"days": True},
        {"days": "9"},  # an integer, but out of range
        {"days": "3.00000000000000000000000000001"},
        {"ratio": "NaN"},
        {"ratio": "Infinity"},
        {"ratio": "1e400"},
        {"ratio": "1e-400"},
        {"ratio": "9" * 100_000},
        {"verbose": "yes"},
        {"verbose": 1},
        {"city": True},
        {"city": ["Paris"]},
        {"unit": "kelvin"},
        {"limit": 50},  # as a string it would only evade the bound
        {"tags": "a"},
        {"items": "[1"},
        {"items": "[NaN]"},
        {"items": "[" * 100_000},
        {"days": "null"},
        {"both": "2"},
    ],
)
def test_a_guess_is_never_made(arguments: dict[str, Any]) -> None:
    result = validator().validate(arguments)
    assert not result.ok
    assert result.arguments == arguments
    assert result.coercions == ()


def test_null_is_kept_where_required_or_allowed() -> None:
    schema = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert explain({"city": None}, schema) == "$.city: got null, expected a string"
    assert validator().validate({"level": None}).arguments == {"level": None}


def test_enum_members_that_differ_in_case_only_stay_ambiguous() -> None:
    schema = {"properties": {"sex": {"enum": ["m", "M", "f"]}}}
    assert validator(schema).validate({"sex": "F"}).arguments == {"sex": "f"}
    assert not validator(schema).validate({"sex": " m"}).ok


def test_a_coercion_is_recorded() -> None:
    (coercion,) = validator().validate({"items": [{"price": "3.5"}]}).coercions
    assert (coercion.path, coercion.before, coercion.after) == ("$.items[0].price", "3.5", 3.5)
    assert coercion.description == "string to number"


def test_what_can_be_mended_is_mended_beside_what_cannot() -> None:
    result = validator().validate({"item": {"price": "2", "count": "x"}})
    assert [coercion.path for coercion in result.coercions] == ["$.item.price"]
    assert result.explain() == '$.item.count: got "x", expected an integer'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"days": "soon"}, '$.days: got "soon", expected an integer between 1 and 7'),
        ({"days": 9}, "$.days: got 9, expected an integer between 1 and 7"),
        ({"unit": 3}, '$.unit: got 3, expected one of "celsius", "fahrenheit"'),
        ({"mode": "z"}, '$.mode: got "z", expected "auto" or an integer'),
        ({"verbose": 1}, "$.verbose: got 1, expected true or false"),
        ({"items": [{}]}, "$.items[0].price: missing; a number is required"),
        ({"shape": {"kind": "square"}}, "$.shape.side: missing; an integer is required"),
        (
            {"shape": 4},
            '$.shape: got 4, expected an object with kind "circle", radius '
            'or an object with kind "square", side',
        ),
        (
            {"tags": ["a", "b", "c"]},
            '$.tags: got ["a", "b", "c"], expected an array of at most 2 items, each a string',
        ),
        ({"ratio": float("inf")}, "$.ratio: got inf, expected a finite number"),
    ],
)
def test_errors_say_where_what_and_what_instead(arguments: dict[str, Any], message: str) -> None:
    assert explain(arguments) == message


def test_a_missing_argument_is_described() -> None:
    message = explain({}, {**SCHEMA, "required": ["city"]})
    assert message == "$.city: missing; a string is required (Name of the city)"


def test_an_unknown_argument_is_matched_to_a_known_one() -> None:
    schema = {
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "additionalProperties": False,
    }
    expected = '$.citty: unknown argument; did you mean "city"? Allowed: city, days'
    assert explain({"citty": "x"}, schema) == expected
    # "city" is taken, so it cannot be what was meant.
    assert "did you mean" not in explain({"city": "x", "citty": "x"}, schema)
    assert "Allowed: none" in explain({"x": 1}, {"additionalProperties": False})


@pytest.mark.parametrize(
    ("schema", "arguments", "message"),
    [
        (
            {"properties": {"a": {"oneOf": [{"type": "integer"}, {"minimum": 3}]}}},
            {"a": 5},
            "$.a: got 5, which fits more than one of: an integer or a number of at least 3; "
            "fit just one",
        ),
        (
            {"dependentRequired": {"a": ["b"]}},
            {"a": 1},
            '$.b: missing; it is required because "a" is given',
        ),
        (
            {"properties": {"a": {"not": {"const": 1}}}},
            {"a": 1},
            "$.a: got 1, expected anything but 1",
        ),
        ({"properties": {"a": False}}, {"a": 1}, "$.a: got 1, but nothing is allowed here"),
        (
            {"propertyNames": {"maxLength": 2}},
            {"abc": 1},
            '$: the key "abc" is not allowed, expected '
            "keys that are each a string of at most 2 characters",
        ),
        (
            {"properties": {"odd key": {"type": "null"}}},
            {"odd key": 1},
            '$["odd key"]: got 1, expected null',
        ),
        (
            {"properties": {"a": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5}}},
            {"a": -1},
            "$.a: got -1, expected a number greater than 0 and divisible by 0.5",
        ),
        (
            {"properties": {"a": {"type": "string", "minLength": 2, "pattern": "^x"}}},
            {"a": "y"},
            '$.a: got "y", expected a string of at least 2 characters that matches the pattern ^x',
        ),
    ],
)
def test_errors_of_rarer_keywords(
    schema: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    assert explain(arguments, schema) == message


def test_echoed_values_and_errors_are_bounded() -> None:
    assert len(explain({"days": "x" * 1_000_000})) < 300
    assert len(explain({"days": ["x" * 50] * 10_000})) < 300
    assert len(validator().validate({"items": [{}] * 1000}).errors) == 20


def test_values_beyond_python_s_limits_are_errors() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"tree": deep}
    assert "nested too deeply" in explain(deep)
    assert not validator().validate({"days": 10**5000}).ok
    assert not validator().validate({"city": 10**5000}).ok
    multiple = {"properties": {"a": {"type": "integer", "multipleOf": 0.1}}}
    assert not validator(multiple).validate({"a": 10**400}).ok


def test_the_schema_of_these_tests_is_usable() -> None:
    check_schema(SCHEMA, tool_name="t")


def test_the_schema_is_copied() -> None:
    schema = {"properties": {"a": {"type": "integer"}}}
    checker = validator(schema)
    schema["properties"]["a"]["type"] = "string"
    assert checker.validate({"a": "1"}).arguments == {"a": 1}


def test_unknown_tools() -> None:
    names = ["get_weather", "search"]
    near = 'there is no tool "get_wether"; did you mean "get_weather"? Tools: get_weather, search'
    assert unknown_tool_message("get_wether", names) == near
    assert unknown_tool_message("zz", names).endswith("Tools: get_weather, search")
    assert "no tools are available" in unknown_tool_message("zz", [])
    many = [f"tool_{number}" for number in range(500)]
    assert len(unknown_tool_message("x" * 10_000, many)) < 200


def test_importing_is_light() -> None:
    code = "import agentkit.validation, sys; sys.exit('jsonschema' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# --- properties -------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["true", "[1]", '{"price": "1"}', "Celsius", "auto", "circle", "1e999"])
)
KEYS = st.sampled_from([*SCHEMA["properties"], "price", "count", "kind", "side", "value", "x"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(KEYS, JSON, max_size=5)
ORACLE = Draft202012Validator(SCHEMA)
CHECKER = validator()


@settings(max_examples=300, deadline=None)
@given(ARGUMENTS)
def test_any_json_is_judged_without_raising_or_mutation(arguments: dict[str, Any]) -> None:
    before = copy.deepcopy(arguments)
    result = CHECKER.validate(arguments)
    assert repr(arguments) == repr(before)
    if result.ok:
        assert ORACLE.is_valid(result.arguments)
    else:
        assert all(error.message.startswith(error.path) for error in result.errors)


VALID = st.fixed_dictionaries(
    {},
    optional={
        "city": st.text(),
        "days": st.integers(1, 7),
        "ratio": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "verbose": st.booleans(),
        "unit": st.sampled_from(["celsius", "fahrenheit"]),
        "mode": st.just("auto") | st.integers(),
        "limit": st.integers(max_value=9) | st.text(),
        "level": st.none() | st.integers(),
        "items": st.lists(st.fixed_dictionaries({"price": st.integers()}), max_size=3),
        "item": st.none() | st.fixed_dictionaries({"price": st.integers(), "other": JSON}),
        "tags": st.lists(st.text(), max_size=2),
    },
)


@settings(max_examples=200, deadline=None)
@given(VALID)
def test_valid_arguments_stay_as_they_are(arguments: dict[str, Any]) -> None:
    assume(ORACLE.is_valid(arguments) and "nan" not in repr(arguments))
    assume("inf" not in repr(arguments))
    result = CHECKER.validate(arguments)
    assert result.ok
    assert result.coercions == ()
    assert repr(result.arguments) == repr(arguments)


@settings(max_examples=200, deadline=None)
@given(VALID)
def test_stringified_scalars_are_recovered(arguments: dict[str, Any]) -> None:
    text = {
        key: json.dumps(value) if key in ("days", "ratio", "verbose") else value
        for key, value in arguments.items()
        if key != "item"
    }
    result = CHECKER.validate(text)
    assert result.ok or any(len(str(value)) > 64 for value in text.values())
    for key in ("days", "ratio", "verbose"):
        if key in text and result.ok:
            assert result.arguments[key] == arguments[key]
