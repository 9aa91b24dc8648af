"""``agentkit eval``: measure retrieval, answers and tool calls."""

from __future__ import annotations

import typer

from agentkit.cli.eval_tools import tools

__all__ = ["evaluation"]

evaluation = typer.Typer(
    no_args_is_help=True, help="Measure how good a model, retrieval and answers are."
)


@evaluation.callback()
def _group() -> None:
    """A group, also while it has one command only."""


for command in (tools,):
    evaluation.command()(command)
