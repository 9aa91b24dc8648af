"""Whether calls are right, by BFCL's rules: the syntax tree's, without running anything.

The rules are BFCL's with all their edges, so that figures compare: strings are alike without
case, blanks and ``,./-_*^``; a whole number will do for a float, but 5.0 not for an integer; an
argument may be left out if ``""`` is among its values; calls in parallel come in any order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agentkit.evaluation.bfcl_data import BFCLCase, Call

__all__ = ["FAILURES", "Verdict", "judge"]

FAILURES = {
    "no_call": "no call where one was needed",
    "unneeded_call": "a call where none was needed",
    "call_count": "too few or too many calls",
    "function": "another function than the right one",
    "missing_argument": "a required argument is missing",
    "unexpected_argument": "an argument that should not be there",
    "type": "an argument of the wrong type",
    "value": "an argument with the wrong value",
    "unreadable": "a call that cannot be read",
    "no_match": "one of several calls is not as it should be",
    "failed": "the run failed",
}
"""Kinds of failures, and what they mean."""

_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
_IGNORED = re.compile(r"[ ,./\-_*^]")


class Verdict(NamedTuple):
    """Whether a case was answered rightly, and why not."""

    correct: bool
    """Whether it was."""
    failure: str = ""
    """One of :data:`FAILURES`; empty if it was."""
    detail: str = ""
    """What was wrong, in a few words."""


_RIGHT = Verdict(True)


def judge(case: BFCLCase, calls: Sequence[Call]) -> Verdict:
    """Judge the calls of one turn.

    Args:
        case: The test case.
        calls: Functions, by their own names, with the arguments given.
    """
    match case.kind:
        case "irrelevance":
            if calls:
                return Verdict(False, "unneeded_call", f"called {calls[0][0]}")
            return _RIGHT
        case "relevance":
            return _RIGHT if calls else Verdict(False, "no_call")
        case "parallel":
            return _judge_parallel(case, calls)
    if not calls:
        return Verdict(False, "no_call")
    if len(calls) != len(case.answers):
        return _count(case, calls)
    name = next(iter(case.answers[0]))
    function = case.functions[0] if case.kind == "simple" else _find(case.functions, name)
    return _judge_call(function, calls[0], case.answers[0])


def _judge_parallel(case: BFCLCase, calls: Sequence[Call]) -> Verdict:
    if not calls:
        return Verdict(False, "no_call")
    if len(calls) != len(case.answers):
        return _count(case, calls)
    left = list(calls)
    for answer in case.answers:
        function = _find(case.functions, next(iter(answer)))
        # The first that fits, as BFCL does it, even where another pairing would leave none over.
        verdicts = [_judge_call(function, call, answer) for call in left]
        fitting = next((i for i, verdict in enumerate(verdicts) if verdict.correct), None)
        if fitting is None:
            # Where just one call is about the right function, its fault is the reason.
            named = [verdict for verdict in verdicts if verdict.failure != "function"]
            if len(named) == 1:
                return named[0]
            return Verdict(False, "no_match" if named else "function", f"none is {answer}"[:200])
        del left[fitting]
    return _RIGHT


def _count(case: BFCLCase, calls: Sequence[Call]) -> Verdict:
    return Verdict(False, "call_count", f"{len(calls)} calls, not {len(case.answers)}")


def _find(functions: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((function for function in functions if function["name"] == name), {})


def _judge_call(
    function: Mapping[str, Any], call: Call, answer: Mapping[str, Mapping[str, Any]]
) -> Verdict:
    name, arguments = call
    allowed = next(iter(answer.values()))
    if name != function.get("name"):
        return Verdict(False, "function", f"called {name}, not {function.get('name')}")
    parameters = function.get("parameters") or {}
    known = parameters.get("properties") or {}
    for required in parameters.get("required") or ():
        if required not in arguments:
            return Verdict(False, "missing_argument", f"{required} is missing")
    for parameter, value in arguments.items():
        if parameter not in known or parameter not in allowed:
            return Verdict(False, "unexpected_argument", f"{parameter} should not be there")
        verdict = _judge_value(parameter, value, known[parameter], allowed[parameter])
        if not verdict.correct:
            return verdict
    for parameter, values in allowed.items():
        if parameter not in arguments and "" not in values:
            return Verdict(False, "missing_argument", f"{parameter} is missing")
    return _RIGHT


def _judge_value(
    parameter: str, value: Any, schema: Mapping[str, Any], allowed: Sequence[Any]
) -> Verdict:
    declared = str(schema.get("type"))
    expected = _TYPES.get(declared, str)
    nested: type | None = None
    if declared in ("array", "tuple"):
        nested = _TYPES.get(str((schema.get("items") or {}).get("type")), str)
    if declared == "float" and type(value) is int:
        value = float(value)
    fits, by_answer = _type_fits(value, allowed, expected, nested)
    if not fits:
        return Verdict(False, "type", f"{parameter} is {value!r:.80}, not of type {declared}")
    if by_answer:  # The answer's type is not the declared one: then it is the answer's that counts.
        right = value in allowed
    elif expected is dict:
        right = _dict_fits(value, allowed)
    elif expected is list and nested is dict:
        right = any(_list_of_dicts_fits(value, answer) for answer in allowed)
    elif expected is str:
        right = _plain(value) in [_plain(answer) for answer in allowed if type(answer) is str]
    elif expected is list:
        right = _plain_list(value) in [_plain_list(answer) for answer in allowed]
    else:
        right = value in allowed
    if right:
        return _RIGHT
    return Verdict(False, "value", f"{parameter} is {value!r:.80}, not one of {allowed!r:.120}")


def _type_fits(
    value: Any, allowed: Sequence[Any], expected: type, nested: type | None
) -> tuple[bool, bool]:
    """Whether a value has a type that counts, and whether that is the answers' own."""
    of_answer = next((type(answer) for answer in allowed if answer != ""), None)
    by_answer = of_answer is not None and of_answer is not expected
    items: Any = value
    if type(value) is expected:
        if nested is None:
            return True, by_answer
        # Lists need one answer whose items are of the same kind; "" says nothing about items.
        for answer in allowed:
            if not isinstance(answer, list) or all(
                _type_fits(item, answer, nested, None)[0] for item in items
            ):
                return True, by_answer
        return False, by_answer
    return of_answer is not None and type(value) is of_answer, True


def _dict_fits(value: Any, allowed: Sequence[Any]) -> bool:
    if not isinstance(value, Mapping):
        return False
    for answer in allowed:
        if not isinstance(answer, Mapping) or any(key not in answer for key in value):
            continue
        if all(
            _plain(item) in [_plain(right) for right in answer[key]] for key, item in value.items()
        ) and all(key in value or "" in values for key, values in answer.items()):
            return True
    return False


def _list_of_dicts_fits(value: Sequence[Any], answer: Any) -> bool:
    if len(value) != len(answer):
        return False
    return all(_dict_fits(item, [right]) for item, right in zip(value, answer, strict=True))


def _plain(value: Any) -> Any:
    """A string as BFCL compares it; anything else as it is."""
    if type(value) is not str:
        return value
    return _IGNORED.sub("", value).lower().replace("'", '"')


def _plain_list(value: Any) -> list[Any]:
    """A list as BFCL compares it; ``""``, for an argument that is left out, is an empty one."""
    return [_plain(item) for item in value] if isinstance(value, list | str) else [value]
