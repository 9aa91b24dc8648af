"""Writing runs down: who may, and what happens in which transaction."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from agentkit.errors import SessionBusyError, UserError
from agentkit.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    UserMessage,
    message_to_dict,
)
from agentkit.result import CallRecord, RunResult, StepRecord, call_to_dict, step_to_dict
from agentkit.sessions.owners import new_owner, release
from agentkit.sessions.records import (
    Kept,
    dump,
    dump_result,
    load_result,
    plain,
    under,
)
from agentkit.sessions.recovery import recover
from agentkit.sessions.schema import events, runs, sa, sessions
from agentkit.sessions.store import SessionStore

__all__ = ["Conversation", "StoreJournal", "begin_run", "load_conversation", "take_over"]

logger = logging.getLogger(__name__)
_TITLE_CHARS = 60


class Conversation:
    """The messages of a session so far, without system texts.

    Args:
        messages: In order.
        last: The number of the last run; 0 if there is none.
    """

    def __init__(self, messages: list[Message], last: int) -> None:
        self.messages = messages
        """In order."""
        self.last = last
        """The number of the last run."""


class StoreJournal:
    """Writes down what a run does, each thing in a transaction of its own.

    Args:
        store: Where to.
        run_id: The run.
        owner: On whose behalf; once the run is another's, nothing can be written any more.
    """

    def __init__(self, store: SessionStore, run_id: str, owner: str) -> None:
        self._store = store
        self._run_id = run_id
        self._owner = owner
        store.heart.add(owner)

    async def began(self, so_far: RunResult) -> None:
        """Keep documents and tools: the run begins from there if it must begin again."""
        await self._store.in_thread(self._update, {"state": dump_result(so_far), "searched": True})

    async def call_started(self, step: int, call: ToolCall) -> None:
        """Written before the tool begins."""
        data = {"id": call.id, "name": call.name, "arguments": call.arguments}
        await self._note("call_started", step, data)

    async def call_finished(self, step: int, record: CallRecord) -> None:
        """Written before the model is told."""
        await self._note("call_finished", step, call_to_dict(record))

    async def turn_written(self, step: int, record: StepRecord, turn: AssistantMessage) -> None:
        """Written before anybody is asked for approval."""
        data = {"step": step_to_dict(record), "turn": message_to_dict(turn)}
        await self._note("turn_written", step, data)

    async def step_finished(
        self, step: int, record: StepRecord, messages: Sequence[Message]
    ) -> None:
        """Written before the model's next turn."""
        data = {
            "step": step_to_dict(record),
            "messages": [message_to_dict(message) for message in messages],
        }
        await self._note("step_finished", step, data)

    async def ended(self, result: RunResult | None, error: BaseException | None) -> None:
        """Write how the run ended, and let go of it."""
        try:
            if not isinstance(error, SessionBusyError):  # It is another's by now.
                await self._store.in_thread(self._end, result, error)
        except Exception:
            if error is None:
                raise
            logger.exception("the end of run %s could not be written", self._run_id)
        finally:
            self.let_go()

    async def abandoned(self, result: RunResult) -> None:
        """The run is given up; what it did stays, if it did anything."""
        values: dict[str, Any] = {"status": "abandoned", "owner": "", "updated": time.time()}
        if result.steps:
            values["result"] = dump_result(replace(result, stop_reason="error"))
        try:
            await self._store.in_thread(self._update, values)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Whatever was not written: the run is at work no longer."""
        self._store.heart.remove(self._owner)
        release(self._owner)

    async def _note(self, kind: str, step: int, data: Any) -> None:
        await self._store.in_thread(self._insert, kind, step, dump(data))

    def _insert(self, kind: str, step: int, data: str) -> None:
        now = time.time()
        row = {"run_id": self._run_id, "kind": kind, "step": step, "data": data, "time": now}

        def work(connection: sa.Connection) -> None:
            self._own(connection, {"beat": now, "updated": now})
            connection.execute(events.insert().values(row))

        self._store.write(work)

    def _update(self, values: Mapping[str, Any]) -> None:
        self._store.write(lambda connection: self._own(connection, values))

    def _own(self, connection: sa.Connection, values: Mapping[str, Any]) -> None:
        """Change the run's row, if it is still ours."""
        query = runs.update().where(
            runs.c.id == self._run_id, runs.c.owner == self._owner, runs.c.status == "running"
        )
        if connection.execute(query.values(**values)).rowcount != 1:
            raise SessionBusyError(
                f"the run {self._run_id} was taken over by another process, or its session was "
                "removed; it ends here"
            )

    def _end(self, result: RunResult | None, error: BaseException | None) -> None:
        now = time.time()
        values: dict[str, Any] = {"updated": now, "beat": now, "owner": ""}

        def work(connection: sa.Connection) -> None:
            if error is None and result is not None and result.stop_reason == "approval":
                values["status"] = "waiting"
                values["state"] = dump_result(result)
                values["state_event"] = _last_event(connection, self._run_id)
            elif error is None and result is not None:
                values.update(status="done", result=dump_result(result))
            elif isinstance(error, Exception):
                values.update(status="failed", error=plain(f"{type(error).__name__}: {error}"))
                if (kept := _as_far_as_it_came(connection, self._run_id, result)) is not None:
                    values["result"] = dump_result(kept)
            else:  # Cancelled: what the events say is what there is.
                values["status"] = "interrupted"
            self._own(connection, values)
            _touch(connection, self._run_id, now)

        self._store.write(work)


def load_conversation(
    store: SessionStore, session_id: str, before: int = 2**31 - 1
) -> Conversation:
    """The messages of a session's runs, those of failed ones as far as they called tools.

    Args:
        store: Has the session.
        session_id: The session.
        before: Only of runs with a smaller number.
    """
    return store.read(lambda connection: _conversation(connection, session_id, before))


def begin_run(
    store: SessionStore,
    session_id: str,
    *,
    run_id: str,
    new: Sequence[Message],
    system: str | None,
    so_far: RunResult,
    last: int,
) -> StoreJournal:
    """Write a new run down.

    Args:
        store: Has the session.
        session_id: The session.
        run_id: Of the run.
        new: Its prompt.
        system: The text that it runs under.
        so_far: With the documents that it was given.
        last: The number of the last run that it knows of.

    Raises:
        UserError: There is no such session, or its last run has to be resumed first.
        SessionBusyError: A run is at work.
    """
    owner, now = new_owner(), time.time()

    def work(connection: sa.Connection) -> None:
        query = sa.select(sessions).where(sessions.c.id == session_id).with_for_update()
        session = connection.execute(query).first()
        if session is None:
            raise UserError(f"there is no session {session_id!r}; it may have been removed")
        run = _last_run(connection, session_id)
        _check_ready(run, "" if run is None else store.status_of(run))
        if run is not None and run.number != last:
            raise SessionBusyError(f"another run of session {session_id} came first; try again")
        connection.execute(
            runs.insert().values(
                id=run_id,
                session_id=session_id,
                number=last + 1,
                status="running",
                prompt=dump([message_to_dict(message) for message in new]),
                system=None if system is None else dump(system),
                state=dump_result(so_far),
                state_event=0,
                searched=False,
                error="",
                owner=owner,
                beat=now,
                created=now,
                updated=now,
            )
        )
        values: dict[str, Any] = {"updated": now}
        if not session.title and (title := _title(new)):
            values.update(title=title, title_key=title.casefold())
        connection.execute(sessions.update().where(sessions.c.id == session_id).values(values))

    try:
        store.write(work)
    except BaseException:
        release(owner)
        raise
    return StoreJournal(store, run_id, owner)


def take_over(
    store: SessionStore,
    session_id: str,
    *,
    decide: Any,
    force: bool = False,
) -> tuple[Kept, Any, StoreJournal]:
    """Make a stopped run this process's own.

    Args:
        store: Has the session.
        session_id: The session.
        decide: Given the run as kept, says how it goes on: a :class:`Recovered` with all answers.
            What it raises leaves the run as it was.
        force: Also take over a run that seems to be at work.

    Returns:
        The run as it was kept, what ``decide`` gave, and what writes it down from now on.

    Raises:
        UserError: There is no run that could go on.
        SessionBusyError: It is at work.
    """
    owner, now = new_owner(), time.time()

    def work(connection: sa.Connection) -> tuple[Kept, Any, str]:
        query = sa.select(sessions.c.id).where(sessions.c.id == session_id).with_for_update()
        connection.execute(query)
        run = _last_run(connection, session_id)
        if run is None:
            raise UserError(f"session {session_id} has no run that could go on")
        status = store.status_of(run)
        if status == "running" and force:
            status = "interrupted"
        if status == "running":
            raise _busy(run)
        if status not in ("waiting", "interrupted", "failed"):
            raise UserError(
                f"the last run of session {session_id} is over ({status}); begin another one"
            )
        kept = _kept(connection, run, status)
        recovered = decide(kept)
        answers = {call_id: asdict(answer) for call_id, answer in recovered.answers.items()}
        values = {
            "status": "running",
            "owner": owner,
            "beat": now,
            "updated": now,
            "error": "",
            "result": None,
            "state": dump_result(recovered.result),
            "state_event": _last_event(connection, run.id),
        }
        connection.execute(runs.update().where(runs.c.id == run.id).values(**values))
        row = {"run_id": run.id, "kind": "resumed", "step": 0, "data": dump(answers), "time": now}
        connection.execute(events.insert().values(row))
        _touch(connection, run.id, now)
        return kept, recovered, run.id

    try:
        kept, recovered, run_id = store.write(work)
    except BaseException:
        release(owner)
        raise
    return kept, recovered, StoreJournal(store, run_id, owner)


def _check_ready(run: Any, status: str) -> None:
    """Refuse a new run where the last one is not over."""
    if status == "running":
        raise _busy(run)
    if status in ("waiting", "interrupted"):
        words = "waits for approval" if status == "waiting" else "was interrupted"
        raise UserError(
            f"the last run of session {run.session_id} {words}: resume() it, or abandon() it to "
            "begin another"
        )


def _busy(run: Any) -> SessionBusyError:
    ago = max(0.0, time.time() - run.beat)
    return SessionBusyError(
        f"a run of session {run.session_id} is at work (last heard of {ago:.0f} s ago); wait for "
        "it, or take it over with resume(force=True) if it is known to be dead"
    )


def _kept(connection: sa.Connection, run: Any, status: Any) -> Kept:
    query = sa.select(events).where(events.c.run_id == run.id, events.c.id > run.state_event)
    found = connection.execute(query.order_by(events.c.id)).all()
    history = _conversation(connection, run.session_id, run.number).messages
    system = None if run.system is None else json.loads(run.system)
    return Kept(
        run_id=run.id,
        status=status,
        state=replace(load_result(run.state, under(system, history)), run_id=run.id),
        searched=run.searched,
        events=tuple((event.kind, event.step, json.loads(event.data)) for event in found),
    )


def _conversation(connection: sa.Connection, session_id: str, before: int) -> Conversation:
    query = sa.select(runs.c.number, runs.c.result)
    query = query.where(runs.c.session_id == session_id, runs.c.number < before)
    messages: list[Message] = []
    last = 0
    for run in connection.execute(query.order_by(runs.c.number)):
        last = run.number
        if run.result is not None:
            messages += load_result(run.result).messages
    return Conversation(messages, last)


def _as_far_as_it_came(
    connection: sa.Connection, run_id: str, result: RunResult | None
) -> RunResult | None:
    """What a failed run did, if it did anything."""
    if result is None:
        run = connection.execute(sa.select(runs).where(runs.c.id == run_id)).first()
        if run is None:
            return None
        result = recover(_kept(connection, run, "failed")).result
    return replace(result, stop_reason="error") if result.steps else None


def _last_run(connection: sa.Connection, session_id: str) -> Any:
    query = sa.select(runs).where(runs.c.session_id == session_id)
    return connection.execute(query.order_by(runs.c.number.desc()).limit(1)).first()


def _last_event(connection: sa.Connection, run_id: str) -> int:
    query = sa.select(sa.func.max(events.c.id)).where(events.c.run_id == run_id)
    return connection.scalar(query) or 0


def _touch(connection: sa.Connection, run_id: str, now: float) -> None:
    mine = sa.select(runs.c.session_id).where(runs.c.id == run_id).scalar_subquery()
    connection.execute(sessions.update().where(sessions.c.id == mine).values(updated=now))


def _title(new: Sequence[Message]) -> str:
    text = next((m.content for m in reversed(new) if isinstance(m, UserMessage)), "")
    line = plain(" ".join(text.split()))
    return line if len(line) <= _TITLE_CHARS else f"{line[: _TITLE_CHARS - 1]}…"
