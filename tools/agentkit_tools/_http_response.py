"""From an HTTP response to what the model sees."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from agentkit_tools.http_errors import HTTPResponseError, HTTPStatusError

if TYPE_CHECKING:
    from agentkit_tools._http_client import Reply

__all__ = ["decode", "describe_failure", "is_json", "redact", "redact_reply", "spellings"]

_MAX_EXCERPT_CHARS = 300
# Deeper JSON means nothing to a model, and recursion over it would end in a RecursionError.
_MAX_NESTING = 200
# Shorter "secrets" would blot out half of an innocent response.
_MIN_SECRET_CHARS = 4
_TEXT_TYPES = ("application/xml", "application/yaml", "application/x-ndjson")
_ADVICE = {
    400: "the arguments do not suit the service",
    401: "the tool's credentials were not accepted; other arguments will not help",
    403: "the tool is not allowed to do this; other arguments may be",
    404: "nothing is there under these arguments",
    429: "too many calls were made; try later",
}


def is_json(content_type: str) -> bool:
    """Whether a media type is JSON."""
    return content_type == "application/json" or content_type.endswith("+json")


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type.endswith(("+xml", *_TEXT_TYPES))


def decode(reply: Reply, *, accept: Sequence[str] | None = None) -> Any:
    """The content of a successful response.

    Args:
        reply: The response.
        accept: Media types, such as ``text/*``; ``None`` for all.

    Returns:
        Parsed JSON, or text; of anything else, one sentence that says what it is.

    Raises:
        HTTPResponseError: It is of another type than accepted, or is JSON that cannot be read.
    """
    if not reply.body.strip():
        status = f"{reply.status} {reply.reason}".rstrip()
        return f"done ({status}, no content)"
    kind = reply.content_type
    if accept is not None and not any(_matches(kind, pattern) for pattern in accept):
        raise HTTPResponseError(
            f"the service answered with {kind or 'content of no type'} "
            f"({len(reply.body)} bytes), not with {' or '.join(accept)}"
        )
    if is_json(kind) or not kind:
        return _parse(reply)
    if _is_text(kind):
        return _text(reply).removeprefix("\ufeff")
    return f"the service answered with {kind} ({len(reply.body)} bytes), which cannot be shown"


def _text(reply: Reply) -> str:
    try:
        return reply.body.decode(reply.encoding, "replace")
    except (LookupError, ValueError):
        # Unknown to Python, or known and not of text, such as "hex".
        return reply.body.decode("utf-8", "replace")


def _matches(content_type: str, pattern: str) -> bool:
    if pattern == "application/json":
        return is_json(content_type) or not content_type
    return content_type == pattern or (
        pattern.endswith("/*") and content_type.startswith(pattern.removesuffix("*"))
    )


def _parse(reply: Reply) -> Any:
    try:
        try:
            value = json.loads(reply.body, parse_constant=_refuse_constant)
            brackets = reply.body.count(b"[") + reply.body.count(b"{")
        except UnicodeDecodeError:
            # JSON is UTF-8, but a service that says otherwise may mean it.
            text = reply.body.decode(reply.encoding)
            value = json.loads(text, parse_constant=_refuse_constant)
            brackets = text.count("[") + text.count("{")
    except RecursionError:
        raise HTTPResponseError("the service answered with JSON that is nested too deep") from None
    except (ValueError, LookupError) as error:
        raise HTTPResponseError(
            f"the service answered with JSON that cannot be read: {str(error)[:200]}"
        ) from None
    if brackets > _MAX_NESTING and _deeper_than(value, _MAX_NESTING):
        raise HTTPResponseError(
            f"the service answered with JSON that is nested more than {_MAX_NESTING} levels deep"
        )
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            item
            for parent in level
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def describe_failure(reply: Reply) -> HTTPStatusError:
    """Tell the model of a response that is not a success."""
    text = f"the service answered {reply.status} {reply.reason}".rstrip()
    advice = _ADVICE.get(reply.status)
    if advice is None and reply.status >= 500:
        advice = "the service has a problem of its own; try later"
    if advice:
        text += f" ({advice})"
    if reply.retry_after:
        text += f"; it asks to wait {reply.retry_after:.0f} s"
    # An HTML error page says nothing that the status does not.
    if is_json(reply.content_type) or reply.content_type == "text/plain":
        excerpt = " ".join(_text(reply).split())
        if len(excerpt) > _MAX_EXCERPT_CHARS:
            excerpt = f"{excerpt[:_MAX_EXCERPT_CHARS]}…"
        text += f": {excerpt}" if excerpt else ""
    return HTTPStatusError(text, status=reply.status)


def spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """The forms in which secrets may come back: plain, URL-encoded, escaped in JSON.

    Those of fewer than 4 characters are left out. Longer ones come first, as one may be part of
    another.
    """
    found: set[str] = set()
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_CHARS:
            escaped = json.dumps(secret)[1:-1]
            found |= {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
            found |= {escaped, escaped.replace("/", "\\/")}
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def redact_reply(value: Any, reply: Reply, secrets: Sequence[str]) -> Any:
    """:func:`redact`, of what was decoded from a response.

    Texts in JSON without a backslash stand in the response as they are: where the whole of it
    holds no secret, no part of it needs to be looked at.

    Args:
        value: As :func:`decode` gave it.
        reply: The response.
        secrets: Texts to replace.
    """
    if isinstance(value, dict | list) and not _may_hold(reply.body, secrets):
        return value
    return redact(value, secrets)


def _may_hold(body: bytes, secrets: Sequence[str]) -> bool:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return True
    # Zeros: UTF-16 or UTF-32, which the JSON parser knows by them.
    return "\\" in text or "\0" in text or any(secret in text for secret in secrets)


def redact(value: Any, secrets: Sequence[str]) -> Any:
    """Blot out secrets wherever a service echoes them, in keys too.

    Args:
        value: Text or JSON.
        secrets: Texts to replace; see :func:`spellings`.
    """
    return _redact(value, secrets) if secrets else value


def _redact(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "[secret]")
        return value
    if isinstance(value, dict):
        return {_redact(key, secrets): _redact(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact(item, secrets) for item in value]
    return value
