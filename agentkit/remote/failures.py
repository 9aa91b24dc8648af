"""What goes wrong between a program and a model's server, in words that help."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from agentkit.errors import (
    ContextLengthError,
    ModelAccessError,
    ModelConnectionError,
    ModelError,
    ModelNotFoundError,
    ModelServerError,
)
from agentkit.remote.reading import is_too_long

__all__ = ["connection_error", "retry_after", "status_error", "wrong_place"]

_MAX_CHARS = 500
# What servers of other makers say where one of their own options is missing.
_TOOL_HINTS = ("tool choice requires", "enable-auto-tool-choice", "--jinja", "tool-call-parser")
_PLACE = "the base URL is what stands before /chat/completions, and mostly ends with /v1"


def status_error(
    url: str, status: int, body: str, *, model: str, has_key: bool, key_variable: str
) -> ModelError:
    """The error that a status stands for.

    Args:
        url: That was asked.
        status: Of the response.
        body: Of the response, or the beginning of it.
        model: That was asked for.
        has_key: Whether a key was sent.
        key_variable: Where a key would be looked for.
    """
    told = _message(body)
    said = f": {told}" if told else ""
    if status in (401, 403):
        cure = (
            "it does not take the API key that was sent"
            if has_key
            else f"no API key was sent; set {key_variable}, or pass api_key"
        )
        return ModelAccessError(f"{url} answers {status}, {cure}{said}", status=status)
    if 300 <= status < 400:
        return ModelNotFoundError(
            f"{url} redirects ({status}), which is not followed; use the address that it leads to",
            status=status,
        )
    if status in (400, 413, 422) and is_too_long(body):
        return ContextLengthError(f"the prompt does not fit the model {model!r}{said}")
    hint = ""
    if status in (400, 422, 500) and any(mark in body for mark in _TOOL_HINTS):
        hint = (
            "; start the server with support for tools, or use calls='json_schema' or "
            "calls='structural_tag'"
        )
    return ModelServerError(f"{url} answers {status}{said}{hint}", status=status)


def wrong_place(url: str, model: str, known: Sequence[str] | None, body: str) -> ModelError:
    """What a 404 means.

    Args:
        url: That was asked.
        model: That was asked for.
        known: Models that the server has; None if it does not tell.
        body: Of the response.
    """
    if known:
        names = ", ".join(known[:20])
        return ModelNotFoundError(
            f"the server at {url} has no model {model!r}; it has: {names}", status=404
        )
    told = _message(body)
    said = f" It says: {told}" if told else ""
    return ModelNotFoundError(f"nothing serves models at {url} (404): {_PLACE}.{said}", status=404)


def connection_error(url: str, error: Exception) -> ModelServerError:
    """A failure of the connection in words."""
    detail = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectTimeout):
        return ModelConnectionError(f"{url} does not answer: connecting took too long")
    if isinstance(error, httpx.ConnectError):
        return ModelConnectionError(f"{url} cannot be reached ({detail}); is the server running?")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return ModelConnectionError(f"{url} was silent for too long; raise timeout if that is rare")
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return ModelConnectionError(f"{url} hung up amid the answer ({detail})")
    return ModelConnectionError(f"{url} cannot be used: {detail}")


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds after which a server wants to be asked again, if it says so."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _message(body: str) -> str:
    """The words in an error's body."""
    text: Any = body
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        text = data.get("error") or data.get("message") or data.get("detail") or body
        if isinstance(text, dict):
            text = text.get("message") or text
    elif "<html" in body[:500].lower() or "<!doctype" in body[:500].lower():
        return "a web page"
    return " ".join(str(text).split())[:_MAX_CHARS]
