"""Conversations kept in a database: SQLite by default, Postgres by URL.

Every step of a run is committed before the run goes on, so that it can be resumed after the
process was killed. Needs the extra ``sessions`` (and ``postgres`` for Postgres)::

    store = SessionStore.open("sessions.db")
    session = store.create(agent=agent)
    result = await session.run(agent, "Book the flight.")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.sessions.records import RunInfo, SessionInfo
    from agentkit.sessions.session import Session
    from agentkit.sessions.store import SessionStore

_HOMES = {
    "RunInfo": ".records",
    "Session": ".session",
    "SessionInfo": ".records",
    "SessionStore": ".store",
}

__all__ = ["RunInfo", "Session", "SessionInfo", "SessionStore"]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
