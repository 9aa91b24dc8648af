"""Where a tool's arguments go in an HTTP request.

A template is a URL, or a value of the query, the headers or the body. ``{name}`` stands for the
argument of that name; ``{{`` and ``}}`` are literal braces.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from agentkit.errors import SchemaError
from agentkit_tools._http_style import ParameterStyle, text_of, write
from agentkit_tools.http_errors import HTTPRequestError

__all__ = ["MISSING", "check_url", "fill", "fill_url", "only_placeholder", "placeholders"]

MISSING = object()
"""Marks an entry whose argument was not given."""

_NAME = re.compile(r"[A-Za-z_][\w-]*")


def placeholders(template: Any, *, where: str) -> set[str]:
    """Names of the arguments in a template.

    Args:
        template: Text, or JSON that holds text.
        where: How errors name it.

    Raises:
        SchemaError: Braces are unbalanced or hold something other than a name.
    """
    if isinstance(template, str):
        return {name for _, name in _split(template, where) if name is not None}
    if isinstance(template, Mapping):
        template = list(template.values())
    if isinstance(template, list | tuple):
        return {name for part in template for name in placeholders(part, where=where)}
    return set()


def check_url(url: str, *, label: str) -> set[str]:
    """Judge a URL template.

    Args:
        url: The template.
        label: How errors name the tool.

    Returns:
        Names of the arguments in it.

    Raises:
        SchemaError: It is not an absolute http(s) URL, lets an argument choose the host, holds
            credentials or has a ".." in its path.
    """
    where = f"{label}: url {url!r}"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SchemaError(f"{where} cannot be read: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SchemaError(f"{where} must begin with http:// or https:// and a host")
    if "{" in parts.netloc:
        raise SchemaError(f"{where}: the host must be fixed; an argument may not choose it")
    if "@" in parts.netloc:
        raise SchemaError(
            f"{label}: the url must not hold a user or password; use auth=BasicAuth(...)"
        )
    if parts.fragment:
        raise SchemaError(f"{where}: what follows '#' is never sent; leave it out")
    if any(unquote(segment) in (".", "..") for segment in parts.path.split("/")):
        raise SchemaError(f"{where}: write the path without '.' and '..' segments")
    return placeholders(url, where=where)


def fill(template: Any, arguments: Mapping[str, Any]) -> Any:
    """Put arguments into a value of the query, the headers or the body.

    Args:
        template: Text that is one placeholder becomes the argument itself, of whatever type;
            in other text, arguments are written out. JSON is filled in recursively.
        arguments: By name.

    Returns:
        The value; :data:`MISSING` if an argument in it was not given. Within JSON, entries
        with missing arguments are left out.
    """
    if isinstance(template, str):
        parts = _split(template, "")
        if any(name is not None and name not in arguments for _, name in parts):
            return MISSING
        if len(parts) == 1 and not parts[0][0] and parts[0][1] is not None:
            return arguments[parts[0][1]]
        return "".join(text + _text_or_empty(name, arguments) for text, name in parts)
    if isinstance(template, Mapping):
        filled = {key: fill(value, arguments) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not MISSING}
    if isinstance(template, list | tuple):
        values = [fill(value, arguments) for value in template]
        return [value for value in values if value is not MISSING]
    return template


def only_placeholder(template: Any) -> str | None:
    """The name of the argument that a template consists of, if it is one placeholder."""
    if not isinstance(template, str):
        return None
    parts = _split(template, "")
    return parts[0][1] if len(parts) == 1 and not parts[0][0] else None


def fill_url(
    url: str, arguments: Mapping[str, Any], styles: Mapping[str, ParameterStyle] | None = None
) -> str:
    """Put arguments into a URL, each percent-encoded, so that none adds or removes a segment.

    Args:
        url: The template.
        arguments: By name; all that the template names.
        styles: How arguments are written, by their names.

    Raises:
        HTTPRequestError: An argument is missing or empty, or would climb out of its place in the
            path.
    """
    filled = []
    for text, name in _split(url, ""):
        filled.append(text)
        if name is None:
            continue
        value = arguments.get(name)
        if value is None:
            raise HTTPRequestError(f"$.{name}: missing; it is required")
        style = (styles or {}).get(name)
        wire_name = name if style is None or style.name is None else style.name
        written = write(wire_name, value, style)
        if not written:
            raise HTTPRequestError(f"$.{name}: must not be empty")
        # Encoded slashes are decoded by some servers before they resolve "..".
        if _climbs(text_of(value)) or _climbs(unquote(written)):
            raise HTTPRequestError(f'$.{name}: "." and ".." are not allowed as parts of it')
        filled.append(written)
    return "".join(filled)


def _climbs(text: str) -> bool:
    return "." in text and any(part in (".", "..") for part in re.split(r"[/\\]", text))


def _text_or_empty(name: str | None, arguments: Mapping[str, Any]) -> str:
    return "" if name is None else text_of(arguments[name])


@functools.lru_cache(maxsize=4096)
def _split(template: str, where: str) -> tuple[tuple[str, str | None], ...]:
    """Pieces of literal text, each with the name that follows it."""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SchemaError(f"{where}: {error}; write {{{{ and }}}} for literal braces") from None
    for _, name, spec, conversion in pieces:
        if name is not None and (spec or conversion or not _NAME.fullmatch(name)):
            raise SchemaError(
                f"{where}: {{{name}}} is not a plain name of a parameter; write {{{{ and }}}} for "
                "literal braces"
            )
    return tuple((text, name) for text, name, _, _ in pieces)
