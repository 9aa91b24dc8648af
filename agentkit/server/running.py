"""Running an application: listening, and ending well on SIGTERM."""

from __future__ import annotations

import ipaddress
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from agentkit.server.context import ServerContext

__all__ = ["GracefulServer", "is_loopback", "serve"]

_LAST_SECONDS = 2
"""For connections to close once the time for running requests is over."""


def serve(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    log_level: str = "info",
    on_started: Callable[[str], None] | None = None,
    **uvicorn_options: Any,
) -> None:
    """Serve an application of :func:`~agentkit.server.create_app` until SIGTERM or Ctrl-C.

    At the first of these ``/ready`` says 503, new requests are answered 503, and running ones
    go on for ``ServerOptions.drain_seconds``. A second one ends the server at once.

    Args:
        app: The application.
        host: Address to listen at.
        port: Port to listen at; 0 for any free one.
        log_level: Of uvicorn.
        on_started: Told the server's URL, once it listens.
        uvicorn_options: Anything else that :class:`uvicorn.Config` takes.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level=log_level,
        **{
            "backlog": 2048,
            # Longer than clients keep theirs (httpx: 5 s): who closes first must not be we, or a
            # request that is just being sent finds the connection gone.
            "timeout_keep_alive": 75,
            "timeout_graceful_shutdown": _LAST_SECONDS,
            "server_header": False,
            "access_log": False,
            **uvicorn_options,
        },
    )
    GracefulServer(config, app.state.agentkit, on_started=on_started).run()


class GracefulServer(uvicorn.Server):
    """Ends after its running requests have.

    Args:
        config: Of uvicorn.
        context: Of the application.
        on_started: Told the server's URL, once it listens.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        context: ServerContext,
        *,
        on_started: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(config)
        self.context = context
        self._on_started = on_started
        self._drain_until = 0.0

    @property
    def url(self) -> str:
        """Where the server listens, once it does."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started and self._on_started is not None:
            self._on_started(self.url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends."""
        if self.context.lifecycle.draining:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            return
        self.drain()

    def drain(self) -> None:
        """Begin nothing new, and end once nothing runs."""
        self._drain_until = time.monotonic() + self.context.options.drain_seconds
        self.context.lifecycle.drain()
        running = self.context.gate.running
        if running:
            print(f"waiting for {running} running requests", file=sys.stderr, flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: look whether it is time to end."""
        if self._drain_until and (
            self.context.lifecycle.idle or time.monotonic() > self._drain_until
        ):
            self.should_exit = True
        return await super().on_tick(counter)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
