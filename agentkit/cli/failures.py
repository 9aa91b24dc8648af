"""From exceptions to one line on standard error and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from agentkit.cli.console import notes_console, printable
from agentkit.errors import AgentkitError, UserError

__all__ = [
    "DEBUG_VARIABLE",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "show_error",
    "with_exit_codes",
]

DEBUG_VARIABLE = "AGENTKIT_DEBUG"
"""Environment variable that asks for tracebacks."""

EXIT_FAILED = 1
"""The model, a tool or the run failed."""
EXIT_USAGE = 2
"""What the user gave cannot work."""
EXIT_INTERRUPTED = 130
"""Ctrl-C; the code that shells give a program ended by SIGINT."""
_EXIT_BROKEN_PIPE = 141
"""The reader of the output went away; the code that shells give one ended by SIGPIPE."""

P = ParamSpec("P")


def with_exit_codes(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command end with an error line and the right code where it raises."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            # Here rather than at the interpreter's end, where a broken pipe makes noise.
            sys.stdout.flush()
        except AgentkitError as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            show_error(error)
            raise typer.Exit(EXIT_USAGE if isinstance(error, UserError) else EXIT_FAILED) from None
        except KeyboardInterrupt:
            notes_console().print("interrupted", style="yellow")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _discard_output()
            raise typer.Exit(_EXIT_BROKEN_PIPE) from None

    return run


def show_error(error: AgentkitError) -> None:
    """Print an error's message as one red line."""
    text = " ".join(printable(str(error)).split())
    notes_console().print(f"error: {text}", style="red")


def _discard_output() -> None:
    # The interpreter flushes standard output once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
