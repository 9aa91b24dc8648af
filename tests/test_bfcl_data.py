"""BFCL's files: what is read, how functions become tools, and which calls are right."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from agentkit import UserError
from agentkit.evaluation import BFCLCase, expand_categories, find_bfcl, judge, read_cases
from agentkit.evaluation.bfcl_data import CATEGORIES, json_schema, tool_definition, tool_names
from agentkit.validation import check_schema
from bfcl_support import AREA, BOOK, RIGHT_AREA, RIGHT_BOOK, write_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "bfcl_eval" / "data")


def case(category: str, *answers: Any, functions: tuple[Any, ...] = (AREA, BOOK)) -> BFCLCase:
    return BFCLCase(id="x", category=category, messages=(), functions=functions, answers=answers)


def test_reading(folder: Path, tmp_path: Path) -> None:
    assert find_bfcl(folder) == find_bfcl(folder.parent) == find_bfcl(tmp_path) == folder
    first, second = read_cases(folder, "simple_python")
    assert (first.id, first.kind) == ("simple_python_0", "simple")
    assert first.messages[0]["content"] == "What is the area of 2 by 3 metres?"
    assert second.answers == [RIGHT_BOOK]
    assert read_cases(folder, "irrelevance")[0].answers == ()
    assert len(read_cases(folder, "simple_python", limit=1)) == 1
    assert expand_categories(["parallel", "live_relevance", "parallel"]) == [
        "parallel",
        "live_relevance",
    ]
    assert set(expand_categories(["live", "non_live"])) == set(CATEGORIES)


def test_damaged_data_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no BFCL_v4_multiple\.json in"):
        read_cases(folder, "multiple")
    with pytest.raises(UserError, match="holds no BFCL_v4"):
        find_bfcl(tmp_path / "none")
    with pytest.raises(UserError, match=r"no category 'simpel'.*simple_python"):
        expand_categories(["simpel"])
    with pytest.raises(UserError, match="another language"):
        expand_categories(["simple_java"])
    file = folder / "BFCL_v4_simple_python.json"
    text = file.read_text(encoding="utf-8")
    for damage, message in (
        ("{", r"simple_python\.json, line 3: not a JSON object"),
        ('{"id": 3}', "line 3: 'id' is missing or not a str"),
        ('{"id": "x", "question": [[], []], "function": []}', "has 2 turns"),
        ('{"id": "x", "question": [[{}]], "function": []}', "no possible answer for 'x'"),
    ):
        file.write_text(f"{text}\n{damage}", encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_cases(folder, "simple_python")


def test_functions_become_tools() -> None:
    definition = tool_definition(BOOK, name="book")
    check_schema(definition.parameters, tool_name="book")
    parts = definition.parameters["properties"]
    assert definition.parameters["type"] == "object"
    assert definition.parameters["required"] == ["names"]
    assert definition.parameters["additionalProperties"] is False
    assert parts["at"]["type"] == "object"
    assert parts["size"] == {"type": "array", "items": {"type": "integer"}}
    assert parts["note"] == {"type": "string"}
    assert json_schema(AREA["parameters"]["properties"]["width"]) == {  # type: ignore[index]
        "type": "number",
        "description": "in metres",
    }


def test_names_can_be_told_back() -> None:
    own = ["math.add", "größe", "gr__e", "gr__e", "2fast", "a" * 99, "a" * 99 + "b"]
    names = tool_names([{"name": name} for name in own])
    assert list(names.values()) == own
    assert len(names) == len(own)
    assert next(iter(names)) == "math.add"
    for shown in names:
        tool_definition({}, name=shown)  # Raises if it is no name.


AREA_CASE = case("simple_python", RIGHT_AREA)
BOOK_CASE = case("multiple", RIGHT_BOOK)


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        ({"width": 2.0, "height": 3}, ""),
        ({"width": 2, "height": 3, "unit": "M"}, ""),
        ({"width": 2.0, "height": 3.0}, "type"),
        ({"width": "2", "height": 3}, "type"),
        ({"width": 2.0, "height": True}, "type"),
        ({"width": 2.5, "height": 3}, "value"),
        ({"width": 2.0, "height": 3, "unit": "cm"}, "value"),
        ({"width": 2.0}, "missing_argument"),
        ({"width": 2.0, "height": 3, "depth": 1}, "unexpected_argument"),
        ({"width": None, "height": 3}, "type"),
    ],
)
def test_simple_arguments(arguments: dict[str, Any], failure: str) -> None:
    verdict = judge(AREA_CASE, [("shapes.area", arguments)])
    assert (verdict.correct, verdict.failure) == (not failure, failure)


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        ({}, ""),
        ({"names": ["bob", "ann-lee"]}, ""),
        ({"names": ["Ann Lee"]}, "value"),
        ({"names": ["Ann Lee", 5]}, "type"),
        ({"at": {"day": "may 1st 2025"}}, ""),
        ({"at": {"day": "May 1st, 2025", "hour": 7}}, ""),
        ({"at": {"day": "May 1st, 2025", "hour": 8}}, "value"),
        ({"at": {"hour": 7}}, "value"),
        ({"at": {"day": "May 1st, 2025", "minute": 0}}, "value"),
        ({"size": [2, 3]}, ""),
        ({"size": [3, 2]}, "value"),
        ({"dishes": [{"dish": "Soup"}, {"dish": "rice"}]}, ""),
        ({"dishes": [{"dish": "rice"}, {"dish": "soup"}]}, "value"),
        ({"dishes": [{"dish": "soup"}]}, "value"),
        ({"smoking": True}, ""),
        ({"smoking": 1}, "type"),
        ({"note": "by the  Window"}, ""),
        ({"note": 5}, "type"),
    ],
)
def test_nested_arguments(arguments: dict[str, Any], failure: str) -> None:
    call = ("book", {"names": ["Ann Lee", "Bob"], **arguments})
    verdict = judge(BOOK_CASE, [call])
    assert (verdict.correct, verdict.failure) == (not failure, failure)


def test_numbers_of_calls() -> None:
    area = ("shapes.area", {"width": 2, "height": 3})
    book = ("book", {"names": ["Ann Lee", "Bob"]})
    both = case("parallel_multiple", RIGHT_AREA, RIGHT_BOOK)
    assert judge(both, [area, book]).correct
    assert judge(both, [book, area]).correct
    assert judge(both, [area]).failure == "call_count"
    assert judge(both, []).failure == "no_call"
    assert judge(both, [area, area]).failure == "function"
    assert judge(both, [area, ("book", {"names": []})]).failure == "value"
    assert judge(AREA_CASE, [area, area]).failure == "call_count"
    assert judge(AREA_CASE, [("area", {})]).failure == "function"
    twice = case("parallel", RIGHT_AREA, RIGHT_AREA)
    assert judge(twice, [area, area]).correct
    wrong = ("shapes.area", {"width": 9, "height": 9})
    assert judge(twice, [wrong, wrong]).failure == "no_match"


def test_whether_to_call_at_all() -> None:
    call = ("shapes.area", {"width": 1, "height": 1})
    assert judge(case("irrelevance"), []).correct
    assert judge(case("irrelevance"), [call]).failure == "unneeded_call"
    assert judge(case("live_relevance"), [call]).correct
    assert judge(case("live_relevance"), []).failure == "no_call"


def test_agrees_with_bfcls_own_checker() -> None:
    pytest.importorskip("bfcl_eval", reason="BFCL's package is not installed")
    from benchmarks.bfcl_agreement import compare, load_checker, make_calls

    checker, folder, rng = load_checker(), find_bfcl(), random.Random(1)
    seen = set()
    for category in ("simple_python", "multiple", "parallel_multiple", "live_simple"):
        for one in read_cases(folder, category, limit=100):
            calls = make_calls(one, rng)
            ours, theirs = compare(checker, one, calls)
            assert ours == bool(theirs), f"{one.id}: {json.dumps(calls)}"
            seen.add(ours)
    assert seen == {True, False}
