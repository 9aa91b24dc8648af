"""How arrays and objects are written in a URL, a header, a cookie or a form: OpenAPI's styles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from agentkit.errors import SchemaError, UserError

__all__ = ["ParameterStyle", "StyleName", "encode", "encode_cookie", "pairs_of", "text_of", "write"]

StyleName = Literal[
    "form",
    "spaceDelimited",
    "pipeDelimited",
    "deepObject",
    "simple",
    "label",
    "matrix",
    "json",
]

_PLACES = {
    "url": ("simple", "label", "matrix", "json"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject", "json"),
    "body": ("form", "spaceDelimited", "pipeDelimited", "deepObject", "json"),
    "headers": ("simple", "json"),
    "cookies": ("form", "json"),
}
_STYLES = tuple(dict.fromkeys(style for styles in _PLACES.values() for style in styles))
_EXPLODED = ("form", "deepObject")
# Between the items of a list. An item's own commas and spaces are encoded, so both can be told.
_DELIMITERS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
# RFC 3986's reserved characters, but for those that would end a value, a query or a URL.
_RESERVED = ":/?[]@!$'()*,;"
# RFC 6265's cookie octets that quote() would encode, but for "%", which marks what is encoded.
_COOKIE_OCTETS = "!#$&'()*+-./:<=>?@[]^_`{|}~"

Encode = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ParameterStyle:
    """How one argument is written, in the words of OpenAPI's parameter objects."""

    style: StyleName
    """``form``, ``spaceDelimited``, ``pipeDelimited`` or ``deepObject`` in a query or a form;
    ``simple``, ``label`` or ``matrix`` in a path; ``simple`` in a header; ``form`` in a cookie.
    ``json`` anywhere writes the value as JSON (OpenAPI's ``content: application/json``)."""
    explode: bool | None = None
    """Whether each item gets a name or a delimiter of its own; ``None`` for the style's default
    (yes for ``form`` and ``deepObject``)."""
    allow_reserved: bool = False
    """In a query: send ``:/?[]@!$'()*,;`` as they are."""
    name: str | None = None
    """In a path with ``matrix``: the name on the wire; ``None`` for the argument's."""

    def __post_init__(self) -> None:
        if self.style not in _STYLES:
            raise UserError(f"ParameterStyle: {self.style!r} is not one of {', '.join(_STYLES)}")

    @property
    def exploded(self) -> bool:
        """``explode``, or the style's default."""
        return self.style in _EXPLODED if self.explode is None else self.explode

    def check(self, place: str, where: str) -> None:
        """Judge whether the style can be used in a place.

        Args:
            place: ``url``, ``query``, ``headers``, ``cookies`` or ``body``.
            where: How errors name it.

        Raises:
            SchemaError: It cannot.
        """
        if self.style not in _PLACES[place]:
            raise SchemaError(
                f"{where}: style {self.style!r} cannot be used in {place}; "
                f"use {' or '.join(_PLACES[place])}"
            )


def text_of(value: Any) -> str:
    """A value as it is written where only text can be: JSON, but for text itself."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def encode(text: str) -> str:
    """Percent-encode all but unreserved characters.

    Raises:
        UnicodeEncodeError: The text holds half a surrogate pair.
    """
    return quote(text, safe="")


def encode_cookie(text: str) -> str:
    """Percent-encode what a cookie's value cannot hold, and ``%`` itself."""
    return quote(text, safe=_COOKIE_OCTETS)


def _encode_some(text: str) -> str:
    return quote(text, safe=_RESERVED)


def pairs_of(
    name: str, value: Any, style: ParameterStyle | None, encode: Encode = encode
) -> list[tuple[str, str]]:
    """Write a value as name and value pairs for a query, a form or a cookie header.

    Args:
        name: On the wire.
        value: Anything JSON can hold. ``None`` and empty lists and objects give no pair.
        style: ``None`` writes a list as one pair for each item, and an object as JSON.
        encode: Of names and values.

    Returns:
        Encoded pairs.
    """
    if style is not None and style.allow_reserved:
        encode = _encode_some
    if value is None or (style is None and isinstance(value, list | tuple) and not value):
        return []
    if style is None:
        items = value if isinstance(value, list | tuple) else [value]
        return [(encode(name), encode(text_of(item))) for item in items if item is not None]
    if style.style == "json":
        return [(encode(name), encode(json.dumps(value, ensure_ascii=False)))]
    if style.style == "deepObject" and isinstance(value, Mapping | list | tuple):
        return [(encode(key), encode(text)) for key, text in _deep(name, value)]
    if not isinstance(value, Mapping | list | tuple):
        return [(encode(name), encode(text_of(value)))]
    keyed = _keyed(value)
    if not keyed:
        return []
    if style.exploded:
        return [
            (encode(name if key is None else key), encode(text_of(item))) for key, item in keyed
        ]
    delimiter = _DELIMITERS.get(style.style, ",")
    return [(encode(name), delimiter.join(encode(text) for text in _flat(keyed)))]


def write(name: str, value: Any, style: ParameterStyle | None, encode: Encode = encode) -> str:
    """Write a value as one piece of text for a path or a header.

    Args:
        name: The argument's, for ``matrix``.
        value: Anything JSON can hold.
        style: ``None`` writes a list with commas, and an object as JSON.
        encode: Of names and values.

    Returns:
        The encoded text; empty if the value is.
    """
    compound = isinstance(value, Mapping | list | tuple)
    kind = "simple" if style is None else style.style
    if kind == "json":
        return encode(json.dumps(value, ensure_ascii=False))
    if style is None and isinstance(value, Mapping):
        return encode(text_of(value)) if value else ""
    if not compound:
        text = encode(text_of(value))
        if not text:
            return ""
        prefix = {"label": ".", "matrix": f";{encode(name)}="}.get(kind, "")
        return prefix + text
    keyed = _keyed(value)
    if not keyed:
        return ""
    if style is None or not style.exploded:
        joined = ",".join(encode(text) for text in _flat(keyed))
        return {"label": ".", "matrix": f";{encode(name)}="}.get(kind, "") + joined
    named = name if kind == "matrix" else None
    parts = [_named(named if key is None else key, item, encode) for key, item in keyed]
    first, between = {"label": (".", "."), "matrix": (";", ";")}.get(kind, ("", ","))
    return first + between.join(parts)


def _named(key: str | None, item: Any, encode: Encode) -> str:
    text = encode(text_of(item))
    return text if key is None else f"{encode(key)}={text}"


def _keyed(value: Any) -> list[tuple[str | None, Any]]:
    """Items with their keys, which those of a list have not; null items are left out."""
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items() if item is not None]
    return [(None, item) for item in value if item is not None]


def _flat(keyed: list[tuple[str | None, Any]]) -> list[str]:
    return [text_of(part) for pair in keyed for part in pair if part is not None]


def _deep(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """``a[b]=1`` and, beyond what OpenAPI defines, ``a[b][c]=1``; lists repeat their name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _deep(f"{name}[{key}]", item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _deep(name, item)
    elif value is not None:
        yield name, text_of(value)
