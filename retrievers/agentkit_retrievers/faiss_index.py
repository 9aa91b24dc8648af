"""Semantic search over documents in memory, on an exact FAISS index."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import faiss
import numpy as np

from agentkit.errors import IndexFormatError, RetrievalError, UserError
from agentkit.retrieval import Document, RetrieverTool, ScoredDocument
from agentkit_retrievers.chunking import Chunker
from agentkit_retrievers.embedding import (
    Embedder,
    SentenceTransformerEmbedder,
    Vectors,
    replace_surrogates,
)
from agentkit_retrievers.identity import with_ids
from agentkit_retrievers.loading import DEFAULT_PATTERNS, load_folder
from agentkit_retrievers.storage import StoredIndex, read_index, write_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from agentkit_retrievers.progress import Progress

__all__ = ["FaissRetriever"]

# Documents embedded between two progress reports: several of the model's batches, for these
# are sorted by length, which saves padding.
_EMBED_STEP = 256

if sys.platform == "darwin":
    # There faiss and torch each bring an OpenMP of their own, and two pools of threads in one
    # process end in a crash.
    faiss.omp_set_num_threads(1)


class FaissRetriever:
    """Finds documents whose meaning is close to the query's. A :class:`agentkit.Retriever`.

    Scores are cosine similarities, from -1 to 1. The search is exact. All methods may be
    called from several threads at a time; a search sees a document whole or not at all.

    Args:
        embedder: Makes the vectors; ``None`` for a :class:`SentenceTransformerEmbedder`.
        top_k: How many documents a search returns unless told otherwise.
        min_score: Leave out documents below this similarity.

    Raises:
        UserError: ``top_k`` is below 1.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        *,
        top_k: int = 4,
        min_score: float | None = None,
    ) -> None:
        self.embedder: Embedder = SentenceTransformerEmbedder() if embedder is None else embedder
        self.top_k = _checked_top_k(top_k)
        self.min_score = min_score
        self._lock = threading.RLock()
        self._index: Any = None  # Made with the first vectors, whose dimension it takes.
        self._documents: dict[int, Document] = {}  # By row id, in the order of the vectors.
        self._rows: dict[str | int, int] = {}  # Row id by doc_id.
        self._next_row = 0

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        embedder: Embedder | None = None,
        top_k: int = 4,
        min_score: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Make an index of documents, as they are. See the class and :meth:`add`."""
        retriever = cls(embedder, top_k=top_k, min_score=min_score)
        retriever.add(documents, progress=progress)
        return retriever

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        *,
        chunker: Chunker | None = None,
        embedder: Embedder | None = None,
        top_k: int = 4,
        min_score: float | None = None,
        patterns: str | Sequence[str] = DEFAULT_PATTERNS,
        encoding: str = "utf-8",
        on_error: Literal["warn", "raise", "skip"] = "warn",
        progress: Progress | None = None,
    ) -> Self:
        """Load, cut and index the documents below a folder.

        Args:
            folder: See :func:`load_folder`, for ``patterns``, ``encoding`` and ``on_error`` too.
            chunker: ``None`` for ``Chunker()``.
            embedder: See the class, for ``top_k`` and ``min_score`` too.
            progress: Called with the stages ``"load"`` and ``"embed"``.

        Raises:
            RetrievalError: The folder cannot be read, or holds no text.
            MissingExtraError: A format needs a package that is not installed.
        """
        documents = load_folder(
            folder, patterns=patterns, encoding=encoding, on_error=on_error, progress=progress
        )
        if not documents:
            wanted = patterns if isinstance(patterns, str) else ", ".join(patterns)
            raise RetrievalError(
                f"no text to index in {os.fspath(folder)!r}: no readable file fits {wanted}"
            )
        return cls.from_documents(
            (Chunker() if chunker is None else chunker).split_all(documents),
            embedder=embedder,
            top_k=top_k,
            min_score=min_score,
            progress=progress,
        )

    @property
    def documents(self) -> tuple[Document, ...]:
        """All documents, oldest first."""
        with self._lock:
            return tuple(self._documents.values())

    def __len__(self) -> int:
        return len(self._documents)

    def __bool__(self) -> bool:
        return True  # An empty retriever is still one: ``retriever or default`` keeps it.

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.embedder!r}, {len(self)} documents)"

    def add(
        self, documents: Iterable[Document], *, progress: Progress | None = None
    ) -> list[str | int]:
        """Add documents; one whose ``doc_id`` is known takes the known one's place.

        All are added or, on an error, none. The title is embedded with the text.

        Args:
            documents: Each with some text. Without a ``doc_id`` they get one from their source
                or content.
            progress: Called with stage ``"embed"``.

        Returns:
            The ``doc_id`` of each, in order.

        Raises:
            UserError: A document has no text, or two of them have one ``doc_id``.
            ModelLoadError: The embedding model cannot be loaded.
            RetrievalError: The embedder's vectors are not what they should be.
        """
        added = with_ids(documents)
        new = list({document.doc_id: document for document in added}.values())
        if new:
            # Outside the lock, for it takes long: searches go on meanwhile.
            vectors = self._embed(new, progress)
            with self._lock:
                self._insert(new, vectors)
        return [document.doc_id for document in added]

    def remove(self, doc_ids: Iterable[str | int]) -> int:
        """Remove documents.

        Args:
            doc_ids: Unknown ones are passed over.

        Returns:
            How many were removed.
        """
        with self._lock:
            rows = [self._rows.pop(key) for key in dict.fromkeys(doc_ids) if key in self._rows]
            for row in rows:
                del self._documents[row]
            if rows:
                self._index.remove_ids(np.array(rows, dtype=np.int64))
            return len(rows)

    def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """Return the documents closest to the query, best first.

        Args:
            query: What to look for, in natural language.
            top_k: At most this many; ``None`` for the retriever's own.

        Returns:
            Fewer than ``top_k`` where there are no more or ``min_score`` leaves some out.

        Raises:
            UserError: The query is empty, or ``top_k`` is below 1.
            ModelLoadError: The embedding model cannot be loaded.
            RetrievalError: The embedder's vector is not what it should be.
        """
        if not query.strip():
            raise UserError("the query is empty; pass the words to look for")
        count = self.top_k if top_k is None else _checked_top_k(top_k)
        if not len(self):
            return []
        return self.search(self.embedder.embed_query(replace_surrogates(query)), top_k=count)

    def search(
        self,
        vector: Vectors,
        *,
        top_k: int | None = None,
        where: Callable[[Document], bool] | None = None,
    ) -> list[ScoredDocument]:
        """Return the documents closest to a vector, best first.

        Args:
            vector: Of the embedder's dimension.
            top_k: As for :meth:`retrieve`.
            where: Search only among documents for which it is true.

        Raises:
            UserError: ``top_k`` is below 1.
            RetrievalError: The vector is not what it should be.
        """
        count = self.top_k if top_k is None else _checked_top_k(top_k)
        if not len(self):
            return []
        vectors = self._checked(vector.reshape(1, -1), 1)
        with self._lock:
            rows = [row for row, doc in self._documents.items() if where is None or where(doc)]
            if not rows:
                return []
            only = None if where is None else _only(rows)
            scores, found = self._index.search(vectors, min(count, len(rows)), params=only)
            hits = [
                ScoredDocument(self._documents[int(row)], float(score))
                for score, row in zip(scores[0], found[0], strict=True)
            ]
        return [hit for hit in hits if self.min_score is None or hit.score >= self.min_score]

    def get(self, doc_ids: Iterable[str | int]) -> list[Document]:
        """The documents with these ``doc_id``, in this order; unknown ones are passed over."""
        with self._lock:
            return [self._documents[self._rows[key]] for key in doc_ids if key in self._rows]

    def vectors(self, doc_ids: Iterable[str | int]) -> Vectors:
        """The vectors of documents, L2-normalised rows, in this order.

        Raises:
            UserError: There is no document with one of these ``doc_id``.
        """
        with self._lock:
            keys = list(doc_ids)
            for key in keys:
                if key not in self._rows:
                    raise UserError(f"there is no document with the doc_id {key!r}")
            if not keys:
                return np.zeros((0, self.embedder.dimension), dtype=np.float32)
            return np.stack([self._index.reconstruct(self._rows[key]) for key in keys])

    async def aretrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """:meth:`retrieve` in a worker thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.retrieve, query, top_k=top_k)

    def as_tool(self, **options: Any) -> RetrieverTool:
        """A tool with which the model searches here itself.

        Args:
            **options: Passed to :class:`agentkit.RetrieverTool`: ``name``, ``description``,
                ``top_k`` (the retriever's own by default), ``max_chars``, ``timeout``.
        """
        return RetrieverTool(self, **{"top_k": self.top_k, **options})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the index, in place of the one that the folder holds, if any.

        An interruption at any moment leaves either the old index or the new one.

        Args:
            folder: Is made if need be. Holds ``vectors.faiss``, ``documents.jsonl`` and
                ``manifest.json`` afterwards.

        Raises:
            RetrievalError: The folder holds something else, or writing failed.
        """
        with self._lock:
            if self._index is None:
                self._index = _new_index(self.embedder.dimension)
            stored = StoredIndex(
                vectors=self._index,
                documents=list(self._documents.values()),
                embedding_model=self.embedder.model_name,
            )
            write_index(Path(folder), stored)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        top_k: int = 4,
        min_score: float | None = None,
    ) -> Self:
        """Load a saved index; the embedding model itself is loaded with the first search.

        Args:
            folder: As given to :meth:`save`.
            embedder: With the model that made the index. See the class for the rest.

        Raises:
            IndexFormatError: There is no index, it is damaged, of a foreign version, or made
                with another embedding model.
        """
        retriever = cls(embedder, top_k=top_k, min_score=min_score)
        stored = read_index(Path(folder))
        if stored.embedding_model != retriever.embedder.model_name:
            raise IndexFormatError(
                f"the index in {os.fspath(folder)!r} was made with the embedding model "
                f"{stored.embedding_model!r}, but the embedder has "
                f"{retriever.embedder.model_name!r}; pass embedder= with the former, or build "
                "the index again"
            )
        retriever._restore(stored)
        return retriever

    def _restore(self, stored: StoredIndex) -> None:
        rows = [int(row) for row in faiss.vector_to_array(stored.vectors.id_map)]
        self._index = stored.vectors
        self._documents = dict(zip(rows, stored.documents, strict=True))
        self._rows = {document.doc_id: row for row, document in self._documents.items()}
        self._next_row = max(rows, default=-1) + 1

    def _insert(self, documents: Sequence[Document], vectors: Vectors) -> None:
        if self._index is None:
            self._index = _new_index(vectors.shape[1])
        self.remove([document.doc_id for document in documents])
        rows = range(self._next_row, self._next_row + len(documents))
        self._next_row += len(documents)
        self._index.add_with_ids(vectors, np.array(rows, dtype=np.int64))
        self._documents.update(zip(rows, documents, strict=True))
        self._rows.update((doc.doc_id, row) for row, doc in zip(rows, documents, strict=True))

    def _embed(self, documents: Sequence[Document], progress: Progress | None) -> Vectors:
        texts = [
            replace_surrogates(f"{doc.title}\n{doc.text}" if doc.title else doc.text)
            for doc in documents
        ]
        parts: list[Vectors] = []
        for begin in range(0, len(texts), _EMBED_STEP):
            part = texts[begin : begin + _EMBED_STEP]
            parts.append(self._checked(self.embedder.embed_documents(part), len(part)))
            if progress is not None:
                progress("embed", begin + len(part), len(texts))
        return np.concatenate(parts)

    def _checked(self, vectors: Vectors, count: int) -> Vectors:
        """The vectors in the form that FAISS wants, or an error that blames the embedder."""
        dimension = self._index.d if self._index is not None else self.embedder.dimension
        if vectors.shape != (count, dimension):
            raise RetrievalError(
                f"the embedder {self.embedder.model_name!r} returned an array of shape "
                f"{vectors.shape} for {count} texts, not {(count, dimension)}: is it the model "
                "that made the index?"
            )
        if not np.isfinite(vectors).all():
            raise RetrievalError(
                f"the embedder {self.embedder.model_name!r} returned numbers that are infinite "
                "or no numbers; try another device or float32 weights"
            )
        # A copy, because the length is set in place.
        own: Vectors = np.array(vectors, dtype=np.float32, order="C")
        faiss.normalize_L2(own)
        return own


def _new_index(dimension: int) -> Any:
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))


def _only(rows: Sequence[int]) -> Any:
    parameters: Any = faiss.SearchParameters
    return parameters(sel=faiss.IDSelectorBatch(np.array(rows, dtype=np.int64)))


def _checked_top_k(top_k: int) -> int:
    if top_k < 1:
        raise UserError(f"top_k must be at least 1, not {top_k}")
    return top_k
