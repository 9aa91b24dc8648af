"""``agentkit mcp-serve``: offer tools to any client that speaks MCP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from agentkit.cli.console import notes_console
from agentkit.cli.failures import EXIT_INTERRUPTED, with_exit_codes

__all__ = ["mcp_serve"]


@with_exit_codes
def mcp_serve(
    tools: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE[:NAME]...",
            help="Functions or tools to offer, or all tools of a module; `file.py:name` works too.",
        ),
    ],
    http: Annotated[
        bool,
        typer.Option(
            "--http",
            help="Listen for clients, instead of serving the one that started this program.",
        ),
    ] = False,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at, with --http.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, metavar="N", help="Port to listen at; 0 for any free one."),
    ] = 8000,
    token_env: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE",
            help="Environment variable with a token that clients must send as a bearer token. "
            "Needed for any but a loopback address.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="TEXT", help="How the server introduces itself.")
    ] = "agentkit",
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="For one call of a tool.")
    ] = 60.0,
) -> None:
    """Offer tools over the Model Context Protocol.

    Without `--http` this program talks through its standard input and output with the client that
    started it, and ends with it; what tools print goes to standard error.

    Examples:

    - `agentkit mcp-serve my_tools`

    - `agentkit mcp-serve my_tools:add my_tools:double --name arithmetic`

    - `agentkit mcp-serve my_tools --http --port 8000`
    """
    with _own_stdout() if not http else contextlib.nullcontext() as wire:
        from agentkit.cli.tool_loading import load_tools

        loaded = load_tools(tools)
        from agentkit_tools.mcp import serve_mcp

        notes = notes_console()
        if not http:
            signal.signal(signal.SIGINT, _leave)
        asyncio.run(
            serve_mcp(
                loaded,
                transport="http" if http else "stdio",
                host=host,
                port=port,
                token_env=token_env,
                name=name,
                tool_timeout=timeout,
                on_started=lambda url: notes.print(f"serving at {url}"),
                stdout=wire,
            )
        )


def _leave(number: int, frame: object) -> None:
    # Not by an exception: a thread waits for standard input, and Python would wait for the thread.
    notes_console().print("interrupted", style="yellow")
    os._exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def _own_stdout() -> Iterator[Any]:
    """Keep standard output for the protocol: whatever else is written there, while modules are
    imported, too, and by programs that tools start, goes to standard error."""
    import anyio

    sys.stdout.flush()
    wire = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.redirect_stdout(sys.stderr), os.fdopen(wire, "w", encoding="utf-8") as file:
        yield anyio.wrap_file(file)
