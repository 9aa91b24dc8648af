"""Validation of a call's arguments against a tool's JSON Schema (draft 2020-12).

What a small model gets almost right is mended where that is safe (see :class:`Coercion`);
what remains wrong is told in words that it can act on (see :class:`ArgumentError`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit._coercion import Coercer, Coercion
from agentkit._schemas import build_validator, check_schema, echo, json_path, plain
from agentkit._wording import ArgumentError, nearest, word_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agentkit._schemas import Path
    from agentkit.tools import ToolDefinition

__all__ = [
    "ArgumentError",
    "ArgumentValidator",
    "Coercion",
    "ValidatedArguments",
    "check_schema",
    "unknown_tool_message",
]

_MAX_ERRORS = 20
_MAX_TOOL_NAMES = 12
# What Python itself raises on values past its own limits: containers nested beyond the stack,
# integers too big for a float or with too many digits to print.
_BEYOND_LIMITS = (RecursionError, OverflowError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedArguments:
    """What became of a call's arguments."""

    arguments: dict[str, Any]
    """A copy of the arguments, mended where that was safe."""
    coercions: tuple[Coercion, ...] = ()
    """What was mended."""
    errors: tuple[ArgumentError, ...] = ()
    """What is still wrong; at most 20 errors."""

    @property
    def ok(self) -> bool:
        """Whether the tool may be called with :attr:`arguments`."""
        return not self.errors

    def explain(self) -> str:
        """The errors for the model, one a line; empty if there are none."""
        return "\n".join(error.message for error in self.errors)


class ArgumentValidator:
    """Validates and mends the arguments of one tool's calls.

    Args:
        definition: Of the tool. Its schema is copied.

    Raises:
        SchemaError: The definition's schema cannot be used; see :func:`check_schema`.
    """

    def __init__(self, definition: ToolDefinition) -> None:
        self._schema: dict[str, Any] = {"type": "object", **plain(definition.parameters)}
        self._validator = build_validator(self._schema, tool_name=definition.name)

    def validate(self, arguments: Mapping[str, Any]) -> ValidatedArguments:
        """Validate a call's arguments, after mending what can be mended without a guess.

        Never raises on anything that JSON can hold, and never changes its input. Missing
        arguments are not filled in with the schema's defaults.

        Args:
            arguments: As parsed from the model's output.
        """
        try:
            copied = plain(arguments)
            if errors := tuple(_find_non_finite(copied, ())):
                return _result(copied, errors=errors)
            coercer = Coercer(self._validator, self._schema)
            mended, coercions = coercer.repair(copied, self._schema)
            found = word_errors(self._validator.iter_errors(mended), self._schema)
            errors = tuple(_first_by_message(found))
        except _BEYOND_LIMITS:
            text = "the arguments are nested too deeply or hold a number that is too large"
            error = ArgumentError(
                path="$", value=None, expected="simpler arguments", message=f"$: {text}"
            )
            return ValidatedArguments(arguments={}, errors=(error,))
        return _result(mended, coercions=tuple(coercions), errors=errors)


def _result(
    arguments: Any,
    *,
    coercions: tuple[Coercion, ...] = (),
    errors: tuple[ArgumentError, ...] = (),
) -> ValidatedArguments:
    return ValidatedArguments(
        arguments=arguments if isinstance(arguments, dict) else {},
        coercions=coercions,
        errors=errors,
    )


def _first_by_message(errors: Iterable[ArgumentError]) -> Iterator[ArgumentError]:
    """Several keywords of one schema may object to one value; the words are the same."""
    seen: set[str] = set()
    for error in errors:
        if error.message not in seen:
            seen.add(error.message)
            yield error
        if len(seen) >= _MAX_ERRORS:
            return


def _find_non_finite(value: Any, path: Path) -> Iterator[ArgumentError]:
    """NaN and Infinity pass Python's JSON parser, but are no JSON numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        where, expected = json_path(path), "a finite number"
        yield ArgumentError(
            path=where,
            value=value,
            expected=expected,
            message=f"{where}: got {value}, expected {expected}",
        )
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find_non_finite(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_non_finite(item, (*path, index))


def unknown_tool_message(name: str, known_names: Iterable[str]) -> str:
    """Tell the model that it called a tool that does not exist, and which do.

    Args:
        name: As the model called it.
        known_names: Of the tools that there are.
    """
    known = list(known_names)
    text = f"there is no tool {echo(name, limit=64)}"
    if not known:
        return f"{text}; no tools are available, answer without one"
    similar = nearest(name, known, count=3)
    text += f"; did you mean {' or '.join(map(echo, similar))}?" if similar else "."
    if len(known) <= _MAX_TOOL_NAMES:
        return f"{text} Tools: {', '.join(known)}"
    return text if similar else f"{text} Call one of the {len(known)} tools that are listed"
