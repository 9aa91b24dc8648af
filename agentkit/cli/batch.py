"""``agentkit batch``: many prompts or runs, from a file to a file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    TraceContent,
    TraceFile,
)
from agentkit.cli.tracing import tracing_to
from agentkit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.agent import Agent
    from agentkit.batch import BatchReport

__all__ = ["batch"]


@with_exit_codes
def batch(
    source: Annotated[Path, typer.Argument(metavar="IN", help="JSON lines to run.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Where results are written.")],
    agent: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="An agent of a program, or a function that makes it, in place of the options "
            "for one; `file.py:name` works too.",
        ),
    ] = None,
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
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Lines at work at once. [default: the model's]"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run lines again that gave an error.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away the results that OUT holds.")
    ] = False,
    trace: TraceFile = None,
    trace_content: TraceContent = False,
) -> None:
    """Run every line of a file, several at once, and write the results in the same order.

    A line of IN is a JSON text, an object with `prompt` or `messages` (and, if wanted, `id`,
    `max_tokens`, `temperature`, `top_p`, `seed`, `stop`, `tool_choice`, `metadata`), or a request
    of OpenAI's batches with `custom_id` and `body`. A line that cannot be run becomes an error
    record; then the exit code is 1.

    The same command goes on where an earlier one was stopped or killed: lines with a result are
    not run again. OUT is put in the order of IN when all is done.

    Examples:

    - `agentkit batch questions.jsonl answers.jsonl --docs manuals/`

    - `agentkit batch openai-batch.jsonl results.jsonl --model ibm-granite/granite-4.0-1b`

    - `agentkit batch tickets.jsonl replies.jsonl --agent my_agents:support`

    - `agentkit batch questions.jsonl answers.jsonl --retry-failed`
    """
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
    if agent is not None and (system or docs or tools or tool_choice != "auto"):
        raise UserError("--agent brings its own settings: leave out --system, --docs and --tools")
    if not source.is_file():
        raise UserError(f"there is no file {source}")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"{output} is no file that could be written")
    notes = notes_console()
    with redirect_stdout(sys.stderr), tracing_to(trace, content=trace_content):
        report = _run(source, output, agent, options, concurrency, retry_failed, restart, notes)
    notes.print(_summary(report, output), style="yellow" if report.failed else "dim")
    if report.failed:
        raise typer.Exit(EXIT_FAILED)


def _run(
    source: Path,
    output: Path,
    spec: str | None,
    options: AgentOptions,
    concurrency: int | None,
    retry_failed: bool,
    restart: bool,
    notes: Console,
) -> BatchReport:
    from agentkit.batch import run_batch
    from agentkit.cli.agent_loading import load_agent
    from agentkit.cli.setup import open_agent

    async def run(agent: Agent, tell: Callable[[BatchReport], None]) -> BatchReport:
        try:
            return await run_batch(
                agent,
                source,
                output,
                concurrency=concurrency,
                retry_failed=retry_failed,
                restart=restart,
                progress=tell,
            )
        finally:
            if spec is not None:
                await agent.aclose()

    if spec is not None:
        loaded = load_agent(spec)
        with _progress(notes) as tell:
            return asyncio.run(run(loaded, tell))
    with open_agent(options, notes) as agent, _progress(notes) as tell:
        return asyncio.run(run(agent, tell))


@contextmanager
def _progress(notes: Console) -> Iterator[Callable[[BatchReport], None]]:
    """A bar with rates, where ``notes`` is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes, disable=not notes.is_terminal) as bars:
        task = bars.add_task("", total=None, rates="")

        def tell(report: BatchReport) -> None:
            done = report.earlier + report.done
            bars.update(task, total=report.total, completed=done, rates=_rates(report))

        yield tell


def _rates(report: BatchReport) -> str:
    seconds = max(report.seconds, 1e-3)
    words = [
        f"{report.done / seconds:.1f} lines/s",
        f"{report.usage.prompt_tokens / seconds:.0f} in",
        f"{report.usage.generated_tokens / seconds:.0f} out tokens/s",
    ]
    if report.failed:
        words.append(f"{report.failed} failed")
    return " · ".join(words)


def _summary(report: BatchReport, output: Path) -> str:
    earlier = f", {report.earlier} were done before" if report.earlier else ""
    good = report.done - report.failed
    return (
        f"{good} of {report.total} lines done{earlier}, {report.failed} failed · "
        f"{_rates(report)} · {report.seconds:.1f} s · {output}"
    )
