"""Tools that call a JSON endpoint over HTTP."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agentkit.errors import SchemaError, ToolError, UserError
from agentkit.tools import ToolContext, ToolDefinition
from agentkit.validation import check_schema
from agentkit_tools._explain import explain
from agentkit_tools._http_client import ClientPool, Sender
from agentkit_tools._http_response import (
    decode,
    describe_failure,
    parse_key_path,
    redact,
    take,
)
from agentkit_tools._http_template import (
    MISSING,
    check_url,
    fill,
    fill_url,
    placeholders,
    text_of,
)
from agentkit_tools._parameters import model_parameters
from agentkit_tools.auth import Auth

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

__all__ = ["HTTPTool"]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_BODILESS = ("GET", "DELETE", "HEAD", "OPTIONS")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class HTTPTool:
    """An HTTP endpoint that the model may call.

    Each argument goes where a template names it: ``{city}`` in ``url``, ``query``, ``headers``
    or ``body``. What no template names goes into the query for GET, DELETE, HEAD and OPTIONS,
    and into the JSON body otherwise, under its own name. So in most cases ``url`` is enough::

        HTTPTool(
            name="get_weather",
            description="Forecast the weather of a city.",
            url="https://api.example.org/v1/cities/{city}/weather",
            parameters={
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
            query={"units": "metric"},
            auth=BearerAuth(env="WEATHER_TOKEN"),
        )

    calls ``/v1/cities/Oslo/weather?units=metric&days=3``. Failed requests of idempotent
    methods (GET, PUT, DELETE, HEAD, OPTIONS) are sent again, after the time that ``Retry-After``
    names or else a growing pause. Redirects are followed on the same host only.

    Args:
        name: The tool's name, as the model sees it.
        description: What it does and when to use it.
        url: Template of an absolute URL. Arguments are percent-encoded; the host is fixed.
        method: GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.
        parameters: JSON Schema of the arguments, closed to unknown ones unless it says
            otherwise, or a pydantic model, which then also validates and serialises them. A
            ``default`` in the schema is sent where the argument is missing.
        query: Values by the names that the service knows. ``"{units}"`` is the argument
            ``units``, left out if not given; other values are sent as they are.
        headers: Likewise, of headers.
        body: Likewise, of a JSON object, also nested; or one template for the whole body, as
            ``"{order}"``.
        auth: Credentials, such as :class:`~agentkit_tools.auth.BearerAuth`.
        response: What to give the model of a JSON response: a path (``"data.items[0]"``) or a
            function, sync or async, of the parsed value. ``None`` for all of it.
        timeout: Seconds that a call may take, retries included; ``None`` for the agent's
            default.
        attempt_timeout: Seconds that one attempt may take.
        retries: How many attempts may follow a failed one.
        max_response_bytes: Size of the largest response that is accepted, decompressed.
        client: An ``httpx.AsyncClient`` with settings of your own (proxies, certificates). It
            must belong to the loop that the agent runs in, and is yours to close.

    Raises:
        SchemaError: The schema, the URL or a template cannot be used; the message says why.
        UserError: A credential is missing or an option is out of range.
    """

    def __init__(
        self,
        *,
        name: str,
        description: str = "",
        url: str,
        method: str = "GET",
        parameters: Mapping[str, Any] | type[BaseModel] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | str | None = None,
        auth: Auth | None = None,
        response: str | Callable[[Any], Any] | None = None,
        timeout: float | None = 30.0,
        attempt_timeout: float = 10.0,
        retries: int = 2,
        max_response_bytes: int = 1_000_000,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        label = f"tool {name!r}"
        _check_options(label, timeout, attempt_timeout, retries, max_response_bytes)
        self._method, self._url, self._auth = method.upper(), url, auth
        self._query, self._headers, self._body = dict(query or {}), dict(headers or {}), body
        self._model = parameters if isinstance(parameters, type) else None
        self.definition = ToolDefinition(
            name=name,
            description=inspect.cleandoc(description),
            parameters=_read_parameters(parameters, label),
        )
        """What the model is told."""
        self.timeout = timeout
        """Seconds that a call may take; ``None`` for the agent's default."""
        check_schema(self.definition.parameters, tool_name=name)
        self._placed = self._check_templates(label)
        if auth is not None:
            if not isinstance(auth, Auth):
                raise UserError(f"{label}: auth must be a BearerAuth, APIKeyAuth or the like")
            auth.secrets()  # raises now rather than in the middle of a run
        self._take = parse_key_path(response, label=label) if isinstance(response, str) else None
        self._transform = response if callable(response) else None
        self._pool = ClientPool(client)
        self._sender = Sender(
            pool=self._pool,
            auth=auth,
            retries=retries,
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            max_bytes=max_response_bytes,
        )

    def __repr__(self) -> str:
        return f"HTTPTool({self.definition.name!r}, {self._method} {self._url!r})"

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Send the request and give back what the response holds.

        Args:
            arguments: Valid against ``definition.parameters``.
            context: Of this call; not used.

        Returns:
            Parsed JSON, or text if the service sends text.

        Raises:
            ToolError: The arguments cannot be sent, the service cannot be reached, or its
                answer is not a success or not usable.
            UserError: A credential is no longer there.
        """
        secrets = () if self._auth is None else self._auth.secrets()
        values = self._complete(arguments)
        try:
            reply = await self._sender.send(lambda client: self._build(client, values))
            if not 200 <= reply.status < 300:
                raise ToolError(describe_failure(reply))
            result = redact(decode(reply), secrets)
        except ToolError as error:
            # "from None": what lies beneath may hold the URL, and with it a key.
            raise ToolError(redact(str(error), secrets)) from None
        if self._take is not None:
            return take(result, self._take)
        if self._transform is not None:
            result = self._transform(result)
            return await result if inspect.isawaitable(result) else result
        return result

    async def aclose(self) -> None:
        """Close the connections of the running event loop.

        They are closed at the end of ``asyncio.run`` in any case; this is for programs whose
        loop goes on without the tool.
        """
        await self._pool.aclose()

    def _check_templates(self, label: str) -> frozenset[str]:
        """Check all templates; returns the names of the parameters in them."""
        schema = self.definition.parameters
        if self._method not in _METHODS:
            raise SchemaError(f"{label}: method {self._method!r} is not one of {_METHODS}")
        if self._body is not None and self._method in ("GET", "HEAD"):
            raise SchemaError(f"{label}: a {self._method} request has no body; use query=...")
        in_url = check_url(self._url, label=label)
        _check_known(in_url, schema, f"{label}: url")
        for name in sorted(in_url):
            has_default = schema["properties"][name].get("default") is not None
            if name not in schema.get("required", ()) and not has_default:
                raise SchemaError(
                    f"{label}: parameter {name!r} is part of the url, so it must be required "
                    "or have a default"
                )
        placed = set(in_url)
        for option in ("query", "headers", "body"):
            names = placeholders(getattr(self, f"_{option}"), where=f"{label}: {option}")
            _check_known(names, schema, f"{label}: {option}")
            placed |= names
        for header in self._headers:
            if not _HEADER_NAME.fullmatch(header):
                raise SchemaError(f"{label}: {header!r} is not a header's name")
        self._check_collisions(placed, label)
        return frozenset(placed)

    def _check_collisions(self, placed: set[str], label: str) -> None:
        unplaced = [name for name in self.definition.parameters["properties"] if name not in placed]
        to_query = self._method in _BODILESS
        if unplaced and not to_query and isinstance(self._body, str):
            raise SchemaError(
                f"{label}: parameter {unplaced[0]!r} goes nowhere, as the body is one value; "
                "name it in url, query or headers"
            )
        option, target = ("query", self._query) if to_query else ("body", self._body or {})
        for name in unplaced:
            if name in target:
                raise SchemaError(
                    f"{label}: parameter {name!r} and the fixed {option} entry of that name "
                    f"collide; write {option}={{{name!r}: '{{{name}}}'}} or rename one"
                )

    def _complete(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they go over the wire, with the schema's defaults."""
        values = dict(arguments)
        if self._model is not None:
            from pydantic import ValidationError

            try:
                model = self._model.model_validate(values)
            except ValidationError as error:
                raise ToolError(explain(error, arguments)) from error
            dumped = model.model_dump(mode="json", by_alias=True)
            return {k: v for k, v in dumped.items() if v is not None or k in values}
        for name, schema in self.definition.parameters["properties"].items():
            if isinstance(schema, Mapping) and schema.get("default") is not None:
                values.setdefault(name, schema["default"])
        return values

    def _build(self, client: httpx.AsyncClient, values: Mapping[str, Any]) -> httpx.Request:
        import httpx

        free = {name: value for name, value in values.items() if name not in self._placed}
        query = fill(self._query, values)
        body = None if self._body is None else fill(self._body, values)
        if self._method in _BODILESS:
            query |= free
        elif free:
            body = {**(body or {}), **free}
        try:
            return client.build_request(
                self._method,
                httpx.URL(fill_url(self._url, values)).copy_merge_params(_pairs(query)),
                headers={"Accept": "application/json", **_header_values(self._headers, values)},
                json=None if body is MISSING else body,
                timeout=None,  # the sender limits whole attempts instead
            )
        except (ValueError, httpx.InvalidURL) as error:
            # ValueError: half a surrogate pair, or NaN, which no encoding can express.
            raise ToolError(f"the arguments cannot be sent: {error}") from None


def _check_options(
    label: str, timeout: float | None, attempt_timeout: float, retries: int, max_bytes: int
) -> None:
    if timeout is not None and not timeout > 0:
        raise UserError(f"{label}: timeout must be more than 0 s or None, not {timeout!r}")
    if not attempt_timeout > 0:
        raise UserError(f"{label}: attempt_timeout must be more than 0 s, not {attempt_timeout!r}")
    if retries < 0:
        raise UserError(f"{label}: retries must be 0 or more, not {retries!r}")
    if max_bytes < 1:
        raise UserError(f"{label}: max_response_bytes must be 1 or more, not {max_bytes!r}")


def _read_parameters(
    parameters: Mapping[str, Any] | type[BaseModel] | None, label: str
) -> dict[str, Any]:
    if parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if isinstance(parameters, type):
        if not hasattr(parameters, "model_json_schema"):
            raise SchemaError(f"{label}: {parameters.__name__} is not a pydantic model")
        return {"properties": {}, **model_parameters(parameters)}
    if "properties" not in parameters and parameters.keys() - {"type", "additionalProperties"}:
        raise SchemaError(
            f"{label}: parameters must be a JSON Schema that lists the parameters under "
            f'"properties", not {list(parameters)}'
        )
    defaults = {"type": "object", "properties": {}, "additionalProperties": False}
    return {**defaults, **parameters}


def _check_known(names: Iterable[str], schema: Mapping[str, Any], where: str) -> None:
    known = list(schema["properties"])
    for name in sorted(names):
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {{{similar[0]}}}? " if similar else ""
            raise SchemaError(
                f"{where} names {{{name}}}, which is no parameter; {hint}"
                f"the parameters are: {', '.join(known) or 'none'}"
            )


def _pairs(query: Mapping[str, Any]) -> list[tuple[str, str | int | float | bool | None]]:
    """The query, with a list as one pair for each of its items and null left out."""
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for key, value in query.items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(key, text_of(item)) for item in values if item is not None]
    return pairs


def _header_values(headers: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    filled = {}
    for key, value in fill(headers, values).items():
        if value is None:
            continue
        text = text_of(value).strip()
        # Line breaks would smuggle in headers of the model's own.
        if not (text.isascii() and (text.isprintable() or not text)):
            raise ToolError(f"the value of header {key!r} must be printable ASCII text")
        filled[key] = text
    return filled
