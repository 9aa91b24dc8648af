"""Which part of a response the model is given, and how much of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from agentkit.errors import MissingExtraError, SchemaError
from agentkit_tools.http_errors import HTTPResponseError

__all__ = ["JMESPath", "Shortener", "parse_path", "take"]

_STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[([0-9]+)\]")
_ANY = sys.maxsize
_BAD_ESCAPE = re.compile(r"~(?![01])")


class JMESPath:
    """A JMESPath expression, as ``response=`` of an :class:`~agentkit_tools.http.HTTPTool`.

    For what a path cannot say: ``JMESPath("items[?price < `10`].{name: name, price: price}")``.
    What is not there becomes ``null``, by JMESPath's rules.

    Args:
        expression: In the language of https://jmespath.org.

    Raises:
        SchemaError: It cannot be parsed.
        MissingExtraError: The ``http`` extra is not installed.
    """

    def __init__(self, expression: str) -> None:
        try:
            import jmespath
            from jmespath.exceptions import JMESPathError
        except ImportError as error:
            raise MissingExtraError(
                "JMESPath needs jmespath; install it with `pip install agentkit-granite[http]`"
            ) from error
        self.expression = expression
        """As given."""
        self._error = JMESPathError
        try:
            self._search = jmespath.compile(expression).search
        except JMESPathError as error:
            raise SchemaError(f"JMESPath({expression!r}): {error}") from None

    def __repr__(self) -> str:
        return f"JMESPath({self.expression!r})"

    def __call__(self, value: Any) -> Any:
        """Evaluate the expression.

        Raises:
            HTTPResponseError: A function of it does not fit the response.
        """
        try:
            return self._search(value)
        except self._error as error:
            reason = " ".join(str(error).split())[:200]
            raise HTTPResponseError(f"the service's response does not fit: {reason}") from None


def parse_path(path: str, *, label: str) -> tuple[str | int, ...]:
    """Read a path such as ``data.items[0].name``, or a JSON Pointer such as ``/data/items/0``.

    Args:
        path: To a part of a JSON value.
        label: How errors name the tool.

    Raises:
        SchemaError: It has another form.
    """
    wrong = SchemaError(
        f"{label}: response={path!r} is neither a path such as 'data.items[0].name' nor a JSON "
        "Pointer such as '/data/items/0/name'"
    )
    if path.startswith("/"):
        if _BAD_ESCAPE.search(path):
            raise wrong
        return tuple(key.replace("~1", "/").replace("~0", "~") for key in path[1:].split("/"))
    steps: list[str | int] = []
    position = 0
    while match := _STEP.match(path, position):
        key, index = match.groups()
        steps.append(key if key is not None else int(index))
        position = match.end()
    if not path or position != len(path) or path.startswith("."):
        raise wrong
    return tuple(steps)


def take(value: Any, path: Sequence[str | int]) -> Any:
    """Follow a parsed path into a response.

    Raises:
        HTTPResponseError: The response has no such part; the message says what it has instead.
    """
    done = "response"
    for step in path:
        try:
            if isinstance(value, str):
                raise TypeError("text has no parts")
            if isinstance(value, list) and isinstance(step, str):
                if not re.fullmatch(r"0|[1-9][0-9]{0,9}", step):
                    raise LookupError(step)
                step = int(step)  # of a JSON Pointer
            value = value[step]
        except (LookupError, TypeError):
            if isinstance(value, Mapping):
                has = f"its keys are {', '.join(map(str, list(value)[:20])) or 'none'}"
            elif isinstance(value, list):
                has = f"it is an array of {len(value)} items"
            else:
                has = "it has no parts"
            raise HTTPResponseError(f"the service's {done} has no {step!r}; {has}") from None
        done += f"[{step}]" if isinstance(step, int) else f".{step}"
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortener:
    """Cuts what is too much for a model, and says so where something was cut."""

    max_items: int | None
    """Of an array, or entries of an object; ``None`` for all."""
    max_depth: int | None
    """Levels of arrays and objects; ``None`` for all."""
    max_chars: int | None
    """Of each text; ``None`` for all."""

    def shorten(self, value: Any, depth: int = 0) -> Any:
        """Cut a value.

        Args:
            value: JSON.
            depth: Levels above it.

        Returns:
            The value, copied if something was cut.
        """
        if isinstance(value, str):
            return self._text(value)
        if not isinstance(value, dict | list):
            return value
        if not depth and self._fits(value):
            return value
        if value and self.max_depth is not None and depth >= self.max_depth:
            return f"… {len(value)} {_things(value)}, not shown"
        shown: Any
        if isinstance(value, dict):
            entries = islice(value.items(), self.max_items)
            shown = {key: self.shorten(item, depth + 1) for key, item in entries}
        else:
            shown = [self.shorten(item, depth + 1) for item in islice(value, self.max_items)]
        rest = len(value) - len(shown)
        if rest:
            note = f"{rest} more of {len(value)} {_things(value)}, not shown"
            if isinstance(shown, dict):
                shown["…"] = note
            else:
                shown.append(f"… {note}")
        return shown

    def _fits(self, value: Any) -> bool:
        """Whether nothing must be cut, as in most responses. Level by level, which is fast."""
        max_items = _ANY if self.max_items is None else self.max_items
        max_chars = _ANY if self.max_chars is None else self.max_chars
        level, depth = [value], 0
        while level:
            if self.max_depth is not None and depth >= self.max_depth and any(level):
                return False
            deeper = []
            for parent in level:
                if len(parent) > max_items:
                    return False
                for item in parent.values() if isinstance(parent, dict) else parent:
                    if isinstance(item, str):
                        if len(item) > max_chars:
                            return False
                    elif isinstance(item, dict | list):
                        deeper.append(item)
            level, depth = deeper, depth + 1
        return True

    def _text(self, text: str) -> str:
        if self.max_chars is None or len(text) <= self.max_chars:
            return text
        rest = len(text) - self.max_chars
        return f"{text[: self.max_chars]}… {rest} more of {len(text)} characters, not shown"


def _things(value: Any) -> str:
    return "entries" if isinstance(value, dict) else "items"
