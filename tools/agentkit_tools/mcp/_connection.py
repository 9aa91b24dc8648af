"""The connection to one MCP server: opened when needed, kept, and opened again when lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mcp import Client, MCPError
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, Implementation

from agentkit import __version__
from agentkit.errors import ToolError, UserError
from agentkit_tools.mcp import _background

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from mcp.client.session import LoggingFnT, MessageHandlerFnT

__all__ = ["Callbacks", "Connection", "Endpoint", "MCPConnectionError"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0


class MCPConnectionError(ToolError):
    """An MCP server cannot be reached. In a tool's call the model is told so."""


class Endpoint(Protocol):
    """Where a server is, and how to reach it."""

    may_be_late: bool
    """Whether a server that has never answered may do so a moment later."""

    def open(self) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """A new transport, as the SDK's clients take it."""
        ...

    def describe(self, error: BaseException) -> str:
        """Why it could not be reached, in words."""
        ...

    def is_hopeless(self, error: BaseException) -> bool:
        """Whether another attempt would fail as this one did."""
        ...

    def never_sent(self, error: BaseException) -> bool:
        """Whether the failure means that no request arrived."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """Who is told of what the server sends by itself; called in the background thread."""

    message: MessageHandlerFnT
    """Of notifications."""
    log: LoggingFnT
    """Of log messages."""
    connected: Callable[[Client], Coroutine[Any, Any, None]]
    """Of a session that has begun; runs until the session ends."""


@dataclass(eq=False)
class _Session:
    """One session, from the handshake to its end."""

    client: Client | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    error: BaseException | None = None
    task: asyncio.Task[None] | None = None


class Connection:
    """Keeps one session with a server; every method runs in the background loop.

    Args:
        endpoint: The server.
        label: How errors name it.
        connect_timeout: Seconds for starting the server and the handshake.
        attempts: How often to try to reach it.
        callbacks: Who is told of notifications.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        label: str,
        connect_timeout: float,
        attempts: int,
        callbacks: Callbacks,
    ) -> None:
        self._endpoint = endpoint
        self._label = label
        self._connect_timeout = connect_timeout
        self._attempts = attempts
        self._callbacks = callbacks
        self._session: _Session | None = None
        self._lock = asyncio.Lock()
        self._was_connected = False
        self._losses = 0  # sessions lost since a request last succeeded
        self._forget: Callable[[], None] | None = None

    async def client(self) -> Client:
        """The client of a session that is open, as far as one can know.

        Raises:
            MCPConnectionError: The server cannot be reached.
            UserError: Its command does not exist.
        """
        session = await self._open()
        assert session.client is not None
        return session.client

    async def request(
        self,
        send: Callable[[Client], Awaitable[T]],
        *,
        repeatable: bool,
        timeout: float | None = None,
    ) -> T:
        """Send a request, in a new session if the old one is gone.

        Args:
            send: Sends it.
            repeatable: Whether it may be sent again if the session ends before the answer, when
                it is not known whether it was carried out.
            timeout: Seconds for the answer, for the error's text.

        Raises:
            MCPError: The server answered with an error.
            MCPConnectionError: The server cannot be reached.
            ToolError: The session ended before the answer, or the answer did not come in time.
        """
        for last in (False, True):
            session = await self._open()
            assert session.client is not None
            try:
                result = await send(session.client)
            except MCPError as error:
                if error.code == REQUEST_TIMEOUT and "timed out" in error.message:
                    limit = "in time" if timeout is None else f"within {timeout:g} s"
                    raise ToolError(f"{self._label} did not answer {limit}") from None
                unsent = error.message == "Session terminated"  # an HTTP server that was restarted
                if not unsent and not (error.code == CONNECTION_CLOSED and await _over(session)):
                    raise
                await self._drop(session)
                self._losses += 1
                cause = session.error or EOFError("it closed the connection")
                logger.warning("%s: %s", self._label, self._endpoint.describe(_leaf(cause)))
                unsent = unsent or self._endpoint.never_sent(_leaf(cause))
                if last or not (repeatable or unsent):
                    raise ToolError(self._lost(unsent=unsent)) from error
                logger.info("%s: sending the request again", self._label)
            else:
                self._losses = 0
                return result
        raise AssertionError("the second attempt returns or raises")

    async def aclose(self) -> None:
        """End the session, and with it the server's process. A later request begins a new one."""
        async with self._lock:
            session, self._session = self._session, None
            if session is not None:
                await self._drop(session)
            if self._forget is not None:
                self._forget()
                self._forget = None

    def close_soon(self) -> None:
        """As :meth:`aclose`, without waiting; for finalizers."""
        if self._session is not None:
            self._session.stop.set()

    async def _open(self) -> _Session:
        async with self._lock:
            session = self._session
            if session is not None and not session.ended:
                return session
            if session is not None:
                await self._drop(session)
            patient = self._was_connected or self._endpoint.may_be_late
            attempts = self._attempts if patient else 1
            if self._losses:
                await asyncio.sleep(_wait(self._losses))
            for attempt in range(1, attempts + 1):
                self._session = session = await self._start()
                if session.client is not None and not session.ended:
                    self._was_connected = True
                    if self._forget is None:
                        self._forget = _background.at_exit(self.aclose)
                    return session
                await self._drop(session)
                error = _leaf(session.error or EOFError("it closed the connection"))
                if attempt == attempts or self._endpoint.is_hopeless(error):
                    raise self._failure(error) from None
                await asyncio.sleep(_wait(attempt))
            raise AssertionError("the last attempt returns or raises")

    async def _start(self) -> _Session:
        session = _Session()
        session.task = asyncio.create_task(self._live(session), name=f"{self._label} session")
        waiting = asyncio.create_task(session.ready.wait())
        try:
            await asyncio.wait([session.task, waiting], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:  # whoever asked for the session was cancelled
            session.stop.set()
            session.task.cancel()
            raise
        finally:
            waiting.cancel()
        return session

    async def _live(self, session: _Session) -> None:
        """Open a session, keep it until it is told to stop or breaks, and close it: all in one
        task, which is what anyio's task groups ask for."""
        try:
            client = Client(
                _watched(self._endpoint, session),
                log_level="info",
                logging_callback=self._callbacks.log,
                message_handler=self._callbacks.message,
                client_info=Implementation(name="agentkit", version=__version__),
            )
            begin = time.monotonic()
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(self._connect_timeout):
                    await stack.enter_async_context(client)
                logger.debug("%s: connected in %.2f s", self._label, time.monotonic() - begin)
                helper = asyncio.create_task(self._callbacks.connected(client))
                stack.callback(helper.cancel)
                session.client = client
                session.ready.set()
                await session.stop.wait()
                session.ended = True
        except BaseException as error:
            session.error = error
            # A cancellation of ours must pass; what the session breaks on is for its users.
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
            logger.debug("%s: session ended", self._label, exc_info=True)
        finally:
            session.ended = True

    async def _drop(self, session: _Session) -> None:
        session.stop.set()
        if session.task is not None and session.task is not asyncio.current_task():
            await asyncio.wait([session.task])
            with contextlib.suppress(asyncio.CancelledError):
                session.task.exception()
        if self._session is session:
            self._session = None

    def _failure(self, error: BaseException) -> Exception:
        if isinstance(error, TimeoutError):
            text = f"it did not answer within {self._connect_timeout:g} s"
        else:
            text = self._endpoint.describe(error)
        message = f"{self._label} could not be reached: {text}"
        if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
            return UserError(message)
        return MCPConnectionError(message)

    def _lost(self, *, unsent: bool) -> str:
        # No details: they are for people, and in the log.
        if unsent:
            return f"{self._label} cannot be reached; it may work later"
        return (
            f"{self._label} went away during the call; it is not known whether the call was "
            "carried out"
        )


async def _over(session: _Session) -> bool:
    """Whether the session has ended, for which its task may need a moment.

    Servers may use the code of a closed connection for errors of their own.
    """
    for _ in range(20):
        if session.ended:
            return True
        await asyncio.sleep(0.01)
    return session.ended


def _wait(count: int) -> float:
    """Seconds before another attempt."""
    return float(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (count - 1)))


def _leaf(error: BaseException) -> BaseException:
    """What went wrong first within exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def _watched(endpoint: Endpoint, session: _Session) -> Any:
    """A transport that notes the moment at which the server goes away, so that the next request
    need not be lost to find out."""
    async with endpoint.open() as (read, write):
        yield _WatchedStream(read, session), write


class _WatchedStream:
    """A stream of what the server sends; ends the session where the stream ends."""

    def __init__(self, stream: Any, session: _Session) -> None:
        self._stream = stream
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> _WatchedStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._session.ended = True
            self._session.stop.set()
            raise

    async def __aenter__(self) -> _WatchedStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> bool | None:
        result: bool | None = await self._stream.__aexit__(*failure)
        return result
