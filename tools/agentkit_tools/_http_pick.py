"""Which part of a response the model is given, and how much of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentkit.errors import MissingExtraError, SchemaError
from agentkit_tools.http_errors import HTTPResponseError

__all__ = ["JMESPath", "Picker", "parse_path", "shorten", "take"]

_STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[([0-9]+)\]")
_BAD_ESCAPE = re.compile(r"~(?![01])")

Picker = Callable[[Any], Any]
"""From a parsed response to what is taken of it."""


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


def shorten(value: Any, *, max_items: int | None, max_depth: int | None) -> Any:
    """Cut long arrays and objects, and deep nesting, and say so where something was cut.

    Args:
        value: JSON.
        max_items: Of an array, or entries of an object; ``None`` for all.
        max_depth: Levels of arrays and objects; ``None`` for all.

    Returns:
        The value, copied where it was cut.
    """
    if not isinstance(value, Mapping | list):
        return value
    if max_depth is not None and max_depth < 1:
        kind = "entries" if isinstance(value, Mapping) else "items"
        return f"… {len(value)} {kind}, not shown" if value else value
    deeper = None if max_depth is None else max_depth - 1
    rest = 0 if max_items is None else len(value) - max_items
    if isinstance(value, Mapping):
        entries = list(value.items())[: max_items if rest > 0 else None]
        shown: Any = {
            key: shorten(item, max_items=max_items, max_depth=deeper) for key, item in entries
        }
        if rest > 0:
            shown["…"] = f"{rest} more of {len(value)} entries, not shown"
        return shown
    shown = [
        shorten(item, max_items=max_items, max_depth=deeper)
        for item in value[: max_items if rest > 0 else None]
    ]
    if rest > 0:
        shown.append(f"… {rest} more of {len(value)} items, not shown")
    return shown
