"""The ``agentkit`` command.

One module for each command. What takes long to import (torch, transformers, FAISS) is imported
inside the commands, so that ``agentkit --help`` and ``agentkit prompt`` answer at once.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that the program's arguments name, and exit with its code."""
    from agentkit.cli.app import app

    app(prog_name="agentkit")
