"""A model behind a server that speaks OpenAI's protocol."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from agentkit.errors import ModelConnectionError, ModelError, UserError
from agentkit.models.base import ModelEvent, ModelRequest
from agentkit.remote.connection import Connection, Passing, make_clients
from agentkit.remote.reading import TurnReader
from agentkit.remote.request import CallMode, RequestWriter

__all__ = ["KEY_VARIABLE", "OpenAIModel"]

KEY_VARIABLE = "AGENTKIT_MODEL_API_KEY"
"""Environment variable that holds the API key of a model's server."""

_OPENAI_HOST = "api.openai.com"
_OPENAI_VARIABLE = "OPENAI_API_KEY"


class OpenAIModel:
    """A model that another process runs: vLLM, TGI, SGLang, llama.cpp, ``agentkit serve`` ...

    Connections that fail, time-outs and the statuses 408, 409, 425, 429 and 5xx are tried again,
    after the time in ``Retry-After`` if there is one; never once a piece of the answer has been
    given out. What comes back is parsed, validated and mended as of any model.

    ``calls`` says how the model is shown tools, and how its calls are held to their schemas:

    - ``tools``: in the fields that OpenAI has for them, ``strict`` where a schema allows that.
    - ``structural_tag``: in the text, as Granite's format has them; the server lets text be free
      and holds each ``<tool_call>`` block to its grammar (vLLM, SGLang). This works without a
      tool parser of the server's.
    - ``json_schema``: in the text; a turn that must call something is held to a schema by
      ``response_format`` (llama.cpp, TGI and others). A turn that may call is not constrained.
    - ``structured_outputs``, ``guided_json``: the same by fields of vLLM's, since 0.12 and before.

    Args:
        base_url: Up to and without ``/chat/completions``, such as ``http://localhost:8000/v1``;
            ``http://localhost:8000/v1#model`` names the model as well.
        model: The model's name, as the server knows it; the server's only one, if not given.
        api_key: Sent as a bearer token; what ``AGENTKIT_MODEL_API_KEY`` holds, if not given
            (for api.openai.com: ``OPENAI_API_KEY``).
        calls: See above.
        documents: Show documents in the ``system`` text, or send them in a ``field`` of that name
            (``agentkit serve``, and templates of vLLM's that know documents).
        extra_body: Further fields of each request; they win over ours.
        headers: Sent with each request.
        timeout: Seconds that the server may be silent, and that an answer may take which is not
            streamed.
        connect_timeout: Seconds for connecting.
        attempts: How often a request is tried.
        max_wait: The longest ``Retry-After`` that is waited for, in seconds.
        max_tokens_field: What the server calls the limit of tokens; for OpenAI's newer models
            ``max_completion_tokens``.
        stream_usage: Ask for the usage at the end of the stream; for servers that refuse that.
        client: To be used for all requests, in its own event loop; not closed.

    Raises:
        UserError: ``base_url`` is no web address, holds a password, or a number is too small.

    Example:
        >>> model = OpenAIModel("http://localhost:8000/v1", "ibm-granite/granite-4.0-1b")
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        calls: CallMode = "tools",
        documents: Literal["system", "field"] = "system",
        extra_body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 300.0,
        connect_timeout: float = 10.0,
        attempts: int = 4,
        max_wait: float = 60.0,
        max_tokens_field: str = "max_tokens",
        stream_usage: bool = True,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        base_url, fragment = _address(base_url)
        if attempts < 1 or timeout <= 0 or connect_timeout <= 0 or max_wait < 0:
            raise UserError(
                f"attempts={attempts}, timeout={timeout}, connect_timeout={connect_timeout}, "
                f"max_wait={max_wait}: attempts must be at least 1, times above 0"
            )
        self._model = model or fragment or None
        self._writer = RequestWriter(
            calls=calls,
            documents=documents,
            max_tokens_field=max_tokens_field,
            stream_usage=stream_usage,
            extra_body=dict(extra_body or {}),
        )
        is_openai = urlsplit(base_url).hostname == _OPENAI_HOST
        # A key of OpenAI's is for OpenAI, and not for whatever server somebody names.
        variable = _OPENAI_VARIABLE if is_openai else KEY_VARIABLE
        self._clients = make_clients(timeout, connect_timeout, client)
        self._connection = Connection(
            base_url=base_url,
            api_key=_key(api_key, variable),
            key_variable=variable,
            headers=dict(headers or {}),
            timeout=timeout,
            attempts=attempts,
            max_wait=max_wait,
            clients=self._clients,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.base_url!r}, {self._model!r})"

    @property
    def name(self) -> str:
        """The model's name; the address, while it is not known."""
        return self._model or self._connection.base_url

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Write one turn; see :meth:`agentkit.models.base.Model.stream`.

        Raises:
            ModelConnectionError: The server cannot be reached, or hung up.
            ModelAccessError: It refuses the API key.
            ModelNotFoundError: The address is wrong, or the server has no such model.
            ContextLengthError: The prompt is too long.
            ModelServerError: The server failed in another way.
            UserError: The request asks for what a server cannot do.
        """
        model = self._model or await self._find_model()
        body = self._writer.body(request, model=model)

        async def begin() -> _Turn:
            turn = _Turn(
                chunks=await self._connection.post(body, model=model),
                reader=TurnReader(
                    with_tools=bool(request.tools),
                    whole_turn_is_calls=self._writer.whole_turn_is_calls(request),
                ),
            )
            await turn.begin()
            return turn

        turn = await self._connection.with_retries(begin)
        async with aclosing(turn.events()) as events:
            try:
                async for event in events:
                    yield event
            except ModelError as error:
                raise self._connection.clean(error) from error.__cause__

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._clients.aclose()

    def close(self) -> None:
        """Forget connections, for programs without an event loop."""
        self._clients.forget_closed()

    async def _find_model(self) -> str:
        """The server's only model."""
        names: list[str] = await self._connection.with_retries(self._connection.models)
        if len(names) != 1:
            url = self._connection.base_url
            raise UserError(
                f"{url} has {len(names)} models ({', '.join(names[:20]) or 'none'}); name one: "
                f"{url}#{names[0] if names else 'model'}"
            )
        self._model = names[0]
        return names[0]


class _Turn:
    """A turn that a server is writing."""

    def __init__(self, chunks: AsyncGenerator[Mapping[str, Any], None], reader: TurnReader) -> None:
        self._chunks = chunks
        self._reader = reader
        self._first: list[ModelEvent] = []

    async def begin(self) -> None:
        """Read up to the first event.

        Raises:
            Passing: The connection failed; nothing has been given out, so it may be tried again.
        """
        try:
            async for chunk in self._chunks:
                self._first += self._reader.read(chunk)
                if self._first:
                    return
            self._check_whole()
        except ModelConnectionError as error:
            await self._chunks.aclose()
            raise Passing(error) from error
        except BaseException:
            await self._chunks.aclose()
            raise

    async def events(self) -> AsyncGenerator[ModelEvent, None]:
        """All events, the first ones included."""
        try:
            for event in self._first:
                yield event
            async for chunk in self._chunks:
                for event in self._reader.read(chunk):
                    yield event
            self._check_whole()
            for event in self._reader.end():
                yield event
        finally:
            await self._chunks.aclose()

    def _check_whole(self) -> None:
        if not self._reader.is_finished:
            raise ModelConnectionError(
                f"the server ended its answer without saying why, after {self._reader.written} "
                "characters"
            )


def _address(url: str) -> tuple[str, str]:
    """A base URL without its end, and the model that it names."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(
            f"base_url must be a web address such as http://localhost:8000/v1, not {url!r:.200}"
        )
    if parts.username or parts.password:
        raise UserError(
            f"base_url for {host} holds a user or password; pass api_key, or headers, instead"
        )
    if parts.query:
        raise UserError(f"base_url for {host} must not have a query: {parts.query!r:.100}")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path}", parts.fragment


def _key(given: str | None, variable: str) -> str | None:
    key = (given if given is not None else os.environ.get(variable, "")).strip()
    if not key.isascii() or any(char.isspace() for char in key):
        # Says nothing of what the key is.
        raise UserError(
            f"the API key ({'api_key' if given is not None else variable}) has characters that "
            "no header can hold: white space or other than ASCII"
        )
    return key or None
