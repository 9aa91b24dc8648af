"""The commands, put together."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from agentkit.cli.ask import ask
from agentkit.cli.batch import batch
from agentkit.cli.chat import chat
from agentkit.cli.console import prepare_streams
from agentkit.cli.doctor import doctor
from agentkit.cli.eval import evaluation
from agentkit.cli.failures import DEBUG_VARIABLE
from agentkit.cli.index import index
from agentkit.cli.mcp_serve import mcp_serve
from agentkit.cli.prompt import prompt
from agentkit.cli.serve import serve
from agentkit.cli.trace import trace

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # Errors that are ours become one line; others are bugs, and their traceback must be whole.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Agents that call tools and read documents, on small models inside this process.\n\n"
        "Begin with `agentkit doctor`, which says what this machine can run, and `agentkit chat`."
    ),
    epilog="Exit codes: 0 done · 1 the run failed · 2 wrong usage or input · 130 interrupted",
)
for command in (chat, ask, batch, index, prompt, trace, serve, mcp_serve, doctor):
    app.command()(command)
app.add_typer(evaluation, name="eval")


def _print_version(wanted: bool) -> None:
    if wanted:
        from agentkit import __version__

        print(f"agentkit {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar=DEBUG_VARIABLE, help="Show tracebacks instead of one-line errors."
        ),
    ] = False,
) -> None:
    if debug:  # The variable is also how commands learn of the option.
        os.environ[DEBUG_VARIABLE] = "1"
    else:
        os.environ.pop(DEBUG_VARIABLE, None)
    prepare_streams()
