"""Conversations and what is shown of them, with a scripted model."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from agentkit import (
    Agent,
    Document,
    ModelError,
    RunResult,
    ScoredDocument,
    ScriptedModel,
    ToolCall,
    ToolError,
    tool,
)
from agentkit.cli import setup
from agentkit.cli.console import printable
from agentkit.cli.session import ChatSession
from agentkit.models.scripted import ScriptedStep


class Terminal(io.StringIO):
    """Text that counts as a terminal."""

    def isatty(self) -> bool:
        return True


class Talk:
    """A conversation over given lines: what it wrote, and how it ended."""

    def __init__(
        self,
        agent: Agent,
        lines: Sequence[str | type[BaseException]],
        monkeypatch: pytest.MonkeyPatch,
        *,
        interactive: bool = False,
        save_to: Path | None = None,
    ) -> None:
        self._input = iter(lines)
        stdin = Terminal() if interactive else io.StringIO("\n".join(map(str, lines)))
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr("builtins.input", self._answer)
        errors = io.StringIO()
        monkeypatch.setattr(sys, "stderr", errors)
        out = io.StringIO()
        session = ChatSession(agent, out, Console(file=errors, soft_wrap=True), save_to=save_to)
        self.ok = session.run()
        self.out = out.getvalue()
        self.notes = errors.getvalue()

    def _answer(self, prompt: str) -> str:
        line = next(self._input, EOFError)
        if isinstance(line, str):
            return line
        raise line


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    print("printed by the tool")
    return a + b


@tool
def fail() -> str:
    """Fails."""
    raise ToolError("come back \x1b[31mlater")


@pytest.fixture(autouse=True)
def _default_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_turns_share_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel(["One.", "Two."])
    talk = Talk(Agent(model), ["first", "", "second"], monkeypatch)
    assert talk.ok
    assert talk.out == "One.\nTwo.\n"
    assert [m.content for m in model.requests[1].messages] == ["first", "One.", "second"]


def test_calls_are_shown_with_arguments_results_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    call = ToolCall(name="add", arguments={"a": 2, "b": 3})
    agent = Agent(ScriptedModel([call, "\n\nIt is 5."]), [add])
    talk = Talk(agent, ["2 + 3?"], monkeypatch)
    assert talk.out == "It is 5.\n"
    assert "→ add(a=2, b=3)\n" in talk.notes
    assert "← add: 5 · 0.0" in talk.notes
    assert "printed by the tool\n" in talk.notes
    assert "generated" in talk.notes.splitlines()[-1]


def test_failing_calls_are_shown_without_control_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script: list[ScriptedStep] = [ToolCall(name="fail", arguments={}), "Sorry."]
    talk = Talk(Agent(ScriptedModel(script), [fail]), ["go"], monkeypatch)
    assert "← fail (failed): Error: come back [31mlater" in talk.notes
    assert "tries again (1)" in talk.notes
    assert "\x1b" not in talk.notes


def test_text_before_and_after_a_call_stands_on_lines_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = 'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 1}}\n</tool_call>'
    talk = Talk(Agent(ScriptedModel([turn, "Two."]), [add]), ["1 + 1?"], monkeypatch)
    assert talk.out == "Let me see.\nTwo.\n"


def test_searches_and_sources_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneDocument:
        def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
            return [ScoredDocument(Document(text="x", source="a.md", title="A"), 0.5)]

    talk = Talk(Agent(ScriptedModel(["Yes."]), retriever=OneDocument()), ["?"], monkeypatch)
    assert "searched the documents: a.md (0.50)" in talk.notes
    assert "Sources:\n[1] A, a.md\n" in talk.notes


def test_a_failing_turn_is_reported_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel([ModelError("too\nlong"), "Fine."])
    talk = Talk(Agent(model), ["first", "second"], monkeypatch)
    assert not talk.ok
    assert "error: too long\n" in talk.notes
    assert [m.content for m in model.requests[1].messages] == ["second"]


def test_reset_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel(["One.", "Two."])
    talk = Talk(Agent(model), ["first", "/reset", "second"], monkeypatch)
    assert talk.ok
    assert [m.content for m in model.requests[1].messages] == ["second"]


def test_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand, each_turn = tmp_path / "by hand.json", tmp_path / "auto.json"
    talk = Talk(
        Agent(ScriptedModel(["One.", "Two."])),
        ["first", f"/save {by_hand}", "second"],
        monkeypatch,
        save_to=each_turn,
    )
    assert talk.ok
    assert RunResult.load(by_hand).output == "One."
    assert RunResult.load(each_turn).output == "Two."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/save", "needs a file"),
        ("/save talk.json", "nothing to save"),
        ("/quit", "no command /quit"),
    ],
)
def test_commands_that_cannot_be_done(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(Agent(ScriptedModel([])), [line], monkeypatch)
    assert not talk.ok
    assert expected in talk.notes


def test_help_and_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(Agent(ScriptedModel([])), ["/help", "/exit", "never asked"], monkeypatch)
    assert talk.ok
    assert "/reset" in talk.notes


def test_an_interrupt_cancels_the_turn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool
    async def interrupt() -> str:
        """Stands for the user's Ctrl-C."""
        os.kill(os.getpid(), signal.SIGINT)
        import asyncio

        await asyncio.sleep(30)
        return "not reached"

    model = ScriptedModel([ToolCall(name="interrupt", arguments={}), "Fine."])
    lines = ["first", KeyboardInterrupt, "second"]
    talk = Talk(Agent(model, [interrupt]), lines, monkeypatch, interactive=True)
    assert talk.ok
    assert "(cancelled; this turn is forgotten)" in talk.notes
    assert "(Ctrl-D or /exit ends the conversation)" in talk.notes
    assert talk.out == "Fine.\n"
    assert [m.content for m in model.requests[1].messages] == ["second"]


def test_an_interrupt_ends_a_piped_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(request: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "word " * 1000

    with pytest.raises(KeyboardInterrupt):
        Talk(Agent(ScriptedModel([interrupt])), ["first"], monkeypatch)


def test_printable_keeps_text_and_drops_what_steers_terminals() -> None:
    assert printable("é\t中\n\x1b[2J\x07\x9b1m\r") == "é\t中\n[2J1m"


@pytest.mark.parametrize(("offline", "fetched"), [("0", ["lab/model"]), ("1", [])])
def test_hub_models_are_fetched_with_a_progress_bar_unless_offline(
    offline: str, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, allow_patterns: asked.append(name)
    )
    for name in ("lab/model", "embedded", "./lab/model", "lab/model.gguf"):
        setup._download(name, Console(file=io.StringIO()))
    assert asked == fetched


class TestApprovals:
    """Calls that need approval are asked about at the terminal."""

    @staticmethod
    def agent(done: list[str]) -> Agent:
        @tool(approval="ask")
        def pay(amount: int) -> str:
            """Pay."""
            done.append(f"paid {amount}")
            return done[-1]

        call = ToolCall(name="pay", arguments={"amount": 7})
        return Agent(ScriptedModel([call, "Well."]), [pay])

    @pytest.mark.parametrize(
        ("answer", "done", "told"),
        [
            ("y", ["paid 7"], "← pay: paid 7"),
            ("YES", ["paid 7"], "← pay: paid 7"),
            ("", [], "not allowed"),
            ("n", [], "not allowed"),
            ("too dear", [], "too dear"),
        ],
    )
    def test_the_user_decides(
        self, monkeypatch: pytest.MonkeyPatch, answer: str, done: list[str], told: str
    ) -> None:
        found: list[str] = []
        talk = Talk(self.agent(found), ["pay", answer], monkeypatch, interactive=True)
        assert found == done
        assert "pay(amount=7) needs approval" in talk.notes
        assert told in talk.notes
        assert talk.out == "Well.\n"

    def test_the_end_of_input_is_a_no(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[str] = []
        talk = Talk(self.agent(found), ["pay", EOFError], monkeypatch, interactive=True)
        assert (found, talk.out) == ([], "Well.\n")

    def test_where_nobody_can_be_asked_nothing_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[str] = []
        talk = Talk(self.agent(found), ["pay"], monkeypatch)
        assert (found, talk.out) == ([], "Well.\n")
        assert "nobody is there" in talk.notes


def test_a_call_that_is_written_anew_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = ToolCall(name="plus", arguments={"a": 2, "b": 3})
    good = ToolCall(name="add", arguments={"a": 2, "b": 3})
    talk = Talk(Agent(ScriptedModel([bad, good, "5"]), [add], rewind=1), ["go"], monkeypatch)
    assert "a call is written anew: there is no tool" in talk.notes
    assert "← add: 5" in talk.notes
