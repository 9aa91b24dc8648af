"""Documents with their vectors, in memory or in a folder: adding, removing, opening, saving."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agentkit.errors import UserError
from agentkit.retrieval import Document
from agentkit_retrievers.document_table import AllowSets, Change, DocumentTable, MemoryTable
from agentkit_retrievers.embedded_documents import embed, embedded_alike
from agentkit_retrievers.embedding import Embedder, SentenceTransformerEmbedder, Vectors
from agentkit_retrievers.identity import with_ids
from agentkit_retrievers.index_spec import IndexSpec, as_index_spec
from agentkit_retrievers.opening import load_saved, open_stored, save_index
from agentkit_retrievers.vector_index import NO_ROWS, VectorIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Self

    from agentkit_retrievers.index_spec import IndexKind
    from agentkit_retrievers.progress import Progress
    from agentkit_retrievers.store_folder import OpenFolder

__all__ = ["DocumentIndex"]


class DocumentIndex:
    """What :class:`FaissRetriever` searches, and how it is kept.

    Args:
        embedder: Makes the vectors; ``None`` for a :class:`SentenceTransformerEmbedder`.
        index: Kind of index, or its parameters too; see :class:`IndexSpec`.
    """

    def __init__(
        self, embedder: Embedder | None = None, *, index: str | IndexSpec = "auto"
    ) -> None:
        self.embedder: Embedder = SentenceTransformerEmbedder() if embedder is None else embedder
        self._spec = as_index_spec(index)
        self._table: DocumentTable = MemoryTable()
        # None until the first vectors, whose dimension it takes.
        self._index: VectorIndex | None = None
        self._allow_sets = AllowSets()
        self._folder: OpenFolder | None = None
        # One thread at a time changes anything, however long an index takes to be built.
        self._writing = threading.RLock()
        # Documents and index change in one moment, as seen by whoever holds this one.
        self._publishing = threading.RLock()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        index: str | IndexSpec | None = None,
        read_only: bool = False,
        create: bool = True,
        lock_timeout: float = 0.0,
        verify: bool | None = None,
        **options: Any,
    ) -> Self:
        """Open an index that lives in a folder, or make one.

        Each :meth:`add` and :meth:`remove` is on the disk when it returns, whole, and costs what
        it changes. Documents are read when they are found, the index is mapped into memory. One
        may write at a time; any number may read meanwhile, each seeing the state of its opening
        until :meth:`refresh`. A folder written by :meth:`save` is brought into the new form.

        Args:
            folder: Is made if need be.
            embedder: With the model that made the index.
            index: ``None`` for what the folder has, or ``"auto"`` in a new one. Another kind is
                built with the next :meth:`compact`, or as soon as the index grows enough.
            read_only: Only search.
            create: Make an index if there is none.
            lock_timeout: Seconds to wait until no other process writes.
            verify: Compare all checksums now; ``None`` does so up to 64 MB.
            **options: ``top_k`` and ``min_score``; see the class.

        Raises:
            IndexFormatError: There is no index, it is damaged, of a foreign version, or made
                with another embedding model.
            RetrievalError: Another process writes to it, or the folder holds something else.
        """
        retriever = cls(embedder, **options)
        opened = open_stored(
            Path(folder),
            retriever.embedder,
            None if index is None else as_index_spec(index),
            read_only=read_only,
            create=create,
            lock_timeout=lock_timeout,
            verify=verify,
        )
        retriever._folder, retriever._table, retriever._index = opened
        retriever._spec = opened[2].spec
        return retriever

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        **options: Any,
    ) -> Self:
        """Load a saved index; the embedding model itself is loaded with the first search.

        Args:
            folder: As given to :meth:`save`. One of :meth:`open` is opened to be read.
            embedder: With the model that made the index.
            **options: ``top_k`` and ``min_score``; see the class.

        Raises:
            IndexFormatError: There is no index, it is damaged, of a foreign version, or made
                with another embedding model.
        """
        retriever = cls(embedder, **options)
        opened = load_saved(Path(folder), retriever.embedder)
        retriever._folder, retriever._table, retriever._index = opened
        retriever._spec = opened[2].spec
        return retriever

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save a copy of the index, in place of the one that the folder holds, if any.

        An interruption at any moment leaves either the old index or the new one.

        Args:
            folder: Is made if need be. Holds ``vectors.faiss``, ``documents.jsonl`` and
                ``manifest.json`` afterwards.

        Raises:
            RetrievalError: The folder holds something else, or writing failed.
        """
        with self._writing:
            save_index(Path(folder), self.embedder, self._table, self._current())

    @property
    def documents(self) -> tuple[Document, ...]:
        """All documents, oldest first. Those of a folder are all read for this."""
        return tuple(document for _, document in self._table.scan())

    @property
    def index_kind(self) -> IndexKind:
        """The kind of index in use."""
        return "flat" if self._index is None else self._index.choice.kind

    @property
    def index_reason(self) -> str:
        """Why it is that kind, and which one is next."""
        return "there are no documents" if self._index is None else self._index.choice.reason

    def __len__(self) -> int:
        return len(self._table)

    def __bool__(self) -> bool:
        return True  # An empty retriever is still one: ``retriever or default`` keeps it.

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.embedder!r}, {len(self)} documents)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder, if there is one, and let others write to it."""
        if self._folder is not None:
            self._folder.close()

    def add(
        self, documents: Iterable[Document], *, progress: Progress | None = None
    ) -> list[str | int]:
        """Add documents; one whose ``doc_id`` is known takes the known one's place.

        All are added or, on an error, none. The title is embedded with the text; where both are
        as they were, nothing is embedded again.

        Args:
            documents: Each with some text. Without a ``doc_id`` they get one from their source
                or content.
            progress: Called with stage ``"embed"``.

        Returns:
            The ``doc_id`` of each, in order.

        Raises:
            UserError: A document has no text, or two of them have one ``doc_id``.
            ModelLoadError: The embedding model cannot be loaded.
            RetrievalError: The embedder's vectors are not what they should be, or a folder
                cannot be written to.
        """
        added = with_ids(documents)
        pending = {document.doc_id: document for document in added}
        places: dict[str | int, int] = {}
        vectors: Vectors | None = None
        while pending:
            with self._writing:
                known = self._known(pending)
                new = [
                    document
                    for key, document in pending.items()
                    if key not in known or not embedded_alike(known[key][1], document)
                ]
                missing = [document for document in new if document.doc_id not in places]
                if not missing:
                    chosen = [places[document.doc_id] for document in new]
                    self._replace(pending, known, new, None if vectors is None else vectors[chosen])
                    break
            # Outside the lock, for it takes long. What changed meanwhile is seen the next time.
            part = embed(missing, self.embedder, dimension=self._dimension(), progress=progress)
            first = len(places)
            vectors = part if vectors is None else np.concatenate([vectors, part])
            places.update((document.doc_id, first + i) for i, document in enumerate(missing))
        return [document.doc_id for document in added]

    def remove(self, doc_ids: Iterable[str | int]) -> int:
        """Remove documents.

        Their vectors are no longer found; they leave the index itself with the next merge or
        :meth:`compact`.

        Args:
            doc_ids: Unknown ones are passed over.

        Returns:
            How many were removed.
        """
        with self._writing:
            rows = list(self._table.rows(dict.fromkeys(doc_ids)).values())
            if rows:
                self._commit(Change(removed=np.array(sorted(rows), dtype=np.int64)), None)
            return len(rows)

    def compact(self) -> None:
        """Merge everything into one index of the kind that fits, without removed vectors.

        This happens by itself when much has come together. Searches go on meanwhile.
        """
        with self._writing:
            index = replace(self._current(), spec=self._spec).merged(fully=True)
            self._publish(Change(), index)
            if self._folder is not None:
                self._folder.table.shrink()

    def refresh(self) -> bool:
        """See what others have written to the folder since it was opened; whether that is anything.

        Searches in progress end on the state that they began with.
        """
        if self._folder is None:
            return False
        with self._publishing:
            if not self._folder.table.refresh():
                return False
            self._allow_sets.clear()
            self._index = self._folder.table.index(self._spec)
            return True

    def get(self, doc_ids: Iterable[str | int]) -> list[Document]:
        """The documents with these ``doc_id``, in this order; unknown ones are passed over."""
        with self._publishing:
            keys = list(doc_ids)
            rows = self._table.rows(keys)
            documents = self._table.documents(rows.values())
            return [documents[rows[key]] for key in keys if key in rows]

    def vectors(self, doc_ids: Iterable[str | int]) -> Vectors:
        """The vectors of documents, L2-normalised rows, in this order.

        They are as the index keeps them: kinds other than ``flat`` round to 8 bits.

        Raises:
            UserError: There is no document with one of these ``doc_id``.
        """
        keys = list(doc_ids)
        with self._publishing:
            rows = self._table.rows(keys)
            for key in keys:
                if key not in rows:
                    raise UserError(f"there is no document with the doc_id {key!r}")
            return self._current().vectors(np.array([rows[key] for key in keys], dtype=np.int64))

    def _current(self) -> VectorIndex:
        if self._index is None:
            return VectorIndex.empty(self._spec, self.embedder.dimension)
        return self._index

    def _dimension(self) -> int | None:
        return None if self._index is None else self._index.dimension

    def _known(self, keys: Iterable[str | int]) -> dict[str | int, tuple[int, Document]]:
        rows = self._table.rows(keys)
        documents = self._table.documents(rows.values())
        return {key: (row, documents[row]) for key, row in rows.items()}

    def _replace(
        self,
        pending: dict[str | int, Document],
        known: dict[str | int, tuple[int, Document]],
        new: Sequence[Document],
        vectors: Vectors | None,
    ) -> None:
        first = self._table.next_row
        change = Change(
            removed=np.array(
                sorted(known[document.doc_id][0] for document in new if document.doc_id in known),
                dtype=np.int64,
            ),
            updated={
                row: pending[key]
                for key, (row, old) in known.items()
                if embedded_alike(old, pending[key]) and old != pending[key]
            },
            added=dict(enumerate(new, start=first)),
        )
        if new or change.updated:
            self._commit(change, vectors)

    def _commit(self, change: Change, vectors: Vectors | None) -> None:
        index = self._current()
        if vectors is None:
            vectors = np.empty((0, index.dimension), dtype=np.float32)
        elif self._index is None:
            index = VectorIndex.empty(self._spec, vectors.shape[1])
        rows = np.fromiter(change.added, np.int64, len(change.added)) if change.added else NO_ROWS
        index = index.changed(removed=change.removed, rows=rows, vectors=vectors)
        self._publish(change, index)

    def _publish(self, change: Change, index: VectorIndex) -> None:
        index = self._table.prepare(index)
        with self._publishing:
            self._table.commit(change, index)
            self._index = index
            self._allow_sets.update(change)
