"""The database of a durable index: its tables, and connections to it."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from agentkit.errors import IndexFormatError
from agentkit_retrievers.store_rows import show

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DATABASE", "DATABASE_FILES", "connect", "create_database"]

DATABASE = "documents.sqlite"
"""The database's file name."""
DATABASE_FILES = tuple(DATABASE + ending for ending in ("", "-wal", "-shm", "-journal"))
"""Names of all files that SQLite makes for it."""

_SCHEMA = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE documents (
    row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    head TEXT NOT NULL, text BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE vectors (row INTEGER PRIMARY KEY, data BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE dead (row INTEGER PRIMARY KEY);
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL,
    next_row INTEGER NOT NULL, documents INTEGER NOT NULL, spec TEXT NOT NULL, built TEXT);
INSERT INTO state VALUES (1, 0, 0, 0, '{}', NULL);
COMMIT;
"""


def create_database(folder: Path) -> None:
    """Make an empty database, in place of what is left of one."""
    for name in DATABASE_FILES:
        (folder / name).unlink(missing_ok=True)
    connection = sqlite3.connect(folder / DATABASE)
    try:
        connection.executescript(_SCHEMA)
    finally:
        connection.close()


def connect(path: Path, read_only: bool) -> sqlite3.Connection:
    """A connection to a database that is there.

    Raises:
        IndexFormatError: It is not.
    """
    if not path.is_file():
        raise IndexFormatError(f"the index in {show(path.parent)} lacks its file {path.name}")
    mode = "rw"
    if read_only and not os.access(path.parent, os.W_OK):
        mode = "ro&immutable=1"  # Nobody can write there, and neither could SQLite its locks.
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=60,
    )
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # What was removed is not on the disk.
    return connection
