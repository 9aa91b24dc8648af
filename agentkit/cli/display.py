"""Showing a run as it happens: the answer on standard output, the rest on standard error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

from agentkit.cli.console import printable
from agentkit.events import (
    AnswerChecked,
    ApprovalRequested,
    CallDelta,
    Event,
    Retrieval,
    Retry,
    Rewind,
    RunFinished,
    StepFinished,
    TextDelta,
    ToolCallStarted,
    ToolResult,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from agentkit.messages import ToolCall
    from agentkit.result import CallRecord, RetrievalRecord, RunResult

__all__ = ["RunDisplay", "call_text"]

_STOPPED = {
    "length": "the answer was cut at the token limit; raise --max-tokens for more",
    "max_steps": "the model was still calling tools at its last step; raise --max-steps",
    "max_retries": "the model's calls kept failing",
}
_STATUS_WORDS = {
    "invalid": "invalid call",
    "failed": "failed",
    "timeout": "timed out",
    "refused": "refused",
    "denied": "not allowed",
    "pending": "waits for approval",
    "cancelled": "cancelled",
}


class RunDisplay:
    """Shows the events of runs.

    Args:
        out: Gets the answers' text and nothing else.
        notes: Gets tool calls, searches and the account of each run.
    """

    def __init__(self, out: TextIO, notes: Console) -> None:
        self._out = out
        self._notes = notes
        self._clean = out.isatty()
        self._midline = False
        self._text_seen = False
        self._spinner: Status | None = None

    def begin(self) -> None:
        """A run begins."""
        self._text_seen = False
        self._spin("thinking")

    def show(self, event: Event) -> None:
        """Show an event."""
        match event:
            case TextDelta(text):
                self._write(text)
            case CallDelta():
                self._spin("writing a tool call")
            case Retrieval(record):
                self._show_retrieval(record)
                self._spin("reading")
            case ApprovalRequested(call):
                self.note(f"? {call_text(call)} needs approval", style="yellow")
            case Rewind(reason=reason):
                self.note(f"a call is written anew: {_shorten(reason)}", style="yellow")
                self._spin("writing a tool call")
            case ToolCallStarted(call):
                self.note(f"→ {call_text(call)}", style="cyan")
                self._spin(f"running {call.name}")
            case ToolResult(record):
                self._show_call_result(record)
                self._spin("thinking")
            case Retry(attempt=attempt):
                self.note(f"the model tries again ({attempt})", style="yellow")
                self._spin("thinking")
            case StepFinished():
                self._end_line()
                self._text_seen = False
            case AnswerChecked(grounding) if grounding.refused:
                self.note(grounding.text, style="yellow")
            case RunFinished(result):
                self._show_end(result)

    def end(self) -> None:
        """The run is over, however it ended."""
        self._stop_spinner()
        self._end_line()

    def note(self, text: str, *, style: str = "dim") -> None:
        """Print a line on standard error."""
        self._stop_spinner()
        self._end_line()
        self._notes.print(printable(text), style=style)

    def show_usage(self, result: RunResult) -> None:
        """Print what a run took, on one line."""
        usage = result.usage
        self.note(
            f"{usage.prefilled_tokens} tokens prefilled · {usage.reused_tokens} reused · "
            f"{usage.generated_tokens} generated · {result.seconds:.1f} s"
        )

    def show_sources(self, result: RunResult) -> None:
        """List the documents that the model was shown."""
        if result.sources:
            from agentkit_retrievers.sources import format_sources

            self.note(f"Sources:\n{format_sources(result.sources)}")

    def _write(self, text: str) -> None:
        if not self._text_seen:
            text = text.lstrip()  # Models like to begin with blank lines.
        if not text:
            return
        self._stop_spinner()
        # A pipe gets the text as it is; a terminal must not be steered by it.
        self._out.write(printable(text) if self._clean else text)
        self._out.flush()
        self._text_seen = True
        self._midline = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._midline:
            self._out.write("\n")
            self._out.flush()
            self._midline = False

    def _show_retrieval(self, record: RetrievalRecord) -> None:
        found = ", ".join(
            f"{hit.document.source or hit.document.doc_id} ({hit.score:.2f})" for hit in record.hits
        )
        self.note(f"searched the documents: {found or 'nothing found'} · {record.seconds:.2f} s")

    def _show_call_result(self, record: CallRecord) -> None:
        text = _shorten(record.observation)
        if record.status == "ok":
            self.note(f"← {record.call.name}: {text} · {record.seconds:.2f} s", style="green")
        else:
            word = _STATUS_WORDS[record.status]
            self.note(
                f"← {record.call.name} ({word}): {text} · {record.seconds:.2f} s", style="yellow"
            )
        for repair in record.repairs:
            self.note(f"  mended: {repair}")

    def _show_end(self, result: RunResult) -> None:
        self.end()
        if result.stop_reason == "approval":
            return  # Whoever shows the run asks now.
        if result.stop_reason != "answer":
            reason = _STOPPED.get(result.stop_reason, f"stopped at {result.stop_reason}")
            self.note(f"({reason})", style="yellow")
        elif not result.output:
            self.note("(the model gave an empty answer)", style="yellow")

    def _spin(self, label: str) -> None:
        """Say what is being waited for, where someone watches and no line of text is open."""
        if not self._notes.is_terminal or self._midline:
            return
        if self._spinner is None:
            self._spinner = self._notes.status(label, spinner_style="dim")
            self._spinner.start()
        else:
            self._spinner.update(label)

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


def call_text(call: ToolCall) -> str:
    """A call on one line, long arguments cut."""
    if isinstance(call.arguments, str):
        return f"{call.name}({_shorten(call.arguments)})"
    arguments = ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in call.arguments.items()
    )
    return f"{call.name}({_shorten(arguments)})"


def _shorten(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
