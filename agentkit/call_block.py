"""From the text of one ``<tool_call>`` block to the calls that it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.lenient_json import JSONFaultError, JSONReading, read_json
from agentkit.messages import new_call_id

__all__ = ["ParsedCall", "read_block"]

_FORM = 'write {"name": ..., "arguments": {...}}'
_CUT_OFF = (
    "the call was cut off: it is not complete and has no closing </tool_call>; write the whole "
    "call again, shorter if it was long"
)

# The reader names where a text goes wrong; the name of the function usually stands before that.
_NAME = re.compile(
    r"""[^"']*(?:["']type["']\s*:\s*["']function["']\s*,\s*["']function["']\s*:\s*\{\s*)?"""
    r"""["']name["']\s*:\s*["']([^"'\\]+)["']"""
)
_NAME_KEYS = ("name", "function", "tool_name", "tool")
_ARGUMENTS_KEYS = ("arguments", "parameters", "args")
# OpenAI's form has these, and nothing depends on what they say.
_IGNORED_KEYS = {"id", "type", "index"}
# JSON inside a string inside a string: more layers than that were never seen, and each costs.
_MAX_LAYERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCall:
    """What one ``<tool_call>`` block says, whether it can be used or not."""

    raw: str
    """The text between the tags, exactly."""
    name: str | None = None
    """The function's name; ``None`` if the text names none."""
    arguments: Mapping[str, Any] | None = None
    """The arguments object; ``None`` if it could not be read."""
    repairs: tuple[str, ...] = ()
    """What had to be mended to read it, such as ``arguments were JSON inside a string``."""
    error: str | None = None
    """Why it cannot be used, in words for the model; ``None`` if it can."""
    id: str = field(default_factory=new_call_id, compare=False)
    """Identifier of the call."""
    start: int | None = field(default=None, compare=False)
    """Where the block's opening tag begins, in characters of the output, if that is known."""


class _CallFaultError(Exception):
    """A call that cannot be used; the message is for the model."""


def read_block(raw: str, *, closed: bool = True) -> tuple[ParsedCall, ...]:
    """Read the calls of one block: one, unless the model put several into it.

    Args:
        raw: The text between the tags.
        closed: Whether the closing tag was there. Without it the text may have been cut off, so
            missing brackets are not added.
    """
    repairs: list[str] = []
    if not closed:
        repairs.append("the closing </tool_call> tag was missing")
    try:
        reading = _unwrap(read_json(raw, close_brackets=closed), close_brackets=closed)
    except JSONFaultError as fault:
        error = f"the call is not valid JSON: {fault}; {_FORM}" if closed else _CUT_OFF
        name = _NAME.match(raw)
        return (ParsedCall(raw=raw, name=name and name[1], repairs=tuple(repairs), error=error),)
    repairs += reading.repairs
    items = list(reading.values)
    if len(items) == 1 and isinstance(items[0], list):
        items = items[0]
        if len(items) == 1:
            repairs.append("the call stood in a list")
    if not items:
        error = f"the call is empty; {_FORM}" if closed else _CUT_OFF
        return (ParsedCall(raw=raw, repairs=tuple(repairs), error=error),)
    if len(items) > 1:
        repairs.append("several calls stood in one block")
    return tuple(_CallReader(raw, repairs).read(item) for item in items)


class _CallReader:
    """Reads one call, and collects what had to be mended."""

    def __init__(self, raw: str, repairs: list[str]) -> None:
        self._raw = raw
        self._repairs = list(repairs)
        self._name: str | None = None

    def read(self, item: Any) -> ParsedCall:
        arguments: dict[str, Any] | None = None
        error: str | None = None
        try:
            if not isinstance(item, dict):
                raise _CallFaultError(f"the call must be an object, not {_kind(item)}; {_FORM}")
            arguments = self._call(item)
        except _CallFaultError as fault:
            error = str(fault)
        return ParsedCall(
            raw=self._raw,
            name=self._name,
            arguments=arguments,
            repairs=tuple(dict.fromkeys(self._repairs)),
            error=error,
        )

    def _call(self, item: dict[str, Any]) -> dict[str, Any]:
        if "name" not in item and isinstance(item.get("function"), dict):
            self._repairs.append("the call stood inside a 'function' object")
            item = item["function"]
        rest = {key: value for key, value in item.items() if key not in _IGNORED_KEYS}
        name = self._take(rest, _NAME_KEYS, "the name")
        if name is _MISSING:
            raise _CallFaultError(f"the call names no function; {_FORM}")
        if not isinstance(name, str) or not name:
            found = "empty" if name == "" else _kind(name)
            raise _CallFaultError(f"the function's name must be text, not {found}; {_FORM}")
        self._name = name
        arguments = self._take(rest, _ARGUMENTS_KEYS, "arguments")
        if arguments is not _MISSING:
            if rest:
                dropped = ", ".join(repr(key) for key in rest)
                self._repairs.append(f"keys beside the arguments were dropped: {dropped}")
            return self._arguments(arguments)
        if rest:
            self._repairs.append("arguments stood beside the name")
        else:
            self._repairs.append("arguments were missing")
        return rest

    def _take(self, item: dict[str, Any], keys: tuple[str, ...], what: str) -> Any:
        """Remove the value under the first of the keys that is there."""
        for key in keys:
            if key in item:
                if key != keys[0]:
                    self._repairs.append(f"{what} stood under the key {key!r}")
                return item.pop(key)
        return _MISSING

    def _arguments(self, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            value = self._arguments_text(value)
        if value is None:
            self._repairs.append("arguments were null")
            return {}
        if isinstance(value, dict):
            return value
        raise _CallFaultError(
            f'the arguments must be an object such as {{"key": "value"}}, not {_kind(value)}; '
            f"{_FORM}"
        )

    def _arguments_text(self, text: str) -> Any:
        if not text.strip():
            self._repairs.append("arguments were empty text")
            return {}
        try:
            reading = _unwrap(JSONReading((text,)))
        except JSONFaultError as fault:
            raise _CallFaultError(
                f"the arguments are text that is not valid JSON: {fault}; {_FORM}"
            ) from None
        if len(reading.values) != 1:
            raise _CallFaultError(f"the arguments must be one object; {_FORM}")
        self._repairs += ["arguments were JSON inside a string", *reading.repairs[1:]]
        return reading.values[0]


_MISSING: Any = object()


def _unwrap(reading: JSONReading, *, close_brackets: bool = True) -> JSONReading:
    """Read on where a text's only value is a string that holds JSON itself.

    Raises:
        JSONFaultError: The string holds something else.
    """
    for _ in range(_MAX_LAYERS):
        if len(reading.values) != 1 or not isinstance(reading.values[0], str):
            break
        repairs = dict.fromkeys((*reading.repairs, "JSON stood inside a string"))
        inner = _read_text(reading.values[0], close_brackets)
        reading = JSONReading(inner.values, tuple(dict.fromkeys((*repairs, *inner.repairs))))
    return reading


def _read_text(text: str, close_brackets: bool) -> JSONReading:
    try:
        return read_json(text, close_brackets=close_brackets)
    except JSONFaultError:
        # Escaped once more than it is quoted: {\"city\": \"Paris\"}.
        if '\\"' not in text:
            raise
        try:
            plain = read_json(f'"{text}"').values[0]
            return read_json(plain, close_brackets=close_brackets)
        except JSONFaultError:
            pass
        raise


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
