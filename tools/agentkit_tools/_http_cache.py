"""Caching of responses by HTTP's own rules (RFC 9111), with hishel."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from agentkit.errors import MissingExtraError, UserError
from agentkit_tools._http_client import send_signed

if TYPE_CHECKING:
    from agentkit_tools.auth import Auth

__all__ = ["ResponseCache"]

_FILE = "responses.db"
# Kept, they would outlive the service's trouble, and retries would never reach the service.
_PASSING = (408, 429, *range(500, 600))


class ResponseCache:
    """Where a tool's responses are kept.

    Requests are signed beneath the cache, so that no credential is ever written to it; and
    responses to different credentials and cookies are kept apart.

    Args:
        folder: To keep them in, also for other processes; ``None`` for a temporary one of the
            tool's own.
        auth: The tool's credentials.
        max_bytes: Size of the largest body that is kept.
        label: How errors name the tool.

    Raises:
        UserError: Nobody can tell whose responses they would be.
        MissingExtraError: The ``http`` extra is not installed.
    """

    def __init__(
        self, folder: Path | None, *, auth: Auth | None, max_bytes: int, label: str
    ) -> None:
        try:
            import anysqlite  # noqa: F401
            import hishel  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                f"{label}: cache=... needs hishel; install it with "
                "`pip install agentkit-granite[http]`"
            ) from error
        identity = () if auth is None else auth.secrets()
        if auth is not None and not identity:
            raise UserError(
                f"{label}: cache=... cannot be combined with credentials from a function, which "
                "may be another user's at each call; read them from the environment"
            )
        self._identity = hashlib.sha256("\0".join(identity).encode()).hexdigest()
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="agentkit-http-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._folder, self._auth, self._max_bytes = folder, auth, max_bytes

    def wrap(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """A transport that asks the cache first. It belongs to the running loop."""
        from hishel import AsyncSqliteStorage, CacheOptions
        from hishel.httpx import AsyncCacheTransport

        self._folder.mkdir(parents=True, exist_ok=True)
        storage = AsyncSqliteStorage(
            database_path=self._folder / _FILE, max_stream_size=self._max_bytes
        )
        caching = AsyncCacheTransport(
            _Signing(transport, self._auth), storage=storage, rfc=CacheOptions(shared=False)
        )
        return _Keyed(caching, self._identity)


class _Keyed(httpx.AsyncBaseTransport):
    """Has the cache tell users apart."""

    def __init__(self, inner: httpx.AsyncBaseTransport, identity: str) -> None:
        self._inner = inner
        self._identity = identity

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        parts = (self._identity, str(request.url), request.headers.get("Cookie", ""))
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        request.extensions = {**request.extensions, "caching": {"key": key}}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Signing(httpx.AsyncBaseTransport):
    """Signs a copy of each request, so that the cache does not see it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, auth: Auth | None) -> None:
        self._inner = inner
        self._auth = auth

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        copy = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            stream=request.stream,
            extensions=_without_caching(request.extensions),
        )
        response = await send_signed(self._auth, copy, self._inner.handle_async_request)
        response.headers.pop("Set-Cookie", None)  # A session is a credential, too.
        if response.status_code in _PASSING:
            response.headers["Cache-Control"] = "no-store"
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def _without_caching(extensions: Any) -> dict[str, Any]:
    return {name: value for name, value in extensions.items() if name != "caching"}
