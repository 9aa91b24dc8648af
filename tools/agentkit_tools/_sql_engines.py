"""SQLite and DuckDB opened so that a statement can read the database and nothing else.

What is forbidden is forbidden by the engine, not by looking at the text of the statement.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agentkit.errors import MissingExtraError, ToolError, UserError

__all__ = ["Column", "DuckDBEngine", "Engine", "Rows", "SQLiteEngine", "Table"]

_MAX_VALUE_BYTES = 1_000_000
_MAX_STATEMENT_CHARS = 20_000
_POLL_S = 0.05
# Everything that a statement may do to SQLite; the rest (ATTACH, PRAGMA, writing) it may not.
_SQLITE_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
# Functions that reach beyond the database, where a build or an extension has them.
_SQLITE_FORBIDDEN = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "zeroblob"}
)
_DUCKDB_SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    # Otherwise a table's name may be that of a variable of the Python program.
    "python_enable_replacements": "false",
    "temp_directory": "",
    "lock_configuration": "true",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    name: str
    """Its name."""
    type: str
    """The database's word for its type."""
    note: str = ""
    """``primary key``, or what it refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table or view."""

    name: str
    """Its name."""
    columns: Sequence[Column]
    """In their order."""
    is_view: bool = False
    """Whether it is a view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The first rows of a result."""

    names: Sequence[str]
    """Of the columns."""
    rows: Sequence[Sequence[Any]] = field(default_factory=tuple)
    """At most as many as were asked for."""
    more: bool = False
    """Whether there are further ones."""


class Engine(Protocol):
    """A database that can be read."""

    dialect: str
    """``SQLite`` or ``DuckDB``."""

    def tables(self, stop: Callable[[], bool]) -> list[Table]:
        """Tables and views by name."""
        ...

    def query(self, sql: str, limit: int, stop: Callable[[], bool]) -> Rows:
        """The first ``limit`` rows of a statement.

        Raises:
            ToolError: The statement is wrong, forbidden, or was stopped.
        """
        ...


def quote(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


class SQLiteEngine:
    """An SQLite database.

    Args:
        path: Of the file, which must exist.
    """

    dialect = "SQLite"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = _existing(path)
        self._uri = f"{self._path.as_uri()}?mode=ro"
        with self._open(lambda: False) as connection:
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.Error as error:
                raise UserError(f"{path} cannot be read as an SQLite database: {error}") from None

    @contextmanager
    def _open(self, stop: Callable[[], bool]) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._uri, uri=True, timeout=5.0)) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 4 * _MAX_STATEMENT_CHARS)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100)
            connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.set_progress_handler(stop, 10_000)
            yield connection

    def tables(self, stop: Callable[[], bool]) -> list[Table]:
        """Tables and views by name."""
        tables = []
        with self._open(stop) as connection:
            found = connection.execute(
                "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') "
                "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
            ).fetchall()
            for name, kind in found:
                try:
                    columns = self._columns(connection, name)
                except sqlite3.Error:
                    continue  # A view whose tables are gone; a virtual table without its module.
                tables.append(Table(name=name, columns=columns, is_view=kind == "view"))
        return tables

    def _columns(self, connection: sqlite3.Connection, table: str) -> list[Column]:
        references = {
            row[3]: f"refers to {row[2]}({row[4] or 'its key'})"
            for row in connection.execute(f"PRAGMA foreign_key_list({quote(table)})")
        }
        return [
            Column(
                name=name,
                type=kind,
                note="primary key" if key else references.get(name, ""),
            )
            for _, name, kind, _, _, key in connection.execute(f"PRAGMA table_info({quote(table)})")
        ]

    def query(self, sql: str, limit: int, stop: Callable[[], bool]) -> Rows:
        """The first ``limit`` rows of a statement."""
        _check_length(sql)
        with self._open(stop) as connection:
            connection.set_authorizer(_authorize)
            try:
                cursor = connection.execute(sql)
                if cursor.description is None:
                    raise ToolError("the statement gives no rows; pass a SELECT statement")
                names = [column[0] for column in cursor.description]
                rows = cursor.fetchmany(limit + 1)
            except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
                raise ToolError(_sqlite_words(error)) from None
            return Rows(names=names, rows=rows[:limit], more=len(rows) > limit)


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, inner: str | None
) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        forbidden = (second or "").lower() in _SQLITE_FORBIDDEN
        return sqlite3.SQLITE_DENY if forbidden else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _SQLITE_ALLOWED else sqlite3.SQLITE_DENY


def _sqlite_words(error: Exception) -> str:
    text = str(error)
    if "one statement at a time" in text:
        return "pass one statement, not several"
    if "interrupted" in text:
        return _stopped()
    if "not authorized" in text or "prohibited" in text or "readonly" in text:
        return f"only reading is allowed ({text}); pass one SELECT statement"
    return f"SQLite: {text}"


class DuckDBEngine:
    """A DuckDB database.

    Args:
        path: Of the file, which must exist.
        memory_limit: For what the engine keeps of tables and results, as in ``"512MB"``.
    """

    dialect = "DuckDB"

    def __init__(self, path: str | os.PathLike[str], *, memory_limit: str = "512MB") -> None:
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtraError(
                "reading DuckDB databases needs duckdb; install it with "
                "`pip install agentkit-granite[duckdb]`"
            ) from error
        self._duckdb = duckdb
        self._path = str(_existing(path))
        self._settings = {"memory_limit": memory_limit, "threads": "2", **_DUCKDB_SETTINGS}
        try:
            self._connect().close()
        except duckdb.Error as error:
            raise UserError(f"{path} cannot be opened as a DuckDB database: {error}") from None

    def _connect(self) -> Any:
        return self._duckdb.connect(self._path, read_only=True, config=self._settings)

    @contextmanager
    def _open(self, stop: Callable[[], bool]) -> Iterator[Any]:
        try:
            connection = self._connect()
        except self._duckdb.Error as error:
            raise ToolError(f"the database cannot be opened now: {_first_line(error)}") from None
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_POLL_S):
                if stop():
                    connection.interrupt()

        watcher = threading.Thread(target=watch, name="agentkit-duckdb-watch", daemon=True)
        watcher.start()
        try:
            yield connection
        finally:
            done.set()
            watcher.join()
            connection.close()

    def tables(self, stop: Callable[[], bool]) -> list[Table]:
        """Tables and views by name, those of the schema ``main`` without its name."""
        with self._open(stop) as connection:
            try:
                columns = connection.execute(
                    "SELECT table_schema, table_name, column_name, data_type FROM "
                    "information_schema.columns WHERE table_catalog = current_database() "
                    "ORDER BY table_schema, table_name, ordinal_position"
                ).fetchall()
                views = connection.execute(
                    "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal"
                ).fetchall()
                keys = connection.execute(
                    "SELECT schema_name, table_name, unnest(constraint_column_names), "
                    "constraint_type, constraint_text FROM duckdb_constraints() "
                    "WHERE constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY')"
                ).fetchall()
            except self._duckdb.Error as error:
                raise ToolError(self._words(error)) from None
        notes = {
            (schema, table, column): "primary key"
            if kind == "PRIMARY KEY"
            else "refers to " + text.rpartition("REFERENCES ")[2]
            for schema, table, column, kind, text in keys
        }
        found: dict[tuple[str, str], list[Column]] = {}
        for schema, table, column, kind in columns:
            found.setdefault((schema, table), []).append(
                Column(name=column, type=kind, note=notes.get((schema, table, column), ""))
            )
        return [
            Table(
                name=table if schema == "main" else f"{schema}.{table}",
                columns=parts,
                is_view=(schema, table) in set(views),
            )
            for (schema, table), parts in found.items()
        ]

    def query(self, sql: str, limit: int, stop: Callable[[], bool]) -> Rows:
        """The first ``limit`` rows of a statement."""
        _check_length(sql)
        kinds = self._duckdb.StatementType
        with self._open(stop) as connection:
            try:
                statements = connection.extract_statements(sql)
                if len(statements) != 1:
                    raise ToolError("pass one statement, not several or none")
                if statements[0].type not in (kinds.SELECT, kinds.EXPLAIN):
                    raise ToolError("only reading is allowed; pass one SELECT statement")
                # Not fetched as a whole: of a result of any size, only these rows are made.
                result = connection.execute(statements[0])
                names = [column[0] for column in result.description]
                rows = result.fetchmany(limit + 1)
            except self._duckdb.Error as error:
                raise ToolError(self._words(error)) from None
            return Rows(names=names, rows=rows[:limit], more=len(rows) > limit)

    def _words(self, error: Exception) -> str:
        if isinstance(error, self._duckdb.InterruptException):
            return _stopped()
        if isinstance(error, self._duckdb.PermissionException):
            return f"only the database's own tables may be read ({_first_line(error)})"
        return f"DuckDB: {_first_line(error)}"


def _existing(path: str | os.PathLike[str]) -> Path:
    resolved = Path(path).resolve()
    if not resolved.is_file():
        raise UserError(f"there is no database file {str(path)!r}")
    return resolved


def _check_length(sql: str) -> None:
    if len(sql) > _MAX_STATEMENT_CHARS:
        raise ToolError(f"the statement is longer than {_MAX_STATEMENT_CHARS} characters")
    if "\0" in sql:
        raise ToolError("the statement holds a zero byte")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).split("LINE ")[0].splitlines() if line.strip()]
    return " ".join(lines)[:300]


def _stopped() -> str:
    return "the statement took too long and was stopped; read fewer rows or join on a column"


def deadline(seconds: float, cancelled: threading.Event) -> Callable[[], bool]:
    """Whether the time is over, or nobody waits any more."""
    end = time.monotonic() + seconds
    return lambda: cancelled.is_set() or time.monotonic() > end
