"""Conditions on documents, against what they say in plain Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import UserError
from agentkit.retrieval import Document
from agentkit_retrievers.filters import as_predicate, filter_key

DOCUMENT = Document(
    text="text",
    doc_id=7,
    source="a.md",
    metadata={"n": 3, "lang": "en", "tags": ["x", "y"], "at": {"page": 2}, "none": None, "a.b": 1},
)


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({}, True),
        ({"n": 3}, True),
        ({"n": 3, "lang": "de"}, False),
        ({"n": [1, 3]}, True),
        ({"n": {1, 2}}, False),
        ({"n": {"$gt": 2, "$lte": 3}}, True),
        ({"n": {"$gt": 3}}, False),
        ({"n": {"$gte": 3}}, True),
        ({"n": {"$lt": 3}}, False),
        ({"n": {"$lt": "3"}}, False),  # cannot be ordered
        ({"n": {"$ne": 3}}, False),
        ({"other": {"$ne": 3}}, True),
        ({"n": {"$nin": [1, 2]}}, True),
        ({"n": {"$in": [1, 3]}}, True),
        ({"other": {"$in": [None]}}, False),
        ({"none": None}, True),
        ({"other": None}, False),
        ({"other": {"$exists": False}}, True),
        ({"none": {"$exists": True}}, True),
        ({"tags": ["x", "y"]}, True),
        ({"tags": "x"}, False),
        ({"tags": {"$contains": "x"}}, True),
        ({"lang": {"$contains": "n"}}, True),
        ({"n": {"$contains": 3}}, False),
        ({"at.page": 2}, True),
        ({"at.page.x": 2}, False),
        ({"a.b": 1}, True),
        ({"at": {"page": 2}}, True),
        ({"source": "a.md", "doc_id": 7}, True),
        ({"title": ""}, False),  # there is none
        ({"$or": [{"n": 1}, {"lang": "en"}]}, True),
        ({"$and": [{"n": 3}, {"lang": "de"}]}, False),
        ({"$not": {"n": 3}}, False),
        (lambda document: document.text == "text", True),
    ],
)
def test_conditions(condition: Any, fits: bool) -> None:
    assert as_predicate(condition)(DOCUMENT) is fits


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (3, "must be a dictionary or a function, not 3"),
        ({"n": {"$like": 3}}, r"n: unknown operator '\$like'; there are \$in, "),
        ({"$xor": []}, r"unknown operator '\$xor'"),
        ({"n": {"$in": 3}}, r"n: \$in takes a list"),
        ({"$or": {}}, r"\$or takes a list"),
    ],
)
def test_mistakes(condition: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_predicate(condition)


names = st.sampled_from(["a", "b"])
values = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["x", "y"])
tests = values | st.fixed_dictionaries(
    {}, optional={"$eq": values, "$ne": values, "$in": st.lists(values), "$gt": st.integers(-2, 2)}
)
simple = st.dictionaries(names, tests, max_size=2)


@given(st.lists(simple, min_size=1, max_size=3), st.dictionaries(names, values))
@settings(max_examples=200, deadline=None)
def test_the_rules_of_logic(parts: list[Any], metadata: dict[str, Any]) -> None:
    document = Document(text="x", metadata=metadata)

    def fits(condition: Any) -> bool:
        return as_predicate(condition)(document)

    assert fits({"$and": parts}) == all(map(fits, parts))
    assert fits({"$or": parts}) == any(map(fits, parts))
    assert fits({"$not": parts[0]}) == (not fits(parts[0]))
    assert fits(parts[0]) == all(fits({name: test}) for name, test in parts[0].items())
    # Neither or: not (a or b) is not a and not b.
    negated = [{"$not": part} for part in parts]
    assert fits({"$not": {"$or": parts}}) == fits({"$and": negated})


def test_the_same_condition_has_the_same_key() -> None:
    assert filter_key({"a": 1, "b": {"x"}}) == filter_key({"b": {"x"}, "a": 1})
    assert filter_key({"a": 1}) != filter_key({"a": "1"})
    assert filter_key({"a": object()}) is None
    assert filter_key(lambda document: True) is None
