"""A conversation that is kept: running agents in it, and going on after a stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from agentkit.errors import UserError
from agentkit.messages import Message, SystemMessage
from agentkit.result import RunResult
from agentkit.resuming import Answers, read_answers
from agentkit.runner import Run
from agentkit.sessions.records import Kept, RunInfo, SessionInfo
from agentkit.sessions.recovery import INTERRUPTED, Interrupted, Recovered, recover
from agentkit.sessions.writing import StoreJournal, begin_run, load_conversation, take_over
from agentkit.turn_calls import tool_messages

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.agent_inputs import Prompt
    from agentkit.events import Event
    from agentkit.messages import ToolCall
    from agentkit.sessions.store import SessionStore

__all__ = ["Session"]

_ABANDONED = "Error: this call was not allowed and has not run."


class Session:
    """A conversation in a :class:`~agentkit.sessions.SessionStore`, which makes it.

    A run's every step is committed before the run goes on. One that was stopped in its midst goes
    on with :meth:`resume`, in any process: calls that are over are not made again; what becomes of
    one that was at work, the caller says.
    """

    def __init__(self, store: SessionStore, session_id: str) -> None:
        self._store = store
        self.id = session_id
        """Identifies the session."""

    def __repr__(self) -> str:
        return f"Session({self.id!r})"

    @property
    def info(self) -> SessionInfo:
        """Title, status and more, as they are now."""
        return self._store.info(self.id)

    def messages(self) -> list[Message]:
        """The conversation: all messages of runs that are over, without system texts."""
        return load_conversation(self._store, self.id).messages

    def runs(self) -> list[RunInfo]:
        """The runs, in order."""
        return self._store.runs(self.id)

    def pending(self) -> tuple[ToolCall, ...]:
        """The calls that wait for approval; :meth:`resume` takes the answers."""
        last = self.runs()[-1:]
        waits = last and last[0].status == "waiting" and last[0].result is not None
        return last[0].result.pending if waits and last[0].result else ()

    def rename(self, title: str) -> None:
        """Give the session another title."""
        self._store.rename(self.id, title)

    def delete(self) -> None:
        """Remove the session with all its runs."""
        self._store.delete(self.id)

    async def run(self, agent: Agent, prompt: Prompt, **options: Any) -> RunResult:
        """Answer a prompt, after what was said before.

        Args:
            agent: Answers.
            prompt: The user's text, or messages.
            options: As for :meth:`agentkit.Agent.run`, but for ``history``.

        Raises:
            UserError: The last run waits or was interrupted.
            SessionBusyError: A run is at work.
            SessionError: The database failed. The run has ended at a point from which it can be
                resumed.
        """
        run, journal = await self._begin(agent, prompt, options)
        try:
            return await run.execute(lambda event: None)
        finally:
            journal.let_go()

    async def stream(self, agent: Agent, prompt: Prompt, **options: Any) -> AsyncIterator[Event]:
        """As :meth:`run`, giving each event once it is written down.

        Closing the iterator early interrupts the run; :meth:`resume` goes on.
        """
        run, journal = await self._begin(agent, prompt, options)
        async with aclosing(_events(agent, run, journal)) as events:
            async for event in events:
                yield event

    async def resume(
        self,
        agent: Agent,
        answers: Answers | None = None,
        *,
        interrupted: Interrupted = "report",
        force: bool = False,
        **options: Any,
    ) -> RunResult:
        """Go on with the last run: it waits for approval, was interrupted, or has failed.

        Calls that are over are not made again. Those that were allowed and had not begun are made
        now; answers that were given before hold.

        Args:
            agent: Goes on; the one of before, or one with the same tools.
            answers: For calls that wait, as for :meth:`agentkit.Agent.resume`.
            interrupted: What becomes of calls that were at work when the run was stopped, of
                which nobody knows whether they took effect: ``report`` tells the model so; ``ask``
                has them wait for approval to be made again.
            force: Take the run over even if it seems to be at work in another process, which
                then ends with :class:`~agentkit.SessionBusyError` before its next call.
            options: ``limits``, ``sampling`` and ``deps``, as for :meth:`agentkit.Agent.run`.

        Raises:
            UserError: There is no run that could go on, or answers are missing or wrong.
            SessionBusyError: The run is at work in another process.
        """
        run, journal = await self._continue(agent, answers, interrupted, force, options)
        try:
            return await run.execute(lambda event: None)
        finally:
            journal.let_go()

    async def resume_stream(
        self,
        agent: Agent,
        answers: Answers | None = None,
        *,
        interrupted: Interrupted = "report",
        force: bool = False,
        **options: Any,
    ) -> AsyncIterator[Event]:
        """As :meth:`resume`, giving each event once it is written down."""
        run, journal = await self._continue(agent, answers, interrupted, force, options)
        async with aclosing(_events(agent, run, journal)) as events:
            async for event in events:
                yield event

    async def abandon(self, *, force: bool = False) -> None:
        """Give the last run up, so that another may begin.

        What its calls gave stays in the conversation; if it called nothing, it leaves nothing.

        Args:
            force: As for :meth:`resume`.
        """
        store = self._store
        _, recovered, journal = await store.in_thread(
            lambda: take_over(store, self.id, decide=_given_up, force=force)
        )
        await journal.abandoned(recovered.result)

    async def _begin(
        self, agent: Agent, prompt: Prompt, options: dict[str, Any]
    ) -> tuple[Run, StoreJournal]:
        if "history" in options:
            raise UserError("a session has its own history; leave out history=...")
        store = self._store
        earlier = await store.in_thread(load_conversation, store, self.id)
        run = agent.prepare(prompt, history=earlier.messages, **options)
        so_far = run.so_far()
        head = so_far.messages[:1]
        system = head[0].content if head and isinstance(head[0], SystemMessage) else None
        journal = await store.in_thread(
            lambda: begin_run(
                store,
                self.id,
                run_id=run.id,
                new=so_far.new_messages,
                system=system if so_far.new_from else None,
                so_far=so_far,
                last=earlier.last,
            )
        )
        run.journal, run.conversation = journal, self.id
        return run, journal

    async def _continue(
        self,
        agent: Agent,
        answers: Answers | None,
        interrupted: Interrupted,
        force: bool,
        options: dict[str, Any],
    ) -> tuple[Run, StoreJournal]:
        if interrupted not in ("report", "ask"):
            raise UserError(f"interrupted is {interrupted!r}; it must be 'report' or 'ask'")
        if unknown := sorted(set(options) - {"limits", "sampling", "deps"}):
            raise UserError(f"resume() takes no {unknown[0]}=...; it has limits, sampling, deps")
        store = self._store

        def decide(kept: Kept) -> Recovered:
            recovered = recover(kept, interrupted)
            if answers is None:
                if kept.status == "waiting":
                    names = ", ".join(f"{c.name} ({c.id})" for c in kept.state.pending)
                    raise UserError(f"the run waits for approval of {names}; give answers")
                return recovered
            given = read_answers(recovered.result, answers)
            return replace(recovered, answers={**recovered.answers, **given})

        kept, recovered, journal = await store.in_thread(
            lambda: take_over(store, self.id, decide=decide, force=force)
        )
        try:
            run = self._resumed(agent, kept, recovered, options)
        except BaseException as error:
            await journal.ended(None, error)
            raise
        run.journal, run.conversation = journal, self.id
        return run, journal

    def _resumed(
        self, agent: Agent, kept: Kept, recovered: Recovered, options: dict[str, Any]
    ) -> Run:
        result = recovered.result
        if kept.searched or result.steps:
            return agent.prepare_resumed(result, recovered.answers, **options)
        # Nothing has happened yet, not even the search for documents.
        run = agent.prepare(
            result.new_messages,
            history=result.messages[: result.new_from],
            documents=result.documents,
            **options,
        )
        run.id = result.run_id
        return run


async def _events(
    agent: Agent, run: Run, journal: StoreJournal
) -> AsyncGenerator[Event, None]:
    try:
        async with aclosing(cast(Any, agent.events_of(run))) as events:
            async for event in events:
                yield event
    finally:
        journal.let_go()


def _given_up(kept: Kept) -> Recovered:
    """The run with its waiting calls refused."""
    recovered = recover(kept)
    result = recovered.result
    if not result.pending:
        return replace(recovered, answers={})
    calls = tuple(
        replace(record, status="denied", observation=_ABANDONED, error=record.error or "Denied")
        if record.status == "pending" and record.error != INTERRUPTED
        else record
        for record in result.steps[-1].calls
    )
    told = tuple(tool_messages(calls))
    steps = (*result.steps[:-1], replace(result.steps[-1], calls=calls))
    messages = (*result.messages[: -len(told)], *told)
    return replace(recovered, result=replace(result, steps=steps, messages=messages), answers={})
