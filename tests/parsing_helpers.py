"""What the tests of the output parser share."""

from __future__ import annotations

from collections.abc import Iterable

from agentkit.parsing import ParsedCall, parse_output

WEATHER = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
NOW = '{"name": "now", "arguments": {}}'


def block(text: str) -> str:
    return f"<tool_call>{text}</tool_call>"


def read_one(text: str) -> ParsedCall:
    """The only call of an output that has no text."""
    visible, calls = parse_output(text)
    assert visible == ""
    assert len(calls) == 1
    return calls[0]


def read_usable(text: str) -> ParsedCall:
    call = read_one(text)
    assert call.error is None
    return call


def read_faulty(text: str) -> ParsedCall:
    call = read_one(text)
    assert call.error is not None
    assert call.arguments is None
    return call


def names(calls: Iterable[ParsedCall]) -> list[str | None]:
    return [call.name for call in calls]
