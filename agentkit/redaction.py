"""Secrets blotted out by value, wherever they turn up: in results, records, errors, prompts."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

from agentkit.errors import UserError
from agentkit.messages import AssistantMessage, Message
from agentkit.tools import Tool

__all__ = ["REDACTED", "Redactor", "Secrets"]

REDACTED = "[redacted]"
"""Stands where a secret stood."""
_MIN_CHARS = 4
T = TypeVar("T")


class Secrets:
    """Values that must not reach the model, events, records, the audit log or errors.

    Besides the values themselves their usual spellings are found: URL-encoded, as JSON and
    Python write them in strings, and in Base64.

    Args:
        values: The secrets.
        env: Environment variables that hold secrets; read whenever something is looked
            through, so that a renewed token is known.

    Raises:
        UserError: A value is shorter than 4 characters (it would blot out half of an innocent
            text), or a variable is not set.
    """

    def __init__(self, values: Iterable[str] = (), *, env: Iterable[str] = ()) -> None:
        if isinstance(values, str) or isinstance(env, str):
            raise UserError("Secrets takes lists: Secrets([value]) or Secrets(env=[name])")
        self._values = tuple(values)
        self._env = tuple(env)
        for i, value in enumerate(self._values):
            _check(value, f"Secrets.values[{i}]")
        for name in self._env:
            _check(os.environ.get(name, ""), f"the environment variable {name}")

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)} values, env={list(self._env)!r})"

    def values(self) -> tuple[str, ...]:
        """The secrets as they are now."""
        found = (*self._values, *(os.environ.get(name, "").strip() for name in self._env))
        return tuple(value for value in found if len(value) >= _MIN_CHARS)


def _check(value: Any, what: str) -> None:
    # Says how long the value is, never what it is.
    if not isinstance(value, str):
        raise UserError(f"{what} must be text, not {type(value).__name__}")
    if len(value.strip()) < _MIN_CHARS:
        raise UserError(
            f"{what} has {len(value.strip())} characters; a secret needs at least {_MIN_CHARS} "
            "to be found by its value"
        )


class Redactor:
    """Blots out secrets in whatever a run handles.

    Args:
        secrets: The program's.
        tools: Those with a method ``secrets()`` bring theirs. They are asked each time, since a
            tool may fetch a new token in the middle of a run; the old ones stay known.
    """

    def __init__(self, secrets: Secrets | None = None, tools: Iterable[Tool] = ()) -> None:
        self._secrets = secrets
        self._sources = [
            source for tool in tools if callable(source := getattr(tool, "secrets", None))
        ]
        self._known: dict[str, None] = {}
        self._spellings: list[str] = []

    def __call__(self, value: T) -> T:
        """A value without secrets: text, JSON, messages, documents and dataclasses of these."""
        spellings = self._current()
        return _redact(value, spellings) if spellings else value

    def scrub(self, error: BaseException) -> bool:
        """Blot out secrets in an exception's arguments and notes, and in those behind it.

        An exception behind it that shows a secret in some other way is cut off.

        Returns:
            Whether the exception itself is free of secrets now.
        """
        spellings = self._current()
        if not spellings:
            return True
        seen: set[int] = set()
        current: BaseException | None = error
        while current is not None and id(current) not in seen:
            seen.add(id(current))
            _scrub_one(current, spellings)
            for name in ("__cause__", "__context__"):
                behind = getattr(current, name)
                if behind is not None:
                    _scrub_one(behind, spellings)
                    if _shows(behind, spellings):
                        setattr(current, name, None)
            current = current.__cause__ or current.__context__
        return not _shows(error, spellings)

    def _current(self) -> list[str]:
        """All spellings of all secrets, the longest first, so that none hides within another."""
        found = list(self._secrets.values()) if self._secrets is not None else []
        for source in self._sources:
            try:
                found += source()
            except UserError:
                continue  # Not there, so it cannot leak; the tool says so when it is called.
        new = [v for v in found if len(v) >= _MIN_CHARS and v not in self._known]
        if new:
            self._known.update(dict.fromkeys(new))
            spellings = {form for value in self._known for form in _spellings(value)}
            self._spellings = sorted(spellings, key=len, reverse=True)
        return self._spellings


def _spellings(value: str) -> Iterable[str]:
    yield value
    yield quote(value, safe="")
    yield quote_plus(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    encoded = base64.b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii")
    # The last characters depend on what follows the value in a longer text.
    yield encoded.rstrip("=")[: -1 if len(value) > 8 and "=" in encoded else None]


def _scrub_one(error: BaseException, spellings: Sequence[str]) -> None:
    error.args = tuple(_redact(arg, spellings) for arg in error.args)
    if notes := getattr(error, "__notes__", None):
        notes[:] = [_redact(note, spellings) for note in notes]


def _shows(error: BaseException, spellings: Sequence[str]) -> bool:
    text = f"{error}{error!r}{getattr(error, '__notes__', '')}"
    return any(spelling in text for spelling in spellings)


def _redact(value: Any, spellings: Sequence[str]) -> Any:
    if isinstance(value, str):
        for spelling in spellings:
            if spelling in value:
                value = value.replace(spelling, REDACTED)
        return value
    if isinstance(value, bytes):
        return _redact(value.decode("utf-8", "surrogateescape"), spellings).encode(
            "utf-8", "surrogateescape"
        )
    if isinstance(value, Mapping):
        return {_redact(k, spellings): _redact(item, spellings) for k, item in value.items()}
    if isinstance(value, list):
        return [_redact(item, spellings) for item in value]
    if isinstance(value, tuple):
        return tuple(_redact(item, spellings) for item in value)
    if isinstance(value, Message):
        return _redact_message(value, spellings)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _redact_fields(value, spellings)
    return value


def _redact_message(message: Message, spellings: Sequence[str]) -> Message:
    if not isinstance(message, AssistantMessage) or message.generation is None:
        changed: Message = _redact_fields(message, spellings)
        return changed
    plain = dataclasses.replace(message, generation=None)
    clean = _redact_fields(plain, spellings)
    text = message.generation.text
    # Tokens of a turn without secrets stay, and with them what the cache holds of it.
    return message if clean == plain and _redact(text, spellings) == text else clean


def _redact_fields(value: Any, spellings: Sequence[str]) -> Any:
    changes = {}
    for field in dataclasses.fields(value):
        if not field.init:
            continue
        old = getattr(value, field.name)
        new = _redact(old, spellings)
        if new != old:
            changes[field.name] = new
    return dataclasses.replace(value, **changes) if changes else value
