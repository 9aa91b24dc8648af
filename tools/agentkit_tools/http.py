"""Tools that call an endpoint over HTTP."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentkit.errors import MissingExtraError, SchemaError, ToolError, UserError
from agentkit.tools import ToolContext, ToolDefinition
from agentkit.validation import check_schema
from agentkit_tools._explain import explain
from agentkit_tools._http_client import Sender
from agentkit_tools._http_pick import JMESPath, Shortener, parse_path, take
from agentkit_tools._http_pool import ClientPool
from agentkit_tools._http_request import BodyType, RequestTemplate
from agentkit_tools._http_response import decode, describe_failure, redact
from agentkit_tools._http_style import ParameterStyle, StyleName
from agentkit_tools._parameters import model_parameters
from agentkit_tools._secrets import in_use, watching
from agentkit_tools.auth import Auth
from agentkit_tools.host_limits import HostLimits
from agentkit_tools.http_errors import HTTPRequestError
from agentkit_tools.network import NetworkPolicy

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

__all__ = ["HTTPTool", "JMESPath", "ParameterStyle"]

_ACCEPT = "application/json, text/*;q=0.8, */*;q=0.1"


class HTTPTool:
    """An HTTP endpoint that the model may call.

    Each argument goes where a template names it: ``{city}`` in ``url``, ``query``, ``headers``,
    ``cookies`` or ``body``. What no template names goes into the query for GET, DELETE, HEAD and
    OPTIONS, and into the body otherwise, under its own name. So in most cases ``url`` is enough::

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
        cookies: Likewise, of cookies.
        body: Likewise, of a JSON object, also nested, or of the fields of a form; or one template
            for the whole body, as ``"{order}"``.
        body_type: ``json``, ``form`` (URL-encoded), ``multipart`` (text fields, no files) or
            ``text``, which sends a single template as it is.
        content_type: Media type of the body, if not the usual one of ``body_type``.
        styles: How arrays and objects are written, by the arguments' names: a
            :class:`ParameterStyle`, or the name of an OpenAPI style. Without one, an array is
            repeated in queries and forms (``tag=a&tag=b``) and has commas in paths and headers;
            an object is written as JSON.
        auth: Credentials, such as :class:`~agentkit_tools.auth.BearerAuth`.
        approval: Whether calls run: ``allow``, ``ask``, ``deny``, or a function of the call and
            its context that says so. ``None`` leaves it to the agent.
        response: What to give the model of a JSON response: a path (``"data.items[0]"``), a JSON
            Pointer (``"/data/items/0"``), a :class:`JMESPath` or a function, sync or async, of
            the parsed value. ``None`` for all of it.
        accept: Media types that the model may be given, such as ``["application/json"]`` or
            ``["text/*"]``; also sent to the service. ``None`` for JSON and text; what is neither
            is named with its size, and not shown.
        max_items: Items of an array, or entries of an object, that the model is shown; a note
            says how many there were. ``None`` for all.
        max_depth: Levels of arrays and objects that the model is shown; ``None`` for all.
        max_chars: Characters of each text that the model is shown; ``None`` for all.
        timeout: Seconds that a call may take, retries included; ``None`` for the agent's
            default.
        attempt_timeout: Seconds that one attempt may take.
        retries: How many attempts may follow a failed one.
        idempotency_header: For POST and PATCH: the header, such as ``Idempotency-Key``, in which
            the service takes a key that is the same for all attempts of a call. They are then
            retried, too.
        max_response_bytes: Size of the largest response that is accepted, decompressed.
        limits: How many requests the host is sent at once and in a time; share one object among
            the tools of a host.
        cache: Keep responses by HTTP's rules (``Cache-Control``, ``ETag`` ...): ``True`` for as
            long as the tool lives, or a folder. What a service does not declare to be fresh is
            asked for again. Needs the ``http`` extra.
        network: Where connections may go. By default to public addresses only, and to the host
            and port that ``url`` plainly names, if it is ``localhost`` or a private address. A
            name that leads to a private address must be allowed:
            ``NetworkPolicy(allow_hosts=["db.internal"])``.
        propagate_trace: Send the service the trace that the call belongs to, in the headers of
            OpenTelemetry's propagator (``traceparent``), so that its spans join ours. Needs the
            ``tracing`` extra. Off unless wanted: the ids are of no use to a stranger.
        client: An ``httpx.AsyncClient`` with settings of your own, such as certificates. It must
            belong to the loop that the agent runs in, and is yours to close. Make it with
            :meth:`NetworkPolicy.client`, unless you need a proxy: no policy guards any other.

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
        headers: Mapping[str, Any] | None = None,
        cookies: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | str | None = None,
        body_type: BodyType = "json",
        content_type: str | None = None,
        styles: Mapping[str, ParameterStyle | StyleName] | None = None,
        auth: Auth | None = None,
        approval: Literal["allow", "ask", "deny"] | Callable[..., Any] | None = None,
        response: str | JMESPath | Callable[[Any], Any] | None = None,
        accept: Sequence[str] | None = None,
        max_items: int | None = 100,
        max_depth: int | None = 12,
        max_chars: int | None = 20_000,
        timeout: float | None = 30.0,
        attempt_timeout: float = 10.0,
        retries: int = 2,
        idempotency_header: str | None = None,
        max_response_bytes: int = 1_000_000,
        limits: HostLimits | None = None,
        cache: bool | str | Path = False,
        network: NetworkPolicy | None = None,
        propagate_trace: bool = False,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        label = f"tool {name!r}"
        caps = {"max_items": max_items, "max_depth": max_depth, "max_chars": max_chars}
        _check_options(label, timeout, attempt_timeout, retries, max_response_bytes)
        _check_caps(label, caps, accept)
        cache = cache or False
        self._model = parameters if isinstance(parameters, type) else None
        self.definition = ToolDefinition(
            name=name,
            description=inspect.cleandoc(description),
            parameters=_read_parameters(parameters, label),
        )
        """What the model is told."""
        self.timeout = timeout
        """Seconds that a call may take; ``None`` for the agent's default."""
        self.approval = approval
        """Whether calls run; ``None`` leaves it to the agent."""
        check_schema(self.definition.parameters, tool_name=name)
        self._request = RequestTemplate(
            label=label,
            method=method.upper(),
            url=url,
            schema=self.definition.parameters,
            query=dict(query or {}),
            headers=dict(headers or {}),
            cookies=dict(cookies or {}),
            body=body,
            body_type=body_type,
            content_type=content_type,
            styles={
                argument: ParameterStyle(style) if isinstance(style, str) else style
                for argument, style in (styles or {}).items()
            },
            idempotency_header=idempotency_header,
            accept=_ACCEPT if accept is None else ", ".join(accept),
        )
        if auth is not None:
            if not isinstance(auth, Auth):
                raise UserError(f"{label}: auth must be a BearerAuth, APIKeyAuth or the like")
            auth.secrets()  # raises now rather than in the middle of a run
        self._inject = _trace_injector(label) if propagate_trace else None
        self._auth = auth
        self._accept = None if accept is None else tuple(accept)
        self._shortener = Shortener(**caps)
        self._path = parse_path(response, label=label) if isinstance(response, str) else None
        self._transform = response if callable(response) else None
        maker = self._client_maker(network, client, cache, max_response_bytes)
        self._pool = ClientPool(maker, client)
        self._sender = Sender(
            pool=self._pool,
            auth=None if cache else auth,  # With a cache, requests are signed beneath it.
            retries=retries,
            repeatable=self._request.repeatable,
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            max_bytes=max_response_bytes,
            limits=limits,
        )

    def __repr__(self) -> str:
        return f"HTTPTool({self.definition.name!r}, {self._request.method} {self._request.url!r})"

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Send the request and give back what the response holds.

        Args:
            arguments: Valid against ``definition.parameters``.
            context: Of this call; not used.

        Returns:
            Parsed JSON, or text if the service sends text.

        Raises:
            HTTPToolError: The arguments cannot be sent, the service cannot be reached, or its
                answer is not a success or not usable; see :mod:`agentkit_tools.http_errors`.
            UserError: A credential is no longer there.
        """
        values = self._complete(arguments)
        with watching(self.secrets()):
            try:
                result = redact(await self._fetch(values), in_use())
            except ToolError as error:
                error.args = (redact(str(error), in_use()),)
                # "from None": what lies beneath may hold the URL, and with it a key.
                raise error from None
        if self._path is not None:
            result = take(result, self._path)
        elif self._transform is not None:
            result = self._transform(result)
            result = await result if inspect.isawaitable(result) else result
        return self._shortener.shorten(result)

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never reach the model, as far as they are known before a call."""
        return () if self._auth is None else self._auth.secrets()

    async def aclose(self) -> None:
        """Close the connections of the running event loop.

        They are closed at the end of ``asyncio.run`` in any case; this is for programs whose
        loop goes on without the tool.
        """
        await self._pool.aclose()

    async def _fetch(self, values: Mapping[str, Any]) -> Any:
        key = self._request.new_key()

        def build(client: httpx.AsyncClient) -> httpx.Request:
            request = self._request.build(client, values, key=key)
            if self._inject is not None:
                self._inject(request.headers)
            return request

        reply = await self._sender.send(build)
        if not 200 <= reply.status < 300:
            raise describe_failure(reply)
        return decode(reply, accept=self._accept)

    def _client_maker(
        self,
        network: NetworkPolicy | None,
        client: httpx.AsyncClient | None,
        cache: bool | str | Path,
        max_bytes: int,
    ) -> Callable[[], httpx.AsyncClient]:
        """What makes a client for an event loop, under the network policy and with the cache."""
        label = self._request.label
        if client is not None and (network is not None or cache):
            raise UserError(
                f"{label}: network=... and cache=... do not affect a client of your own; make it "
                "with network.client(...) and give the client alone"
            )
        policy = (network or NetworkPolicy()).guarding(self._request.url, label=f"{label}: its url")
        if cache is False:
            return policy.client
        if self._request.method not in ("GET", "HEAD"):
            raise UserError(f"{label}: cache=... is for GET and HEAD, not {self._request.method}")
        from agentkit_tools._http_cache import ResponseCache

        responses = ResponseCache(
            None if cache is True else Path(cache),
            auth=self._auth,
            max_bytes=max_bytes,
            label=label,
        )
        return lambda: policy.client(wrap=responses.wrap)

    def _complete(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they go over the wire, with the schema's defaults."""
        values = dict(arguments)
        if self._model is not None:
            from pydantic import ValidationError

            try:
                model = self._model.model_validate(values)
            except ValidationError as error:
                raise HTTPRequestError(explain(error, arguments)) from error
            dumped = model.model_dump(mode="json", by_alias=True)
            return {k: v for k, v in dumped.items() if v is not None or k in values}
        for name, schema in self.definition.parameters["properties"].items():
            if isinstance(schema, Mapping) and schema.get("default") is not None:
                values.setdefault(name, schema["default"])
        return values


def _trace_injector(label: str) -> Callable[[Any], None]:
    """What writes the current trace into headers."""
    try:
        from opentelemetry.propagate import inject
    except ImportError as error:
        raise MissingExtraError(
            f"{label}: propagate_trace=True needs OpenTelemetry; install it with "
            "`pip install agentkit-granite[tracing]`"
        ) from error
    return inject


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


def _check_caps(label: str, caps: Mapping[str, int | None], accept: Any) -> None:
    for option, value in caps.items():
        if value is not None and value < 1:
            raise UserError(f"{label}: {option} must be 1 or more or None, not {value!r}")
    if isinstance(accept, str):
        raise UserError(f"{label}: accept must be a list of media types, as [{accept!r}]")


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
