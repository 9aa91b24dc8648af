"""From a tool's arguments to an HTTP request."""

from __future__ import annotations

import difflib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote_plus

from agentkit.errors import SchemaError, UserError
from agentkit_tools._http_body import ACCEPT_ENCODING
from agentkit_tools._http_style import ParameterStyle, encode_cookie, pairs_of, text_of, write
from agentkit_tools._http_template import (
    MISSING,
    check_url,
    fill,
    fill_url,
    only_placeholder,
    placeholders,
)
from agentkit_tools.http_errors import HTTPRequestError

if TYPE_CHECKING:
    import httpx

__all__ = ["BodyType", "RequestTemplate", "set_query_pairs"]

BodyType = Literal["json", "form", "multipart", "text"]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_BODILESS = ("GET", "DELETE", "HEAD", "OPTIONS")
_BODY_TYPES: dict[str, str | None] = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "multipart": None,  # made by httpx, with the boundary that it chose
    "text": "text/plain; charset=utf-8",
}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# With these, arguments could smuggle in a second request, or address another service.
_FRAMING = frozenset(
    {"connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)
_OPTIONS = ("query", "headers", "cookies", "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTemplate:
    """Where each argument goes. See :class:`~agentkit_tools.http.HTTPTool` for the fields."""

    label: str
    """How errors name the tool."""
    method: str
    """In upper case."""
    url: str
    """Template of the URL."""
    schema: Mapping[str, Any]
    """JSON Schema of the arguments."""
    query: Mapping[str, Any]
    """Templates by names on the wire; likewise the following."""
    headers: Mapping[str, Any]
    """Of headers."""
    cookies: Mapping[str, Any]
    """Of cookies."""
    body: Mapping[str, Any] | str | None
    """Of the body's fields, or of the body."""
    body_type: BodyType
    """How the body is encoded."""
    content_type: str | None
    """Instead of the media type that goes with the encoding."""
    styles: Mapping[str, ParameterStyle]
    """By names of arguments."""
    idempotency_header: str | None
    """Header that holds a key which is the same for all attempts of a call."""
    accept: str
    """The ``Accept`` header."""
    placed: frozenset[str] = field(init=False)
    """Names of the arguments that a template names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "placed", frozenset(self._check()))

    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent again without doing a thing twice."""
        return self.method not in ("POST", "PATCH") or self.idempotency_header is not None

    def build(
        self, client: httpx.AsyncClient, values: Mapping[str, Any], *, key: str | None = None
    ) -> httpx.Request:
        """Make the request.

        Args:
            client: That will send it.
            values: The arguments, with defaults.
            key: For ``idempotency_header``; see :meth:`new_key`.

        Raises:
            HTTPRequestError: An argument cannot be sent; the message says which, and why.
        """
        import httpx

        free = {name: value for name, value in values.items() if name not in self.placed}
        query = _entries(self.query, values)
        if self.method in _BODILESS:
            query |= {name: (value, name) for name, value in free.items()}
            free = {}
        try:
            base, _, fixed = fill_url(self.url, values, self.styles).partition("?")
            pairs = [pair for item in query.items() for pair in self._pairs(*item)]
            merged = _merge_query(fixed, pairs)
            url = httpx.URL(f"{base}?{merged}" if merged else base)
            headers = self._headers(values, key)
            media_type, body = self._body(values, free)
            if media_type is not None:
                headers.setdefault("Content-Type", media_type)
            # No timeout: the sender limits whole attempts instead.
            return client.build_request(self.method, url, headers=headers, timeout=None, **body)
        except (ValueError, httpx.InvalidURL) as error:
            # ValueError: half a surrogate pair, or NaN, which no encoding can express.
            raise HTTPRequestError(f"the arguments cannot be sent: {error}") from None

    def new_key(self) -> str | None:
        """A key for one call and all its attempts, if the service takes one."""
        return None if self.idempotency_header is None else str(uuid.uuid4())

    def _pairs(self, name: str, entry: tuple[Any, str | None]) -> list[tuple[str, str]]:
        value, argument = entry
        return pairs_of(name, value, self.styles.get(argument or ""))

    def _headers(self, values: Mapping[str, Any], key: str | None) -> httpx.Headers:
        import httpx

        headers = httpx.Headers({"Accept": self.accept, "Accept-Encoding": ACCEPT_ENCODING})
        for name, (value, argument) in _entries(self.headers, values).items():
            if value is None or name.lower() == "accept-encoding":
                continue
            text = write(name, value, self.styles.get(argument or ""), str).strip()
            # Line breaks would smuggle in headers of the model's own.
            if not (text.isascii() and (text.isprintable() or not text)):
                raise HTTPRequestError(f"the value of header {name!r} must be printable ASCII text")
            headers[name] = text
        cookies = [
            f"{wire_name}={text}"
            for name, (value, argument) in _entries(self.cookies, values).items()
            for wire_name, text in pairs_of(
                name, value, self.styles.get(argument or ""), encode_cookie
            )
        ]
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        if key is not None and self.idempotency_header is not None:
            headers.setdefault(self.idempotency_header, key)
        return headers

    def _body(
        self, values: Mapping[str, Any], free: Mapping[str, Any]
    ) -> tuple[str | None, dict[str, Any]]:
        """The body's media type, and what httpx is to be told of it."""
        fields: dict[str, tuple[Any, str | None]]
        if isinstance(self.body, str):
            whole = fill(self.body, values)
            if whole is MISSING:
                return None, {}
            entries = whole.items() if isinstance(whole, Mapping) else ()
            fields = {name: (value, None) for name, value in entries}
        elif self.body is None and not free:
            return None, {}
        else:
            fields = _entries(self.body or {}, values)
            fields |= {name: (value, name) for name, value in free.items()}
            whole = {name: value for name, (value, _) in fields.items()}
        media_type = self.content_type or _BODY_TYPES[self.body_type]
        if self.body_type == "multipart":
            return None, {"files": _parts(fields)}
        if self.body_type == "json":
            return media_type, {"content": _json(whole)}
        if self.body_type == "text":
            return media_type, {"content": text_of(whole).encode()}
        pairs = [pair for item in fields.items() for pair in self._pairs(*item)]
        return media_type, {"content": "&".join(map("=".join, pairs)).encode("ascii")}

    # --- at construction ----------------------------------------------------------------------

    def _check(self) -> set[str]:
        """Check all templates; returns the names of the parameters in them."""
        if self.method not in _METHODS:
            raise SchemaError(f"{self.label}: method {self.method!r} is not one of {_METHODS}")
        if self.body is not None and self.method in ("GET", "HEAD"):
            raise SchemaError(f"{self.label}: a {self.method} request has no body; use query=...")
        in_url = check_url(self.url, label=self.label)
        self._check_known(in_url, "url")
        for name in sorted(in_url):
            has_default = self.schema["properties"][name].get("default") is not None
            if name not in self.schema.get("required", ()) and not has_default:
                raise SchemaError(
                    f"{self.label}: parameter {name!r} is part of the url, so it must be required "
                    "or have a default"
                )
        placed = set(in_url)
        for option in _OPTIONS:
            names = placeholders(getattr(self, option), where=f"{self.label}: {option}")
            self._check_known(names, option)
            placed |= names
        for kind, entries in (("header", self.headers), ("cookie", self.cookies)):
            for name in entries:
                if not _TOKEN.fullmatch(name):
                    raise SchemaError(f"{self.label}: {name!r} is not a {kind}'s name")
        for name in self.headers:
            if name.lower() in _FRAMING or (name.lower() == "cookie" and self.cookies):
                raise SchemaError(
                    f"{self.label}: the header {name!r} is written by the HTTP client; leave it out"
                )
        self._check_body()
        self._check_collisions(placed)
        self._check_styles(in_url, placed)
        return placed

    def _check_body(self) -> None:
        if self.body_type not in _BODY_TYPES:
            raise SchemaError(
                f"{self.label}: body_type={self.body_type!r} is not one of {', '.join(_BODY_TYPES)}"
            )
        if self.body_type == "text" and not (self.body is None or isinstance(self.body, str)):
            raise SchemaError(
                f"{self.label}: a text body is one template, such as body='{{text}}', and no object"
            )
        one_value = isinstance(self.body, str) and only_placeholder(self.body) is None
        if self.body_type in ("form", "multipart") and one_value:
            raise SchemaError(
                f"{self.label}: a {self.body_type} body has fields; give body as an object"
            )
        if self.content_type is not None and self.body_type == "multipart":
            raise SchemaError(
                f"{self.label}: the content type of a multipart body cannot be chosen"
            )
        for value in (self.content_type, self.idempotency_header):
            if value is not None and not (value and value.isascii() and value.isprintable()):
                raise UserError(f"{self.label}: {value!r} cannot be sent in a header")

    def _check_known(self, names: Iterable[str], option: str) -> None:
        known = list(self.schema["properties"])
        for name in sorted(names):
            if name not in known:
                similar = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {{{similar[0]}}}? " if similar else ""
                raise SchemaError(
                    f"{self.label}: {option} names {{{name}}}, which is no parameter; {hint}"
                    f"the parameters are: {', '.join(known) or 'none'}"
                )

    def _check_collisions(self, placed: set[str]) -> None:
        unplaced = [name for name in self.schema["properties"] if name not in placed]
        to_query = self.method in _BODILESS
        if unplaced and not to_query and (isinstance(self.body, str) or self.body_type == "text"):
            raise SchemaError(
                f"{self.label}: parameter {unplaced[0]!r} goes nowhere, as the body is one value; "
                "name it in url, query, headers, cookies or body"
            )
        option, target = ("query", self.query) if to_query else ("body", self.body or {})
        for name in unplaced:
            if name in target:
                raise SchemaError(
                    f"{self.label}: parameter {name!r} and the fixed {option} entry of that name "
                    f"collide; write {option}={{{name!r}: '{{{name}}}'}} or rename one"
                )

    def _check_styles(self, in_url: set[str], placed: set[str]) -> None:
        for name, style in self.styles.items():
            where = f"{self.label}: styles[{name!r}]"
            if not isinstance(style, ParameterStyle):
                raise UserError(f"{where} must be a ParameterStyle or the name of a style")
            if name not in self.schema["properties"]:
                self._check_known([name], "styles")
            alone = {
                option: {only_placeholder(part) for part in _parts_of(getattr(self, option))}
                for option in _OPTIONS
            }
            if name not in placed:
                alone["query" if self.method in _BODILESS else "body"].add(name)
            places = [option for option in _OPTIONS if name in alone[option]]
            if name in in_url:
                places.append("url")
            if not places:
                raise SchemaError(f"{where} has no effect: '{{{name}}}' stands nowhere alone")
            for place in places:
                if place == "body" and self.body_type != "form":
                    raise SchemaError(f"{where}: a body has styles only with body_type='form'")
                style.check(place, where)


def set_query_pairs(url: httpx.URL, pairs: list[tuple[str, str]]) -> httpx.URL:
    """A URL with pairs in its query, in place of pairs of the same names.

    httpx would decode and encode the query anew, and so encode the delimiters of lists.

    Args:
        url: Whatever its query.
        pairs: Encoded names and values.
    """
    return url.copy_with(query=_merge_query(url.query.decode("ascii"), pairs).encode("ascii"))


def _merge_query(query: str, pairs: list[tuple[str, str]]) -> str:
    if not query:
        return "&".join(map("=".join, pairs))
    names = {unquote_plus(name) for name, _ in pairs}
    kept = [
        part
        for part in query.split("&")
        if part and unquote_plus(part.partition("=")[0]) not in names
    ]
    return "&".join([*kept, *map("=".join, pairs)])


def _entries(
    templates: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, tuple[Any, str | None]]:
    """Filled values by names on the wire, each with the argument that it consists of, if any."""
    filled = {name: fill(template, values) for name, template in templates.items()}
    return {
        name: (value, only_placeholder(templates[name]))
        for name, value in filled.items()
        if value is not MISSING
    }


def _parts_of(templates: Any) -> list[Any]:
    return list(templates.values()) if isinstance(templates, Mapping) else []


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _parts(
    fields: Mapping[str, tuple[Any, str | None]],
) -> list[tuple[str, tuple[None, bytes, str]]]:
    """The parts of a multipart body: text, or JSON for objects; a list gives several."""
    parts: list[tuple[str, tuple[None, bytes, str]]] = []
    for name, (value, _) in fields.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Mapping | list | tuple):
                parts.append((name, (None, _json(item), "application/json")))
            elif item is not None:
                parts.append((name, (None, text_of(item).encode(), "text/plain; charset=utf-8")))
    return parts
