"""Tools that let a model read an SQLite or DuckDB database."""

from __future__ import annotations

import difflib
import os
import re
import threading
from typing import Any

from agentkit.errors import ToolError, UserError
from agentkit.tools import ToolContext
from agentkit_tools._sql_engines import (
    DuckDBEngine,
    Engine,
    Rows,
    SQLiteEngine,
    Table,
    deadline,
    quote,
)
from agentkit_tools._toolkit import Toolkit
from agentkit_tools.function import FunctionTool

__all__ = ["SQLTools"]

_MAX_CELL_CHARS = 200
_SAMPLE_ROWS = 3


class SQLTools(Toolkit):
    """``describe_tables`` and ``query_database``: a database to read, with :meth:`sqlite` or
    :meth:`duckdb`.

    Reading is all that the engine allows: the file is opened read-only; an SQLite statement
    passes an authorizer that knows ``SELECT`` only (no ``ATTACH``, no ``PRAGMA``, no extensions);
    a DuckDB one has no access to files, the network, extensions, settings or the program's
    variables. One statement a call; when its time is over, it is interrupted. Rows and bytes are
    capped. Not capped is the memory of one function call in DuckDB that makes a huge text, such
    as ``repeat('x', 1000000000)``, which is also interrupted only after it.

    Args:
        engine: The database.
        max_rows: Rows that one call gives.
        max_bytes: Characters that one call gives.
        timeout: Seconds that a statement may take.
    """

    def __init__(
        self, engine: Engine, *, max_rows: int = 50, max_bytes: int = 8000, timeout: float = 10.0
    ) -> None:
        for name, value in {
            "max_rows": max_rows,
            "max_bytes": max_bytes,
            "timeout": timeout,
        }.items():
            if not value > 0:
                raise UserError(f"SQLTools: {name} must be more than 0, not {value!r}")
        self._engine = engine
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._timeout = timeout
        # The statement is stopped by its own clock; the agent's is only the net below it.
        outer = timeout + 10
        query = f"Read the {engine.dialect} database with one SQL SELECT statement."
        super().__init__(
            [
                FunctionTool(self.describe_tables, timeout=outer),
                FunctionTool(self.query_database, timeout=outer, description=query),
            ]
        )

    @classmethod
    def sqlite(cls, path: str | os.PathLike[str], **options: Any) -> SQLTools:
        """Tools for an SQLite file.

        Args:
            path: Of the file.
            options: See :class:`SQLTools`.

        Raises:
            UserError: There is no such database, or an option is out of range.
        """
        return cls(SQLiteEngine(path), **options)

    @classmethod
    def duckdb(
        cls, path: str | os.PathLike[str], *, memory_limit: str = "512MB", **options: Any
    ) -> SQLTools:
        """Tools for a DuckDB file. The program must not have it open for writing.

        Args:
            path: Of the file.
            memory_limit: For what the engine keeps of tables and results.
            options: See :class:`SQLTools`.

        Raises:
            MissingExtraError: duckdb is not installed.
            UserError: There is no such database, or an option is out of range.
        """
        return cls(DuckDBEngine(path, memory_limit=memory_limit), **options)

    def describe_tables(self, table: str | None = None, *, context: ToolContext) -> str:
        """List the tables of the database with their columns, or show one table's first rows.

        Args:
            table: Show only this table, with its first rows
        """
        stop = deadline(self._timeout, context.cancelled)
        tables = self._engine.tables(stop)
        if table is None:
            return self._cut("\n".join(map(_describe, tables)) or "the database has no tables")
        known = {one.name.lower(): one for one in tables}
        wanted = table.strip().strip('"`[]').lower()
        if wanted not in known:
            raise ToolError(f"there is no table {table!r}; tables: {', '.join(known) or 'none'}")
        found = known[wanted]
        name = ".".join(quote(part) for part in found.name.split(".", 1))
        rows = self._engine.query(f"SELECT * FROM {name} LIMIT {_SAMPLE_ROWS}", _SAMPLE_ROWS, stop)
        return self._cut(f"{_describe(found)}\nFirst rows:\n{self._table(rows)}")

    def query_database(self, sql: str, *, context: ToolContext) -> str:
        """Read the database with one SQL SELECT statement.

        Args:
            sql: Such as "SELECT name, total FROM orders WHERE total > 10 ORDER BY total DESC"
        """
        stop = deadline(self._timeout, context.cancelled)
        try:
            rows = self._engine.query(sql, self._max_rows, stop)
        except ToolError as error:
            raise ToolError(f"{error}{self._hint(str(error), context)}") from None
        return self._table(rows)

    def schema(self) -> str:
        """The tables and their columns, to be put into an agent's instructions."""
        tables = self._engine.tables(deadline(self._timeout, threading.Event()))
        return "\n".join(map(_describe, tables))

    def _hint(self, problem: str, context: ToolContext) -> str:
        """What there is instead of a name that is not there."""
        match = re.search(
            r"no such (?:table|column): (\S+)|Table with name (\S+) does not exist"
            r'|Referenced column "([^"]+)" not found',
            problem,
        )
        if match is None:
            return ""
        tables = self._engine.tables(deadline(self._timeout, context.cancelled))
        wanted = next(group for group in match.groups() if group).rpartition(".")[2].lower()
        if "column" in match.group().lower():
            names = {column.name.lower() for table in tables for column in table.columns}
            close = difflib.get_close_matches(wanted, sorted(names), n=3, cutoff=0.5)
            if close:
                places = [
                    f"{table.name}.{column.name}"
                    for table in tables
                    for column in table.columns
                    if column.name.lower() in close
                ]
                return f"; similar columns: {', '.join(places[:6])}"
        return self._cut("; the tables are:\n" + "\n".join(map(_describe, tables)))

    def _table(self, rows: Rows) -> str:
        if not rows.rows:
            return f"no rows (columns: {', '.join(rows.names)})"
        lines, size = [" | ".join(map(_cell, rows.names))], 0
        shown = 0
        for row in rows.rows:
            line = " | ".join(map(_cell, row))
            size += len(line) + 1
            if size > self._max_bytes and shown:
                break
            lines.append(line[: self._max_bytes])
            shown += 1
        if shown < len(rows.rows) or rows.more:
            lines.append(f"[the first {shown} rows; there are more: count, group or filter them]")
        return "\n".join(lines)

    def _cut(self, text: str) -> str:
        if len(text) <= self._max_bytes:
            return text
        return text[: self._max_bytes] + "… [cut; name one table to see it]"


def _describe(table: Table) -> str:
    columns = ", ".join(
        " ".join(filter(None, (column.name, column.type, column.note and f"({column.note})")))
        for column in table.columns
    )
    return f"{table.name}({columns})" + (" [view]" if table.is_view else "")


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    text = " ".join(str(value)[: 2 * _MAX_CELL_CHARS].split())
    return text if len(text) <= _MAX_CELL_CHARS else text[:_MAX_CELL_CHARS] + "…"
