"""``agentkit ask``: one question, one answer."""

from __future__ import annotations

import asyncio
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from agentkit.cli.console import notes_console, write_json
from agentkit.cli.failures import with_exit_codes
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
    TraceContent,
    TraceFile,
)
from agentkit.cli.tracing import tracing_to
from agentkit.errors import UserError

if TYPE_CHECKING:
    from agentkit.result import RunResult

__all__ = ["ask"]


@with_exit_codes
def ask(
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="What to ask; `-` reads standard input.")
    ],
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole run as one JSON object instead.")
    ] = False,
    trace: TraceFile = None,
    trace_content: TraceContent = False,
) -> None:
    """Answer one question.

    The answer goes to standard output; tool calls, searches and sources go to standard error.

    Examples:

    - `agentkit ask "What is the capital of France?"`

    - `agentkit ask "How do I reset the device?" --docs manuals/`

    - `agentkit ask "What is 12.5% of 80?" --tools my_tools:percent --tool-choice required`

    - `git diff | agentkit ask - --system "Write a commit message for this diff."`

    - `agentkit ask "Who wrote it?" --docs manuals.index --json | jq .sources`

    - `agentkit ask "Who wrote it?" --docs manuals.index --trace run.jsonl`
    """
    question = sys.stdin.read() if question == "-" else question
    if not question.strip():
        raise UserError("the question is empty")
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
    with tracing_to(trace, content=trace_content):
        result = _run(question, options, quiet=as_json)
    if as_json:
        write_json(result.to_dict())


def _run(question: str, options: AgentOptions, *, quiet: bool) -> RunResult:
    from agentkit.cli.approval import ask_at_terminal, deny_unattended
    from agentkit.cli.display import RunDisplay
    from agentkit.cli.running import stream_run
    from agentkit.cli.setup import open_agent

    notes = notes_console()
    display = RunDisplay(sys.stdout, notes)
    # What tools print would mix with the answer, or break the JSON.
    with redirect_stdout(sys.stderr), open_agent(options, notes) as agent:
        if quiet:
            return asyncio.run(agent.run(question))
        ask = ask_at_terminal if sys.stdin.isatty() else deny_unattended
        result = asyncio.run(stream_run(agent, question, display, ask=ask))
        display.show_sources(result)
        display.show_usage(result)
        return result
