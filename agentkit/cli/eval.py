"""``agentkit eval``: measure retrieval, answers and tool calls."""

from __future__ import annotations

import typer

from agentkit.cli.eval_answers import answers
from agentkit.cli.eval_retrieval import retrieval

__all__ = ["evaluation"]

evaluation = typer.Typer(
    no_args_is_help=True, help="Measure how good retrieval and answers are on questions of yours."
)
for command in (retrieval, answers):
    evaluation.command()(command)
