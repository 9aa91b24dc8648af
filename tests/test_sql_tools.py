"""Databases that a model may read: what it sees, and what the engines refuse."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel, ToolCall, ToolContext, ToolError, UserError
from agentkit_tools import SQLTools

duckdb = pytest.importorskip("duckdb")

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name VARCHAR, city VARCHAR);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers (id),
    total DOUBLE, note VARCHAR
);
INSERT INTO customers VALUES (1, 'Ann', 'Oslo'), (2, 'Bob', NULL);
INSERT INTO orders VALUES (1, 1, 9.5, 'first'), (2, 1, 20.25, 'a' || chr(10) || 'b'), (3, 2, 1, '');
CREATE VIEW totals AS SELECT name, sum(total) AS total FROM orders
    JOIN customers ON customers.id = customer_id GROUP BY name;
"""


@pytest.fixture(params=["sqlite", "duckdb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"shop.{request.param}"
    if request.param == "sqlite":
        with sqlite3.connect(path) as connection:
            connection.executescript(SCHEMA.replace("chr(10)", "char(10)"))
        connection.close()
    else:
        with duckdb.connect(str(path)) as connection:
            connection.execute(SCHEMA)
    return path


def open_tools(path: Path, **options: Any) -> SQLTools:
    return getattr(SQLTools, path.suffix[1:])(path, **options)


def call(tools: SQLTools, tool_name: str, /, **arguments: Any) -> str:
    tool = next(tool for tool in tools if tool.definition.name == tool_name)
    return str(asyncio.run(tool.call(arguments, ToolContext(tool_name=tool_name))))


def query(tools: SQLTools, sql: str) -> str:
    return call(tools, "query_database", sql=sql)


def test_reading(database: Path) -> None:
    tools = open_tools(database)
    described = call(tools, "describe_tables")
    assert "customers(id INTEGER (primary key), name VARCHAR, city VARCHAR)" in described
    assert "customer_id INTEGER (refers to customers(id))" in described
    assert "totals(" in described
    assert described.count("[view]") == 1
    assert tools.schema() == described
    one = call(tools, "describe_tables", table="Customers")
    assert one.splitlines()[2:] == ["id | name | city", "1 | Ann | Oslo", "2 | Bob | NULL"]
    assert query(tools, "SELECT name, total FROM totals ORDER BY total DESC;") == (
        "name | total\nAnn | 29.75\nBob | 1.0"
    )
    assert query(tools, "SELECT note FROM orders WHERE id = 2") == "note\na b"
    assert query(tools, "SELECT id FROM orders WHERE id > 99") == "no rows (columns: id)"
    assert query(tools, "WITH x AS (SELECT 1 AS one) SELECT one FROM x") == "one\n1"


def test_caps(database: Path) -> None:
    tools = open_tools(database, max_rows=2, max_bytes=300)
    assert query(tools, "SELECT id FROM orders ORDER BY id").splitlines() == [
        "id",
        "1",
        "2",
        "[the first 2 rows; there are more: count, group or filter them]",
    ]
    long = query(tools, "SELECT replace(hex(1), '3', 'x') || printf('%0500d', 0) AS v"
                 if database.suffix == ".sqlite" else "SELECT repeat('x', 5000) AS v")  # fmt: skip
    assert len(long) < 250
    wide = open_tools(database, max_rows=50, max_bytes=50)
    crossed = query(wide, "SELECT a.note, a.id, b.id FROM orders a, orders b, orders c")
    assert "there are more" in crossed
    assert len(crossed) < 200


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO customers VALUES (3, 'Eve', 'Rome')",
        "UPDATE customers SET name = 'Eve'",
        "DELETE FROM customers",
        "DROP TABLE customers",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE x (a INTEGER)",
        "ATTACH '{other}' AS other",
        "VACUUM INTO '{other}'",
        "PRAGMA query_only = OFF",
        "PRAGMA database_list",
        "BEGIN",
        "SELECT 1; DELETE FROM customers",
        "SELECT 1; SELECT 2",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('{other}', 'x')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM local_variable",
        "COPY customers TO '{other}'",
        "EXPORT DATABASE '{other}'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL pragma_version()",
        "EXPLAIN DELETE FROM customers",
        "WITH x AS (SELECT 1) DELETE FROM customers",
        "",
        ";",
        "nonsense",
    ],
)
def test_everything_else_is_refused(database: Path, tmp_path: Path, sql: str) -> None:
    local_variable = [[1]]
    before = database.read_bytes()
    tools = open_tools(database)
    other = tmp_path / "other"
    with pytest.raises(ToolError):
        query(tools, sql.format(other=other))
    assert local_variable
    assert database.read_bytes() == before
    assert not other.exists()
    assert query(tools, "SELECT count(*) AS n FROM customers") == "n\n2"


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
CARTESIAN = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
    "SELECT sum((a.i * b.i + c.i) % 7) FROM n a, n b, n c"
)


@pytest.mark.parametrize("sql", [CARTESIAN, ENDLESS])
def test_long_statements_are_interrupted(database: Path, sql: str) -> None:
    tools = open_tools(database, timeout=0.3)
    begin = time.monotonic()
    with pytest.raises(ToolError, match="took too long and was stopped"):
        query(tools, sql)
    assert time.monotonic() - begin < 60  # Seconds; the statements themselves take hours.
    assert query(tools, "SELECT 1 AS one") == "one\n1"


def test_cancelling_interrupts(database: Path) -> None:
    tools = open_tools(database, timeout=300)
    context = ToolContext(tool_name="query_database")
    threading.Timer(0.2, context.cancelled.set).start()
    with pytest.raises(ToolError, match="stopped"):
        asyncio.run(tools[1].call({"sql": CARTESIAN}, context))


def test_huge_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    sqlite3.connect(path).close()
    with pytest.raises(ToolError, match="too big"):
        query(SQLTools.sqlite(path), "SELECT randomblob(1000000000)")
    assert query(SQLTools.sqlite(path), "SELECT length(printf('%01000000000d', 1)) n") in (
        "n\n0",
        "n\nNULL",
    )


def test_wrong_names_are_answered_with_right_ones(database: Path) -> None:
    tools = open_tools(database)
    with pytest.raises(ToolError, match=r"similar columns: .*customers.name"):
        query(tools, "SELECT nam FROM customers")
    with pytest.raises(ToolError, match=r"customers\(id"):
        query(tools, "SELECT * FROM clients")
    with pytest.raises(ToolError, match="tables: customers, orders, totals"):
        call(tools, "describe_tables", table="client")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("not a database, but long enough to look at " * 10)
    for make in (SQLTools.sqlite, SQLTools.duckdb):
        with pytest.raises(UserError, match=r"text\.txt"):
            make(path)
        with pytest.raises(UserError, match="no database file"):
            make(tmp_path / "none.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(UserError, match="max_rows"):
        SQLTools.sqlite(tmp_path / "empty.db", max_rows=0)


def test_in_an_agent(database: Path) -> None:
    model = ScriptedModel(
        [
            ToolCall(name="query_database", arguments={"sql": "DELETE FROM orders"}),
            ToolCall(name="query_database", arguments={"sql": "SELECT max(total) m FROM orders"}),
            "20.25",
        ]
    )
    result = Agent(model, open_tools(database)).run_sync("What was the largest order?")
    assert [record.status for record in result.calls] == ["failed", "ok"]
    assert result.calls[1].observation == "m\n20.25"
