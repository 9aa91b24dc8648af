"""``agentkit chat``: a conversation in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.console import notes_console
from agentkit.cli.failures import EXIT_FAILED, with_exit_codes
from agentkit.cli.options import (
    AgentOptions,
    Docs,
    MaxSteps,
    MaxTokens,
    ModelName,
    Retrieval,
    Seed,
    System,
    Temperature,
    ToolChoice,
    ToolSpecs,
    TopK,
)

__all__ = ["chat"]


@with_exit_codes
def chat(
    model: ModelName = None,
    system: System = None,
    docs: Docs = None,
    tools: ToolSpecs = None,
    tool_choice: ToolChoice = "auto",
    retrieval: Retrieval = "documents",
    top_k: TopK = None,
    max_steps: MaxSteps = 10,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the conversation here after each turn."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Go on with a saved conversation.")
    ] = None,
) -> None:
    """Talk with an agent.

    Ctrl-C cancels a turn, Ctrl-D ends the conversation; `/help` lists the commands. Where
    standard input is not a terminal, each of its lines is a turn.

    Examples:

    - `agentkit chat`

    - `agentkit chat --model ibm-granite/granite-4.0-1b --docs manuals/`

    - `agentkit chat --tools my_tools --system "You are a travel agent."`

    - `agentkit chat --resume trip.json --save trip.json`

    - `printf 'Hello\\nAnd in French?\\n' | agentkit chat`
    """
    from agentkit.cli.session import ChatSession, check_save_path
    from agentkit.cli.setup import open_agent
    from agentkit.result import RunResult

    if save is not None:
        check_save_path(save)
    history = RunResult.load(resume) if resume is not None else None
    options = AgentOptions(
        model=model,
        system=system,
        docs=docs,
        tools=tools or [],
        tool_choice=tool_choice,
        retrieval=retrieval,
        top_k=top_k,
        max_steps=max_steps,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
    )
    notes = notes_console()
    with open_agent(options, notes) as agent:
        session = ChatSession(agent, sys.stdout, notes, history=history, save_to=save)
        ok = session.run()
    # At a terminal the user saw what failed and went on; a script only sees the code.
    if not ok and not sys.stdin.isatty():
        raise typer.Exit(EXIT_FAILED)
