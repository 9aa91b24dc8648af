"""Documents by row: what an index keeps beside the vectors, in memory or on disk."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from agentkit_retrievers.filters import Filter, as_predicate, filter_key
from agentkit_retrievers.vector_index import NO_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeAlias

    from numpy.typing import NDArray

    from agentkit.retrieval import Document
    from agentkit_retrievers.vector_index import VectorIndex

    Rows: TypeAlias = NDArray[np.int64]

__all__ = ["AllowSets", "Change", "DocumentTable", "MemoryTable"]

_SETS_KEPT = 32


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to documents in one step, whole or not at all."""

    removed: Rows = field(default_factory=lambda: NO_ROWS)
    """Rows that go."""
    updated: Mapping[int, Document] = field(default_factory=dict)
    """Documents in place of others with the same vector, by row."""
    added: Mapping[int, Document] = field(default_factory=dict)
    """New documents by row, ascending, higher than any row before."""


class DocumentTable(Protocol):
    """Documents by row, and rows by ``doc_id``. Usable from any thread."""

    @property
    def next_row(self) -> int:
        """A row higher than any that was ever used."""
        ...

    def __len__(self) -> int: ...

    def rows(self, doc_ids: Iterable[str | int]) -> dict[str | int, int]:
        """The rows of those documents that there are."""
        ...

    def documents(self, rows: Iterable[int]) -> dict[int, Document]:
        """Documents by row; unknown rows are passed over."""
        ...

    def scan(self) -> Iterator[tuple[int, Document]]:
        """All documents, oldest first."""
        ...

    def prepare(self, index: VectorIndex) -> VectorIndex:
        """Do what takes long before a commit.

        Returns:
            The index, or another of the same content, which the commit is to be given.
        """
        ...

    def commit(self, change: Change, index: VectorIndex) -> None:
        """Make a change, together with the index that goes with it."""
        ...


class MemoryTable:
    """A :class:`DocumentTable` in this process."""

    def __init__(self, documents: Mapping[int, Document] | None = None) -> None:
        self._lock = threading.Lock()
        self._documents = dict(documents or {})
        self._rows = {document.doc_id: row for row, document in self._documents.items()}
        self._next_row = max(self._documents, default=-1) + 1

    @property
    def next_row(self) -> int:
        """A row higher than any that was ever used."""
        return self._next_row

    def __len__(self) -> int:
        return len(self._documents)

    def rows(self, doc_ids: Iterable[str | int]) -> dict[str | int, int]:
        """The rows of those documents that there are."""
        with self._lock:
            return {key: self._rows[key] for key in doc_ids if key in self._rows}

    def documents(self, rows: Iterable[int]) -> dict[int, Document]:
        """Documents by row; unknown rows are passed over."""
        with self._lock:
            return {row: self._documents[row] for row in rows if row in self._documents}

    def scan(self) -> Iterator[tuple[int, Document]]:
        """All documents, oldest first."""
        with self._lock:
            return iter(list(self._documents.items()))

    def prepare(self, index: VectorIndex) -> VectorIndex:
        """Nothing here takes long."""
        return index

    def commit(self, change: Change, index: VectorIndex) -> None:
        """Make a change."""
        with self._lock:
            for row in change.removed.tolist():
                del self._rows[self._documents.pop(row).doc_id]
            self._documents.update(change.updated)
            self._documents.update(change.added)
            self._rows.update((doc.doc_id, row) for row, doc in change.added.items())
            self._next_row = max(self._next_row, max(change.added, default=-1) + 1)


class AllowSets:
    """The rows that fit a filter; those of the last filters are kept, and kept up to date."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sets: dict[str, tuple[Filter, Rows]] = {}
        self._version = 0

    def rows(self, condition: Filter, table: DocumentTable) -> Rows:
        """Rows of the documents that fit, ascending."""
        fits = as_predicate(condition)
        key = filter_key(condition)
        with self._lock:
            version = self._version
            if key in self._sets:
                # To the end of the dictionary: its beginning is what is forgotten first.
                self._sets[key] = self._sets.pop(key)
                return self._sets[key][1]
        rows = np.array([row for row, document in table.scan() if fits(document)], dtype=np.int64)
        rows.sort()
        with self._lock:
            if key is not None and version == self._version:
                self._sets[key] = (condition, rows)
                if len(self._sets) > _SETS_KEPT:
                    del self._sets[next(iter(self._sets))]
        return rows

    def update(self, change: Change) -> None:
        """Follow a change, by looking at what changed only."""
        touched = np.union1d(change.removed, np.fromiter(change.updated, np.int64))
        with self._lock:
            self._version += 1
            for key, (condition, rows) in self._sets.items():
                fits = as_predicate(condition)
                new = [
                    row
                    for row, document in (*change.updated.items(), *change.added.items())
                    if fits(document)
                ]
                if len(touched):
                    rows = np.setdiff1d(rows, touched, assume_unique=True)
                if new:
                    rows = np.union1d(rows, np.array(new, dtype=np.int64))
                self._sets[key] = (condition, rows)

    def clear(self) -> None:
        """Forget all, as after a change made elsewhere."""
        with self._lock:
            self._version += 1
            self._sets.clear()
