"""The tables, their versions, and opening a database."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentkit.errors import MissingExtraError, SessionError, UserError

try:
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise MissingExtraError(
        "sessions need SQLAlchemy; install it with `pip install agentkit-granite[sessions]`"
    ) from error

__all__ = [
    "MIGRATIONS",
    "VERSION",
    "events",
    "open_engine",
    "prepare",
    "reason",
    "runs",
    "sa",
    "sessions",
]

VERSION = 1
"""The version of the tables that this code reads and writes."""

MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {}
"""What makes tables of a version into those of the next one, by the older version's number."""

_BUSY_MS = 30_000
_LOCK = 0x61676B74  # of Postgres, held while tables are made
_metadata = sa.MetaData()
_key = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_meta = sa.Table(
    "agentkit_meta",
    _metadata,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
)
sessions = sa.Table(
    "agentkit_sessions",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("title_key", sa.Text, nullable=False),  # casefolded: SQLite's lower() knows ASCII
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("updated", sa.Double, nullable=False, index=True),
)
runs = sa.Table(
    "agentkit_runs",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column(
        "session_id",
        sa.ForeignKey(sessions.c.id, ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("system", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("state_event", _key, nullable=False),  # events after it are not in the state
    sa.Column("searched", sa.Boolean, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("beat", sa.Double, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("updated", sa.Double, nullable=False),
    sa.UniqueConstraint("session_id", "number"),
)
events = sa.Table(
    "agentkit_events",
    _metadata,
    sa.Column("id", _key, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    # Ids of removed events are not used again.
    sqlite_autoincrement=True,
)


def open_engine(url: str | Path) -> sa.Engine:
    """Connect to a database.

    Args:
        url: Path of an SQLite file, or a URL: ``sqlite:///file`` or ``postgresql://...``.

    Raises:
        UserError: It is neither.
        MissingExtraError: The driver is not installed.
    """
    text = str(url)
    if "://" not in text:
        text = f"sqlite:///{Path(text).expanduser().absolute()}"
    try:
        parsed = sa.make_url(text)
    except SQLAlchemyError as error:
        raise UserError(f"{_shown(text)} is no URL of a database") from error
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _open_sqlite(parsed)
    if kind not in ("postgresql", "postgres"):
        raise UserError(
            f"sessions are kept in SQLite or Postgres, not in {kind!r}; give a path, "
            "sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    if "+" not in parsed.drivername:
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(parsed, hide_parameters=True, pool_pre_ping=True)
    except ImportError as error:
        raise MissingExtraError(
            "sessions in Postgres need psycopg; install it with "
            "`pip install agentkit-granite[sessions,postgres]`"
        ) from error


def prepare(engine: sa.Engine) -> None:
    """Make the tables, or bring them up to date.

    Raises:
        SessionError: They are of a newer version, or the database cannot be used.
    """
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            if not sa.inspect(connection).has_table(_meta.name):
                _metadata.create_all(connection)
                connection.execute(_meta.insert().values(key="version", value=str(VERSION)))
                return
            _migrate(connection)
    except SQLAlchemyError as error:
        raise SessionError(
            f"the sessions' database {_shown(str(engine.url))} cannot be used: {reason(error)}"
        ) from error


def reason(error: SQLAlchemyError) -> str:
    """What a database says, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _migrate(connection: sa.Connection) -> None:
    found = connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "version"))
    where = _shown(str(connection.engine.url))
    if found is None or not str(found).isdigit():
        raise SessionError(f"{where} says of its sessions' version {found!r}, which is none")
    version = int(found)
    if version > VERSION:
        raise SessionError(
            f"{where} holds sessions of version {version}, and this agentkit knows up to version "
            f"{VERSION}; it was written by a newer agentkit: update this one"
        )
    while version < VERSION:
        if version not in MIGRATIONS:
            raise SessionError(
                f"{where} holds sessions of version {version}, which this agentkit cannot bring "
                f"up to version {VERSION}"
            )
        MIGRATIONS[version](connection)
        version += 1
    values = {"value": str(version)}
    connection.execute(_meta.update().where(_meta.c.key == "version").values(values))


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:" or "mode=memory" in url.database:
        raise UserError("sessions need a file, as they are to outlive the process; give its path")
    path = Path(url.database)
    try:
        # Conversations are nobody else's business; SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise UserError(
            f"the sessions' database {path} cannot be written: {error.strerror or error}"
        ) from error
    engine = sa.create_engine(url, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # Transactions are begun below.
        for pragma in (
            f"busy_timeout={_BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",  # A commit is on the disk.
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Writers take their lock at once: one that has read first could not get it any more.
        reads = connection.get_execution_options().get("agentkit_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _shown(url: str) -> str:
    """A URL without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "the given text"
