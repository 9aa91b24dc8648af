"""The database of sessions: making, finding and removing them, and writing runs down."""

from __future__ import annotations

import asyncio
import builtins
import json
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentkit.errors import SessionError, UserError
from agentkit.sessions.owners import Heart, is_gone
from agentkit.sessions.records import (
    RunInfo,
    SessionInfo,
    SessionStatus,
    dump,
    load_messages,
    load_result,
    plain,
)
from agentkit.sessions.schema import (
    events,
    open_engine,
    prepare,
    reason,
    runs,
    sa,
    sessions,
)

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.sessions.session import Session

__all__ = ["SessionStore"]

T = TypeVar("T")
_THREADS = 8
_BEATS = 6  # within a lease
# What the last run of a session makes of the session; any other leaves it idle.
_ACTIVE: dict[str, SessionStatus] = {
    "running": "running",
    "waiting": "waiting",
    "interrupted": "interrupted",
}


class SessionStore:
    """Conversations with agents, in a database.

    Any number of processes may use one at once; each session has one run at a time. Methods that
    are not async wait for the database: milliseconds, but not for an event loop that serves
    many.

    Made by :meth:`open`; a context manager, which closes it.
    """

    def __init__(self, engine: sa.Engine, *, lease: float) -> None:
        self._engine = engine
        self._lease = lease
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="agentkit-sessions")
        self.heart = Heart(self._beat, lease / _BEATS)
        """Says that the runs of this process are at work."""

    @classmethod
    def open(cls, url: str | Path | None = None, *, lease: float = 30.0) -> SessionStore:
        """Open a database; made if it is not there.

        Args:
            url: Path of an SQLite file, or a URL: ``sqlite:///file``, ``postgresql://...``. If
                not given, ``sessions.db`` in the user's folder for data.
            lease: Seconds after which a run of another machine counts as interrupted, if nothing
                was heard of it. Those of this machine do as soon as their process is gone.

        Raises:
            UserError: It cannot be such a database.
            MissingExtraError: A package is not installed.
            SessionError: The database cannot be used, or was written by a newer agentkit.
        """
        if lease <= 0:
            raise UserError(f"lease is {lease!r}; it must be above 0 seconds")
        if url is None:
            from platformdirs import user_data_path

            url = user_data_path("agentkit", appauthor=False, ensure_exists=True) / "sessions.db"
        engine = open_engine(url)
        try:
            prepare(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, lease=lease)

    def create(
        self,
        *,
        agent: Agent | str = "",
        title: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Begin a session.

        Args:
            agent: For whom, or the name; kept for lists.
            title: The beginning of the first prompt, if not given.
            metadata: Whatever the program wants to keep with it; JSON.
        """
        session_id = f"session_{uuid.uuid4().hex}"
        now = time.time()
        name = agent if isinstance(agent, str) else agent.name
        row = {
            "id": session_id,
            "title": plain(title),
            "title_key": plain(title).casefold(),
            "agent": plain(name),
            "metadata": dump(dict(metadata or {})),
            "created": now,
            "updated": now,
        }
        self.write(lambda connection: connection.execute(sessions.insert().values(row)))
        return self._session(session_id)

    def get(self, session_id: str) -> Session:
        """A session by its id.

        Raises:
            UserError: There is none.
        """
        self.info(session_id)
        return self._session(session_id)

    def info(self, session_id: str) -> SessionInfo:
        """What there is to say of a session.

        Raises:
            UserError: There is none of this id.
        """
        found = self._infos(sa.select(sessions).where(sessions.c.id == plain(session_id)))
        if not found:
            raise _unknown(session_id)
        return found[0]

    def list(
        self,
        *,
        search: str = "",
        agent: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> builtins.list[SessionInfo]:
        """Sessions, the last used first.

        Args:
            search: Only those whose title holds this text, in whatever case.
            agent: Only those of this agent.
            limit: At most so many.
            offset: Leave out so many before.
        """
        query = sa.select(sessions).order_by(sessions.c.updated.desc(), sessions.c.id)
        if search:
            key = plain(search).casefold()
            query = query.where(sessions.c.title_key.contains(key, autoescape=True))
        if agent is not None:
            query = query.where(sessions.c.agent == plain(agent))
        return self._infos(query.limit(limit).offset(offset))

    def rename(self, session_id: str, title: str) -> None:
        """Give a session another title.

        Raises:
            UserError: There is none of this id.
        """
        values = {"title": plain(title), "title_key": plain(title).casefold()}
        query = sessions.update().where(sessions.c.id == plain(session_id)).values(values)
        if self.write(lambda connection: connection.execute(query).rowcount) == 0:
            raise _unknown(session_id)

    def delete(self, session_id: str) -> None:
        """Remove a session with all its runs. One that is at work ends with an error.

        Raises:
            UserError: There is none of this id.
        """
        query = sessions.delete().where(sessions.c.id == plain(session_id))
        if self.write(lambda connection: connection.execute(query).rowcount) == 0:
            raise _unknown(session_id)

    def runs(self, session_id: str) -> builtins.list[RunInfo]:
        """The runs of a session, in order."""
        query = sa.select(runs).where(runs.c.session_id == session_id).order_by(runs.c.number)
        rows = self.read(lambda connection: connection.execute(query).all())
        return [_run_info(row, self.status_of(row)) for row in rows]

    def events(self, run_id: str) -> builtins.list[tuple[str, int, Any, float]]:
        """Everything that was written down of a run: kind, step, data and time."""
        query = sa.select(events).where(events.c.run_id == run_id).order_by(events.c.id)
        rows = self.read(lambda connection: connection.execute(query).all())
        return [(row.kind, row.step, json.loads(row.data), row.time) for row in rows]

    def close(self) -> None:
        """Let go of the database; runs must be over."""
        self.heart.stop()
        self._threads.shutdown()
        self._engine.dispose()

    def __enter__(self) -> SessionStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def status_of(self, run: Any) -> Any:
        """The status of a run's row; of one whose process is gone, ``interrupted``."""
        if run.status == "running":
            late = time.time() - run.beat > self._lease
            if is_gone(run.owner) or late:
                return "interrupted"
        return run.status

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do something in one transaction, which is on the disk afterwards.

        Raises:
            SessionError: The database did not let us.
        """
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            raise SessionError(f"a session could not be written: {reason(error)}") from error

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Look something up, all at one moment.

        Raises:
            SessionError: The database did not let us.
        """
        try:
            with self._engine.connect() as connection:
                return work(connection.execution_options(agentkit_reads=True))
        except sa.exc.SQLAlchemyError as error:
            raise SessionError(f"a session could not be read: {reason(error)}") from error

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Wait for the database without holding up the event loop.

        What has begun is waited for, also where the caller is cancelled.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, work, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def _beat(self, owners: builtins.list[str]) -> None:
        query = runs.update().where(runs.c.owner.in_(owners), runs.c.status == "running")
        self.write(lambda connection: connection.execute(query.values(beat=time.time())))

    def _infos(self, query: Any) -> builtins.list[SessionInfo]:
        def work(connection: sa.Connection) -> tuple[Any, Any]:
            rows = connection.execute(query).all()
            columns = [runs.c[n] for n in ("session_id", "number", "status", "owner", "beat")]
            last = sa.select(*columns).where(runs.c.session_id.in_([row.id for row in rows]))
            found = {run.session_id: run for run in connection.execute(last.order_by("number"))}
            return rows, found

        rows, last = self.read(work)
        found = []
        for row in rows:
            run = last.get(row.id)
            status = self.status_of(run) if run is not None else "idle"
            found.append(
                SessionInfo(
                    id=row.id,
                    title=row.title,
                    agent=row.agent,
                    status=_ACTIVE.get(status, "idle"),
                    runs=run.number if run is not None else 0,
                    created=row.created,
                    updated=row.updated,
                    metadata=json.loads(row.metadata),
                )
            )
        return found

    def _session(self, session_id: str) -> Session:
        from agentkit.sessions.session import Session

        return Session(self, session_id)


def _run_info(row: Any, status: Any) -> RunInfo:
    kept = row.result if row.result is not None else row.state if status == "waiting" else None
    return RunInfo(
        id=row.id,
        number=row.number,
        status=status,
        prompt=load_messages(row.prompt),
        result=None if kept is None else load_result(kept),
        error=row.error,
        created=row.created,
        updated=row.updated,
    )


def _unknown(session_id: str) -> UserError:
    return UserError(f"there is no session {session_id!r:.100}; SessionStore.list has them")
