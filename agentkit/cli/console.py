"""Standard output for answers, standard error for everything said about them."""

from __future__ import annotations

import io
import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["notes_console", "prepare_streams", "printable", "write_json"]

# All but tab and newline: what a model or a tool wrote must not steer the terminal.
_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {0x09, 0x0A})


def prepare_streams() -> None:
    """Let no character of an answer end the program, and show warnings as one line each."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper) and not sys.stdin.isatty():
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    warnings.showwarning = _show_warning


def notes_console() -> Console:
    """Standard error, with colours where it is a terminal and ``NO_COLOR`` is not set."""
    from rich.console import Console

    # The stream is fixed here, because loading a model redirects sys.stderr for a while.
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def printable(text: str) -> str:
    """The text without control characters."""
    return text.translate(_CONTROLS)


def write_json(value: Any, *, indent: int | None = None) -> None:
    """Write one JSON value and a newline to standard output, in UTF-8 wherever it runs."""
    try:
        data = json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8")
    except UnicodeEncodeError:
        # Lone surrogates, which only JSON's escapes can write down.
        data = json.dumps(value, indent=indent).encode("ascii")
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    # The other categories are for the developers of libraries.
    if issubclass(category, UserWarning):
        notes_console().print(f"warning: {printable(str(message))}", style="yellow")
