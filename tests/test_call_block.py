"""Reading one block: what is mended, and what is said of the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.parsing import parse_output
from parsing_helpers import NOW, WEATHER, block, names, read_faulty, read_usable


class TestRepairs:
    @pytest.mark.parametrize(
        ("text", "repair"),
        [
            (f"```json\n{WEATHER}\n```", "a code fence was taken off"),
            (f"`{WEATHER}`", "a code fence was taken off"),
            (f"[{WEATHER}]", "the call stood in a list"),
            (WEATHER + "}", "extra closing brackets were dropped"),
            (WEATHER[:-1], "missing closing brackets were added"),
            (WEATHER[:-2], "missing closing brackets were added"),
            (WEATHER[:-1] + ",}", "a comma before a closing bracket was dropped"),
            (WEATHER.replace('"', "'"), "strings were in single quotes"),
            (WEATHER.replace('"name"', "'name'"), "strings were in single quotes"),
            (WEATHER.replace('"name"', "name"), "keys were not in quotes"),
            (
                WEATHER.replace('"arguments"', '"parameters"'),
                "arguments stood under the key 'parameters'",
            ),
            (WEATHER.replace('"arguments"', '"args"'), "arguments stood under the key 'args'"),
            (WEATHER.replace('"name"', '"function"'), "the name stood under the key 'function'"),
            (
                f'{{"type": "function", "function": {WEATHER}}}',
                "the call stood inside a 'function' object",
            ),
            ('{"name": "get_weather", "city": "Paris"}', "arguments stood beside the name"),
            (
                WEATHER[:-1] + ', "why": 1}',
                "keys beside the arguments were dropped: 'why'",
            ),
            (
                '{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}',
                "arguments were JSON inside a string",
            ),
            (json.dumps(WEATHER), "JSON stood inside a string"),
        ],
    )
    def test_is_read_and_told(self, text: str, repair: str) -> None:
        call = read_usable(block(text))
        assert call.name == "get_weather"
        assert call.arguments == {"city": "Paris"}
        assert call.repairs == (repair,)
        assert call.raw == text

    @pytest.mark.parametrize(
        ("text", "repair"),
        [
            ('{"name": "now"}', "arguments were missing"),
            ('{"name": "now", "arguments": null}', "arguments were null"),
            ('{"name": "now", "arguments": ""}', "arguments were empty text"),
        ],
    )
    def test_no_arguments_are_no_fault(self, text: str, repair: str) -> None:
        call = read_usable(block(text))
        assert call.arguments == {}
        assert call.repairs == (repair,)

    @pytest.mark.parametrize(
        "arguments",
        [
            json.dumps(json.dumps({"city": "Paris"})),
            '{\\"city\\": \\"Paris\\"}',
            "{'city': 'Paris'}",
            '{"city": "Paris"',
        ],
    )
    def test_arguments_inside_a_string(self, arguments: str) -> None:
        call = read_usable(block(json.dumps({"name": "get_weather", "arguments": arguments})))
        assert call.arguments == {"city": "Paris"}
        assert call.repairs[0] == "arguments were JSON inside a string"

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("True", True),
            ("None", None),
            ("(1, 2)", [1, 2]),
            ("[1, 2,]", [1, 2]),
            ("[{}, [1]", [{}, [1]]),
            (r'"C:\Users \U0001f600"', "C:\\Users \U0001f600"),
            (r'"\d+ \'\x41"', r"\d+ 'A"),
            ('"a\nb\x00"', "a\nb\x00"),
            (r"""'say "hi"'""", 'say "hi"'),
            (r'"\ud83d!"', "\ufffd!"),
            ('"\udc00"', "\ufffd"),
            (r'"\udc00\udc01"', "\ufffd\ufffd"),
        ],
    )
    def test_values(self, written: str, value: Any) -> None:
        call = read_usable(block(f'{{"name": "f", "arguments": {{"x": {written}}}}}'))
        assert call.arguments == {"x": value}
        assert len(call.repairs) == 1

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            (r'"\ud83d\ude00 \u0000 \/"', "\U0001f600 \x00 /"),
            ("-0.5e3", -500.0),
            ("12345678901234567890123", 12345678901234567890123),
            ("true", True),
            ("[ ]", []),
        ],
    )
    def test_valid_json_needs_none(self, written: str, value: Any) -> None:
        call = read_usable(block(f' {{"name" : "f","arguments":{{"x":\t{written} }}\r\n}} '))
        assert call.arguments == {"x": value}
        assert call.repairs == ()

    def test_what_openai_adds_needs_none(self) -> None:
        call = read_usable(block('{"id": "call_1", "type": "function", "index": 0,' + NOW[1:]))
        assert call.arguments == {}
        assert call.repairs == ()

    def test_the_same_repair_is_named_once(self) -> None:
        call = read_usable(block("{'name': 'f', 'arguments': \"{'a': 'b'}\"}"))
        assert call.arguments == {"a": "b"}
        assert call.repairs == (
            "strings were in single quotes",
            "arguments were JSON inside a string",
        )

    @pytest.mark.parametrize("between", ["", "\n", ", "])
    def test_several_calls_in_one_block(self, between: str) -> None:
        text = f"{WEATHER}{between}{NOW}"
        for raw in (text, f"[{WEATHER}, {NOW}]"):
            visible, calls = parse_output(block(raw))
            assert visible == ""
            assert names(calls) == ["get_weather", "now"]
            for call in calls:
                assert call.error is None
                assert call.repairs == ("several calls stood in one block",)
                assert call.raw == raw

    def test_one_faulty_call_among_several(self) -> None:
        _, calls = parse_output(block(f"[{WEATHER}, 5]"))
        assert [call.error is None for call in calls] == [True, False]


FORM = 'write {"name": ..., "arguments": {...}}'


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "the call is empty"),
            ("[]", "the call is empty"),
            ("get_weather", "the call is not valid JSON: expected a value at character 1"),
            (
                '{"name": "now", "arguments" {}}',
                "the call is not valid JSON: expected ':' at character 29",
            ),
            (
                '{"name": "now" "arguments": {}}',
                "the call is not valid JSON: expected ',' or '}' at character 16",
            ),
            (
                f"```json\n{NOW} done",
                "the call is not valid JSON: expected a value at character 42",
            ),
            (
                '{"name": "now", 5: 1}',
                "the call is not valid JSON: expected a key in double quotes at character 17",
            ),
            ('{"name":', "the call is not valid JSON: expected a value at its end"),
            (
                '{"name": "now}',
                "the call is not valid JSON: a string has no closing quote: it begins at "
                "character 10",
            ),
            (
                '{"name": NaN}',
                "the call is not valid JSON: NaN is not a JSON value (use a number or null) at "
                "character 10",
            ),
            (
                '{"name": -Infinity}',
                "the call is not valid JSON: -Infinity is not a JSON value (use a number or null) "
                "at character 10",
            ),
            ("1e999", "the call is not valid JSON: a number is too large at character 1"),
            (
                "9" * 100_000,
                "the call is not valid JSON: a number has too many digits at character 1",
            ),
            (
                "[" * 100_000,
                "the call is not valid JSON: objects and lists are nested more than 100 deep at "
                "character 101",
            ),
            ("5", "the call must be an object, not a number"),
            ("null", "the call must be an object, not null"),
            ("[[]]", "the call must be an object, not a list"),
            ("{}", "the call names no function"),
            ('{"arguments": {}}', "the call names no function"),
            ('{"name": true}', "the function's name must be text, not true or false"),
            ('{"name": {}}', "the function's name must be text, not an object"),
            ('{"name": ""}', "the function's name must be text, not empty"),
        ],
    )
    def test_says_what_is_wrong_and_what_to_write(self, text: str, error: str) -> None:
        call = read_faulty(block(text))
        assert call.error == f"{error}; {FORM}"
        assert call.raw == text

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ("[1]", 'the arguments must be an object such as {"key": "value"}, not a list'),
            ("7", 'the arguments must be an object such as {"key": "value"}, not a number'),
            (
                '"Paris"',
                "the arguments are text that is not valid JSON: expected a value at character 1",
            ),
            ('"{} {}"', "the arguments must be one object"),
            (
                json.dumps(json.dumps(json.dumps(json.dumps(json.dumps({}))))),
                'the arguments must be an object such as {"key": "value"}, not text',
            ),
        ],
    )
    def test_arguments_that_are_no_object(self, arguments: str, error: str) -> None:
        call = read_faulty(block(f'{{"name": "f", "arguments": {arguments}}}'))
        assert call.name == "f"
        assert call.error == f"{error}; {FORM}"

    def test_the_deepest_nesting_that_is_read(self) -> None:
        deep = "[" * 98 + "]" * 98
        read_usable(block(f'{{"name": "f", "arguments": {{"x": {deep}}}}}'))
        read_faulty(block(f'{{"name": "f", "arguments": {{"x": [{deep}]}}}}'))
