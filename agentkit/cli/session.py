"""The loop of a conversation: lines in, turns out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from agentkit.cli.approval import ask_at_terminal, deny_unattended
from agentkit.cli.display import RunDisplay
from agentkit.cli.failures import show_error
from agentkit.cli.running import stream_run
from agentkit.errors import AgentkitError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.agent import Agent
    from agentkit.result import RunResult

__all__ = ["ChatSession", "check_save_path"]

_HELP = """\
/help       this list
/reset      forget the conversation
/save FILE  save the conversation; --resume FILE goes on with it
/exit       end (as Ctrl-D does)
Ctrl-C      cancel the turn"""


class ChatSession:
    """A conversation with an agent, one turn for each line of standard input.

    Args:
        agent: Answers.
        out: Gets the answers.
        notes: Gets everything else.
        history: A conversation to go on from.
        save_to: Where the conversation is saved after each turn.
    """

    def __init__(
        self,
        agent: Agent,
        out: TextIO,
        notes: Console,
        *,
        history: RunResult | None = None,
        save_to: Path | None = None,
    ) -> None:
        self._agent = agent
        self._display = RunDisplay(out, notes)
        self._history = history
        self._save_to = save_to
        self._interactive = sys.stdin.isatty()

    def run(self) -> bool:
        """Converse until the input ends.

        Returns:
            Whether every turn and every command went well.
        """
        self._greet()
        ok = True
        # One event loop for all turns: what tools keep open may belong to it.
        with asyncio.Runner() as runner:
            for line in self._lines():
                text = line.strip()
                if text == "/exit":
                    break
                try:
                    if text.startswith("/"):
                        self._command(text)
                    elif text:
                        self._turn(runner, text)
                except AgentkitError as error:
                    show_error(error)
                    ok = False
        return ok

    def _turn(self, runner: asyncio.Runner, text: str) -> None:
        if not self._interactive:
            self._display.note(f"> {text}")
        try:
            # What tools print must not mix with the answers.
            with redirect_stdout(sys.stderr):
                result = runner.run(
                    stream_run(
                        self._agent,
                        text,
                        self._display,
                        history=self._history,
                        ask=ask_at_terminal if self._interactive else deny_unattended,
                    )
                )
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            self._display.note("(cancelled; this turn is forgotten)", style="yellow")
            return
        self._history = result
        self._display.show_sources(result)
        self._display.show_usage(result)
        if self._save_to is not None:
            self._save(self._save_to)

    def _command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        argument = argument.strip()
        if name == "/help":
            self._display.note(_HELP)
        elif name == "/reset":
            self._history = None
            self._display.note("(the conversation is forgotten)")
        elif name == "/save":
            path = Path(argument).expanduser() if argument else self._save_to
            if path is None:
                raise UserError("/save needs a file, as in /save talk.json")
            self._save(path)
            self._display.note(f"(saved to {path})")
        else:
            raise UserError(f"there is no command {name}; /help lists them")

    def _save(self, path: Path) -> None:
        if self._history is None:
            raise UserError("there is nothing to save yet")
        check_save_path(path)
        try:
            self._history.save(path)
        except OSError as error:
            raise UserError(
                f"the conversation cannot be saved to {path}: {error.strerror or error}"
            ) from error

    def _greet(self) -> None:
        if not self._interactive:
            return
        tools = ", ".join(self._agent.tools.names)
        self._display.note(f"{self._agent.model.name}{f' · tools: {tools}' if tools else ''}")
        if self._history is not None:
            self._display.note(f"(going on from {len(self._history.messages)} messages)")
        self._display.note("Ctrl-D ends, Ctrl-C cancels a turn, /help lists commands")

    def _lines(self) -> Iterator[str]:
        if not self._interactive:
            yield from sys.stdin
            return
        with suppress(ImportError):
            import readline  # noqa: F401  # gives input() editing and a history
        while True:
            try:
                yield input("> ")
            except EOFError:
                self._display.note("")
                return
            except KeyboardInterrupt:
                self._display.note("\n(Ctrl-D or /exit ends the conversation)")


def check_save_path(path: Path) -> None:
    """Refuse, before any work is done, a file that could not be written.

    Raises:
        UserError: Its folder is missing, or it is a folder itself.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file to save the conversation to")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be saved: there is no folder {path.absolute().parent}")
