"""``agentkit eval``: measure retrieval, answers and tool calls."""

from __future__ import annotations

import typer

from agentkit.cli.eval_answers import answers
from agentkit.cli.eval_retrieval import retrieval
from agentkit.cli.eval_tools import tools

__all__ = ["evaluation"]

evaluation = typer.Typer(
    no_args_is_help=True, help="Measure how good retrieval, answers and tool calls are."
)
for command in (retrieval, answers, tools):
    evaluation.command()(command)
