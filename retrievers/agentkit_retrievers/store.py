"""The tables of a durable index: documents, state and recent vectors in SQLite.

SQLite because its transactions are the one thing that an index on disk cannot do without: a
commit that is whole or not there whatever moment the process dies at, readers that keep seeing
one state while a writer goes on, and writing that costs what changes. It is part of Python.

What would not fit it well, the built FAISS index of perhaps gigabytes, is a file beside it that
is never changed once a transaction refers to it; FAISS maps it into memory. A commit writes its
vectors into the database. When enough have come together they are merged into a new file, and the
old one goes as soon as the transaction that refers to the new one is complete.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agentkit.errors import IndexFormatError, RetrievalError, UserError
from agentkit_retrievers.built_files import read_built, write_built
from agentkit_retrievers.fresh_vectors import FreshVectors
from agentkit_retrievers.index_spec import IndexSpec
from agentkit_retrievers.storage import sync
from agentkit_retrievers.store_database import DATABASE, connect
from agentkit_retrievers.store_rows import (
    checked_vector,
    damaged,
    key_of,
    pack_document,
    pack_vector,
    sha256,
    show,
    unpack_document,
)
from agentkit_retrievers.vector_index import VectorIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agentkit.retrieval import Document
    from agentkit_retrievers.document_table import Change
    from agentkit_retrievers.index_kinds import BuiltIndex

__all__ = ["StoredTable"]

_BATCH = 500
_CHECKED_ON_OPENING = 64 << 20
"""Bytes up to which opening reads everything to see whether it is whole."""


class StoredTable:
    """A :class:`~agentkit_retrievers.document_table.DocumentTable` in a folder.

    One that only reads sees the state of its opening until :meth:`refresh`.

    Args:
        folder: With a database.
        dimension: Numbers in one vector.
        read_only: Never write.

    Raises:
        IndexFormatError: The database is damaged.
    """

    def __init__(self, folder: Path, dimension: int, *, read_only: bool) -> None:
        self.folder = folder
        self.read_only = read_only
        self._dimension = dimension
        self._lock = threading.RLock()
        self._mapped: tuple[str, BuiltIndex] | None = None
        with self._errors():
            self._connection = connect(folder / DATABASE, read_only)
            self._state = self._begin()

    # What there is

    @property
    def next_row(self) -> int:
        """A row higher than any that was ever used."""
        return int(self._state["next_row"])

    @property
    def generation(self) -> int:
        """How many commits there were."""
        return int(self._state["generation"])

    @property
    def spec(self) -> IndexSpec | None:
        """The specification of the index; ``None`` before there is one."""
        data = json.loads(self._state["spec"])
        return IndexSpec.from_dict(data) if data else None

    def __len__(self) -> int:
        return int(self._state["documents"])

    def rows(self, doc_ids: Iterable[str | int]) -> dict[str | int, int]:
        """The rows of those documents that there are."""
        keys = {key_of(doc_id): doc_id for doc_id in doc_ids}
        found = self._select("SELECT key, row FROM documents WHERE key IN", list(keys))
        return {keys[key]: row for key, row in found}

    def documents(self, rows: Iterable[int]) -> dict[int, Document]:
        """Documents by row; unknown rows are passed over."""
        columns = "SELECT row, head, text, crc FROM documents WHERE row IN"
        found = {r[0]: unpack_document(self.folder, *r) for r in self._select(columns, list(rows))}
        return {row: found[row] for row in rows if row in found}

    def scan(self) -> Iterator[tuple[int, Document]]:
        """All documents, oldest first; a batch at a time is in memory."""
        last = -1
        while True:
            with self._errors():
                batch = self._connection.execute(
                    "SELECT row, head, text, crc FROM documents WHERE row > ? ORDER BY row LIMIT ?",
                    (last, _BATCH),
                ).fetchall()
            if not batch:
                return
            yield from ((r[0], unpack_document(self.folder, *r)) for r in batch)
            last = batch[-1][0]

    def index(self, spec: IndexSpec) -> VectorIndex:
        """The vectors, the built index mapped into memory.

        Raises:
            IndexFormatError: Something is damaged or missing.
        """
        with self._errors():
            built = self._map_current()
            query = "SELECT row, data, crc FROM vectors ORDER BY row"
            recent = self._connection.execute(query).fetchall()
            dead = [row for (row,) in self._connection.execute("SELECT row FROM dead ORDER BY row")]
        data = b"".join(checked_vector(self.folder, *entry) for entry in recent)
        vectors = np.frombuffer(data, dtype="<f4").reshape(-1, self._dimension)
        rows = np.array([row for row, _, _ in recent], dtype=np.int64)
        return VectorIndex(
            spec=spec,
            built=built,
            fresh=FreshVectors(self._dimension).with_more(rows, vectors),
            dead=np.array(dead, dtype=np.int64),
        )

    def refresh(self) -> bool:
        """See what was committed since; whether that is anything."""
        with self._errors():
            before = self.generation
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
            self._state = self._begin()
            return self.generation != before

    # Writing

    def prepare(self, index: VectorIndex) -> VectorIndex:
        """Write a newly built part of an index to a file, which may take long.

        Returns:
            The index, that part of it mapped from the file.
        """
        built = index.built
        if built is None or (self._mapped is not None and built is self._mapped[1]):
            return index
        path = self.folder / f"index-{self.generation + 1:08d}.faiss"
        with self._errors(locked=False):
            about = write_built(built, path)
            sync(path)
            sync(self.folder)
            about |= {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
            mapped = read_built(path, about)
        self._mapped = json.dumps(about), mapped
        return replace(index, built=mapped)

    def commit(self, change: Change, index: VectorIndex) -> None:
        """Make a change durable, together with the index that goes with it, prepared.

        Raises:
            RetrievalError: It cannot be written, for one because a document's metadata are not
                what JSON can hold. Nothing has changed then.
        """
        if self.read_only:
            raise UserError(
                f"the index in {show(self.folder)} was opened with read_only=True; open it "
                "without to change it"
            )
        added = [
            (row, key_of(doc.doc_id), *pack_document(doc)) for row, doc in change.added.items()
        ]
        updated = [(*pack_document(doc), row) for row, doc in change.updated.items()]
        with self._errors():
            old = self._state
            entry = None
            if index.built is not None:
                assert self._mapped is not None
                assert index.built is self._mapped[1], "the index was not prepared"
                entry = self._mapped[0]
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._write(change, added, updated)
                self._write_index(change, index, entry != old["built"])
                self._connection.execute(
                    "UPDATE state SET generation = generation + 1, next_row = ?, documents = ?, "
                    "spec = ?, built = ?",
                    (
                        max(self.next_row, max(change.added, default=-1) + 1),
                        len(self) + len(added) - len(change.removed),
                        json.dumps(index.spec.to_dict()),
                        entry,
                    ),
                )
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._state = self._read_state()
        if entry != old["built"]:
            self.clear_leftovers()

    def shrink(self) -> None:
        """Give disk space that is no longer used back."""
        with self._errors():
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            # PASSIVE does what it can without waiting for readers.
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def clear_leftovers(self) -> None:
        """Delete files of built indexes that no state refers to. For the writer only."""
        built = json.loads(self._state["built"] or "{}")
        for path in self.folder.glob("index-*.faiss"):
            if path.name != built.get("file"):
                # Windows keeps files that a reader has mapped; the next time then.
                with suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Close the database; the table cannot be used afterwards."""
        with self._lock:
            self._connection.close()
            self._mapped = None

    def verify(self, *, fully: bool) -> None:
        """Check that everything is whole.

        Args:
            fully: Also where there is much to read; else only if that is quick.

        Raises:
            IndexFormatError: Something is damaged.
        """
        built = json.loads(self._state["built"] or "{}")
        size = (self.folder / DATABASE).stat().st_size + built.get("bytes", 0)
        if not fully and size > _CHECKED_ON_OPENING:
            return
        with self._errors():
            problems = self._connection.execute("PRAGMA quick_check(1)").fetchall()
            if problems != [("ok",)]:
                raise sqlite3.DatabaseError(problems[0][0])
            for entry in self._connection.execute("SELECT row, data, crc FROM vectors"):
                checked_vector(self.folder, *entry)
        for _ in self.scan():
            pass
        path = self.folder / built.get("file", "")
        if built and path.is_file() and sha256(path) != built["sha256"]:
            raise damaged(self.folder, f"the checksum of {path.name} is another")

    def _begin(self) -> dict[str, Any]:
        if self.read_only:
            # The transaction stays open: all that is read until refresh() is of one moment.
            self._connection.execute("BEGIN")
        return self._read_state()

    def _read_state(self) -> dict[str, Any]:
        cursor = self._connection.execute(
            "SELECT generation, next_row, documents, spec, built FROM state"
        )
        names = [column[0] for column in cursor.description]
        values = cursor.fetchone()
        if values is None:
            raise sqlite3.DatabaseError("it has no state")
        return dict(zip(names, values, strict=True))

    def _select(self, query: str, values: list[Any]) -> Iterator[Any]:
        for begin in range(0, len(values), _BATCH):
            part = values[begin : begin + _BATCH]
            marks = ",".join("?" * len(part))
            with self._errors():
                found = self._connection.execute(f"{query} ({marks})", part).fetchall()
            yield from found

    def _map_current(self) -> BuiltIndex | None:
        while True:
            try:
                return self._map_built()
            except FileNotFoundError as error:
                # The writer may just have replaced it; then there is a newer state to read.
                if self.read_only and self.refresh():
                    continue
                raise IndexFormatError(
                    f"the index in {show(self.folder)} lacks its file {error.filename!r}; "
                    "restore it from a copy, or build the index again"
                ) from error

    def _map_built(self) -> BuiltIndex | None:
        entry = self._state["built"]
        if entry is None:
            return None
        if self._mapped is None or self._mapped[0] != entry:
            self._mapped = None
            about = json.loads(entry)
            path = self.folder / about["file"]
            if path.stat().st_size != about["bytes"]:
                raise damaged(self.folder, f"{path.name} has not the size that was written")
            self._mapped = entry, read_built(path, about)
        return self._mapped[1]

    def _write(self, change: Change, added: list[Any], updated: list[Any]) -> None:
        removed = [(row,) for row in change.removed.tolist()]
        many = self._connection.executemany
        many("DELETE FROM documents WHERE row = ?", removed)
        many("UPDATE documents SET head = ?, text = ?, crc = ? WHERE row = ?", updated)
        many("INSERT INTO documents (row, key, head, text, crc) VALUES (?, ?, ?, ?, ?)", added)

    def _write_index(self, change: Change, index: VectorIndex, rebuilt: bool) -> None:
        run, many = self._connection.execute, self._connection.executemany
        if rebuilt:
            run("DELETE FROM vectors")
            run("DELETE FROM dead")
            many("INSERT INTO dead VALUES (?)", [(row,) for row in index.dead.tolist()])
        else:
            removed = [(row,) for row in change.removed.tolist()]
            last = -1 if index.built is None else int(index.built.rows[-1])
            many("DELETE FROM vectors WHERE row = ?", removed)
            many("INSERT INTO dead VALUES (?)", [(row,) for (row,) in removed if row <= last])
        new = slice(0 if rebuilt else len(index.fresh) - len(change.added), None)
        recent = zip(index.fresh.rows[new].tolist(), index.fresh.vectors[new], strict=True)
        many("INSERT INTO vectors VALUES (?, ?, ?)", [pack_vector(*entry) for entry in recent])

    @contextmanager
    def _errors(self, *, locked: bool = True) -> Iterator[None]:
        """One thread at a time unless said otherwise; errors of SQLite and FAISS as ours."""
        with self._lock if locked else nullcontext():
            try:
                yield
            except sqlite3.ProgrammingError as error:
                raise UserError(
                    f"the index in {show(self.folder)} is closed; open it again"
                ) from error
            # FAISS's RuntimeError may be of a full disk or of a broken file.
            except (sqlite3.OperationalError, RuntimeError, OSError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise RetrievalError(
                    f"the index in {show(self.folder)} cannot be read or written: {error}"
                ) from error
            except (sqlite3.DatabaseError, KeyError, ValueError) as error:
                raise damaged(self.folder, f"{type(error).__name__}: {error}") from error
