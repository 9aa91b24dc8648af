"""Pydantic's validation errors in words for a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentkit._schemas import echo, json_path

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["explain"]

_MAX_ERRORS = 5


def explain(error: ValidationError, arguments: Mapping[str, Any]) -> str:
    """Write the first few errors, one a line.

    Args:
        error: Of the validation.
        arguments: That were validated.
    """
    lines = []
    for item in error.errors(include_url=False, include_context=False)[:_MAX_ERRORS]:
        path = json_path(_locate(item["loc"], arguments))
        message = item["msg"].removeprefix("Value error, ")
        message = message.removeprefix("Assertion failed, ")[:200]
        if item["type"] == "missing":
            lines.append(f"{path}: missing; it is required")
        elif item["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown argument")
        else:
            lines.append(f"{path}: got {echo(item['input'])}; {message[:1].lower()}{message[1:]}")
    return "\n".join(lines)


def _locate(location: tuple[int | str, ...], arguments: Mapping[str, Any]) -> list[int | str]:
    """Pydantic's location without the names of a union's members, which are no keys."""
    value: Any = arguments
    path: list[int | str] = []
    for index, part in enumerate(location):
        try:
            value = value[part]
        except (LookupError, TypeError):
            if index < len(location) - 1 or not isinstance(value, Mapping):
                continue
        path.append(part)
    return path
