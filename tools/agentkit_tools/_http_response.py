"""From an HTTP response to what the model sees."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentkit.errors import SchemaError, ToolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit_tools._http_client import Reply

__all__ = ["decode", "describe_failure", "parse_key_path", "redact", "take"]

_MAX_EXCERPT_CHARS = 300
# Shorter "secrets" would blot out half of an innocent response.
_MIN_SECRET_CHARS = 4
_STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[([0-9]+)\]")
_ADVICE = {
    401: "the tool's credentials were not accepted; other arguments will not help",
    403: "the tool is not allowed to do this; other arguments may be",
    404: "nothing is there under these arguments",
    429: "too many calls were made; try later",
}


def is_json(content_type: str) -> bool:
    """Whether a media type is JSON."""
    return content_type == "application/json" or content_type.endswith("+json")


def decode(reply: Reply) -> Any:
    """The content of a successful response: parsed JSON, or text.

    Raises:
        ToolError: It is neither.
    """
    if not reply.body.strip():
        status = f"{reply.status} {reply.reason}".rstrip()
        return f"done ({status}, no content)"
    if is_json(reply.content_type) or not reply.content_type:
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise ToolError(
                f"the service answered with JSON that cannot be read: {error}"
            ) from None
    if reply.content_type.startswith("text/"):
        return reply.body.decode(reply.encoding, "replace")
    raise ToolError(
        f"the service answered with {reply.content_type} ({len(reply.body)} bytes), which is "
        "neither JSON nor text"
    )


def describe_failure(reply: Reply) -> str:
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
        excerpt = " ".join(reply.body.decode(reply.encoding, "replace").split())
        if len(excerpt) > _MAX_EXCERPT_CHARS:
            excerpt = f"{excerpt[:_MAX_EXCERPT_CHARS]}…"
        text += f": {excerpt}" if excerpt else ""
    return text


def parse_key_path(path: str, *, label: str) -> tuple[str | int, ...]:
    """Read a path such as ``data.items[0].name``.

    Args:
        path: To a part of a JSON value.
        label: How errors name the tool.

    Raises:
        SchemaError: It has another form.
    """
    steps: list[str | int] = []
    position = 0
    while match := _STEP.match(path, position):
        key, index = match.groups()
        steps.append(key if key is not None else int(index))
        position = match.end()
    if not path or position != len(path) or path.startswith("."):
        raise SchemaError(f"{label}: response={path!r} is not a path such as 'data.items[0].name'")
    return tuple(steps)


def take(value: Any, path: Sequence[str | int]) -> Any:
    """Follow a parsed path into a response.

    Raises:
        ToolError: The response has no such part; the message says what it has instead.
    """
    done = "response"
    for step in path:
        try:
            if isinstance(value, str):
                raise TypeError("text has no parts")
            value = value[step]
        except (LookupError, TypeError):
            if isinstance(value, Mapping):
                has = f"its keys are {', '.join(map(str, list(value)[:20])) or 'none'}"
            elif isinstance(value, list):
                has = f"it is an array of {len(value)} items"
            else:
                has = "it has no parts"
            raise ToolError(f"the service's {done} has no {step!r}; {has}") from None
        done += f"[{step}]" if isinstance(step, int) else f".{step}"
    return value


def redact(value: Any, secrets: Sequence[str]) -> Any:
    """Blot out secrets wherever a service echoes them, in keys too.

    Args:
        value: Text or JSON.
        secrets: Texts to replace; those of fewer than 4 characters are left alone.
    """
    if isinstance(value, str):
        for secret in secrets:
            if len(secret) >= _MIN_SECRET_CHARS:
                value = value.replace(secret, "[secret]")
        return value
    if isinstance(value, Mapping):
        return {redact(key, secrets): redact(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item, secrets) for item in value]
    return value
