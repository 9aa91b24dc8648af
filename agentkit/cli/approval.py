"""Asking at the terminal whether a call may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit.cli.console import printable
from agentkit.cli.display import call_text

if TYPE_CHECKING:
    from agentkit.approvals import ApprovalAnswer
    from agentkit.messages import ToolCall

__all__ = ["ask_at_terminal", "deny_unattended"]


def ask_at_terminal(call: ToolCall) -> ApprovalAnswer:
    """Ask whoever sits there. What is not a clear yes is a no; more words are its reason."""
    try:
        answer = input(f"run {printable(call_text(call))}? [y/N, or why not] ").strip()
    except EOFError:
        answer = ""
    if answer.lower() in ("y", "yes"):
        return True
    return False if answer.lower() in ("", "n", "no") else ("deny", answer)


def deny_unattended(call: ToolCall) -> ApprovalAnswer:
    """The answer where nobody can be asked."""
    return ("deny", "nobody is there who could allow it")
