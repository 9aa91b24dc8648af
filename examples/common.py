"""What the examples share: the command line, the model, and a trace of a run as it happens."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from agentkit import (
    Agent,
    AgentkitError,
    Event,
    Retrieval,
    Retry,
    RunFinished,
    RunResult,
    StepFinished,
    StepRecord,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    ToolResult,
    TransformersModel,
)
from agentkit_retrievers import format_sources

__all__ = [
    "Trace",
    "ask",
    "console",
    "describe_call",
    "is_small",
    "load_model",
    "parser",
    "print_sources",
    "run",
]

console = Console(highlight=False)
"""Where everything is printed."""


def parser(description: str, *, questions: Sequence[str]) -> argparse.ArgumentParser:
    """The options of every example.

    Args:
        description: Of the example.
        questions: To answer where the command line has none.
    """
    made = argparse.ArgumentParser(description=description)
    made.add_argument("questions", nargs="*", default=list(questions), metavar="QUESTION")
    made.add_argument(
        "--model",
        default="embedded",
        help="a hub id such as ibm-granite/granite-4.0-1b, a folder or a .gguf file "
        "(default: %(default)s, which needs no network)",
    )
    made.add_argument("--dtype", choices=("float32", "bfloat16", "float16", "int8", "int4"))
    made.add_argument("--device", help="cpu, cuda or mps; the best there is if not given")
    return made


def load_model(options: argparse.Namespace) -> TransformersModel:
    """The model that the command line names, ready to run."""
    model = TransformersModel(options.model, dtype=options.dtype, device=options.device)
    with console.status(f"Loading {model.name}"):
        return model.load()


def is_small(options: argparse.Namespace) -> bool:
    """Whether the model is the embedded one, which copes with one short passage at a time."""
    return bool(options.model == "embedded")


async def ask(agent: Agent, question: str, *, history: RunResult | None = None) -> RunResult:
    """Put a question to an agent and print what happens meanwhile."""
    console.print(f"\n[bold]{escape(question)}[/]")
    trace = Trace(console)
    async for event in agent.stream(question, history=history):
        trace.show(event)
    assert trace.result is not None  # RunFinished is always the last event
    return trace.result


def print_sources(result: RunResult) -> None:
    """List the documents behind an answer, each with its place in its file."""
    if result.sources:
        console.print(f"[dim]sources[/]\n{escape(format_sources(result.sources))}")


class Trace:
    """Prints an agent's events.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0
        self._in_text = False
        self.result: RunResult | None = None
        """The outcome, once the run is over."""

    def show(self, event: Event) -> None:
        """Print one event."""
        match event:
            case TextDelta(text):
                if not self._in_text:
                    self._console.print("  [green]says[/]    ", end="")
                self._in_text = True
                self._console.print(escape(text), end="", soft_wrap=True)
            case Retrieval(record):
                for hit in record.hits:
                    found = f"{hit.document.title} ({hit.score:.2f})"
                    self._line("finds", f"{escape(found)} [dim]{record.seconds * 1000:.0f} ms[/]")
            case ToolCallStarted(call):
                self._line("calls", escape(describe_call(call)))
            case ToolResult(record):
                observed = " ".join(record.observation.split())
                if len(observed) > 90:
                    observed = f"{observed[:89]}…"
                mark = "" if record.status == "ok" else f" [red]{record.status}[/]"
                self._line(
                    "gets", f"{escape(observed)}{mark} [dim]{record.seconds * 1000:.0f} ms[/]"
                )
            case Retry(reason):
                self._line("retries", f"[red]{escape(reason)}[/]")
            case StepFinished(step):
                self._steps += 1
                self._line(f"step {self._steps}", f"[dim]{describe_step(step)}[/]")
            case RunFinished(result):
                self.result = result

    def _line(self, label: str, text: str) -> None:
        if self._in_text:
            self._console.print()
            self._in_text = False
        self._console.print(f"  [cyan]{label:<8}[/]{text}", soft_wrap=True)


def describe_call(call: ToolCall) -> str:
    """A call as Python would write it."""
    if isinstance(call.arguments, str):
        return f"{call.name}({call.arguments})"
    given = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    return f"{call.name}({given})"


def describe_step(step: StepRecord) -> str:
    """What a step cost."""
    usage = step.usage
    return (
        f"{usage.prefilled_tokens} tokens read, {usage.reused_tokens} reused, "
        f"{usage.generated_tokens} written, {step.model_seconds * 1000:.0f} ms"
    )


def run(work: Coroutine[Any, Any, None]) -> int:
    """Carry out an example; an error becomes one line and an exit code of 1."""
    try:
        asyncio.run(work)
    except AgentkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
