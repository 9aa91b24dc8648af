"""Semantic search over documents with FAISS, in memory or in a folder."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import faiss
import numpy as np

from agentkit.errors import RetrievalError, UserError
from agentkit.retrieval import Document, RetrieverTool, ScoredDocument
from agentkit_retrievers.chunking import Chunker
from agentkit_retrievers.document_index import DocumentIndex
from agentkit_retrievers.embedded_documents import checked_vectors
from agentkit_retrievers.embedding import (
    Embedder,
    Vectors,
    replace_surrogates,
)
from agentkit_retrievers.index_spec import IndexSpec
from agentkit_retrievers.loading import DEFAULT_PATTERNS, load_folder
from agentkit_retrievers.mmr import marginal_relevance
from agentkit_retrievers.vector_index import VectorIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from agentkit_retrievers.filters import Filter
    from agentkit_retrievers.progress import Progress

__all__ = ["FaissRetriever"]

_Hit: TypeAlias = tuple[int, ScoredDocument]
"""A document found, and its row."""

if sys.platform == "darwin":
    # There faiss and torch each bring an OpenMP of their own, and two pools of threads in one
    # process end in a crash.
    faiss.omp_set_num_threads(1)


class FaissRetriever(DocumentIndex):
    """Finds documents whose meaning is close to the query's. A :class:`agentkit.Retriever`.

    Scores are cosine similarities, from -1 to 1. Up to some ten thousand documents the search is
    exact; past that the index changes to a kind that is faster and smaller, see
    :attr:`index_kind`. All methods may be called from several threads at a time; a search sees a
    document whole or not at all.

    The documents are in memory, and :meth:`save` writes them all. :meth:`open` keeps them in a
    folder instead, where every change is durable.

    Args:
        embedder: Makes the vectors; ``None`` for a :class:`SentenceTransformerEmbedder`.
        top_k: How many documents a search returns unless told otherwise.
        min_score: Leave out documents below this similarity.
        index: Kind of index, or its parameters too; see :class:`IndexSpec`.

    Raises:
        UserError: ``top_k`` is below 1, or there is no such kind of index.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        *,
        top_k: int = 4,
        min_score: float | None = None,
        index: str | IndexSpec = "auto",
    ) -> None:
        super().__init__(embedder, index=index)
        self.top_k = _checked_top_k(top_k)
        self.min_score = min_score

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        embedder: Embedder | None = None,
        top_k: int = 4,
        min_score: float | None = None,
        index: str | IndexSpec = "auto",
        progress: Progress | None = None,
    ) -> Self:
        """Make an index of documents, as they are. See the class and :meth:`add`."""
        retriever = cls(embedder, top_k=top_k, min_score=min_score, index=index)
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
        index: str | IndexSpec = "auto",
        patterns: str | Sequence[str] = DEFAULT_PATTERNS,
        encoding: str = "utf-8",
        on_error: Literal["warn", "raise", "skip"] = "warn",
        progress: Progress | None = None,
    ) -> Self:
        """Load, cut and index the documents below a folder.

        Args:
            folder: See :func:`load_folder`, for ``patterns``, ``encoding`` and ``on_error`` too.
            chunker: ``None`` for ``Chunker()``.
            embedder: See the class, for ``top_k``, ``min_score`` and ``index`` too.
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
            index=index,
            progress=progress,
        )

    def retrieve(
        self,
        query: str,
        *,
        top_k: int | None = None,
        where: Filter | None = None,
        mmr: float | None = None,
    ) -> list[ScoredDocument]:
        """Return the documents closest to the query, best first.

        Args:
            query: What to look for, in natural language.
            top_k: At most this many; ``None`` for the retriever's own.
            where: See :meth:`search_many`, for ``mmr`` too.

        Returns:
            Fewer than ``top_k`` where there are no more or ``min_score`` leaves some out.

        Raises:
            UserError: The query is empty, or ``top_k`` is below 1.
            ModelLoadError: The embedding model cannot be loaded.
            RetrievalError: The embedder's vector is not what it should be.
        """
        return self.retrieve_many([query], top_k=top_k, where=where, mmr=mmr)[0]

    def retrieve_many(
        self,
        queries: Sequence[str],
        *,
        top_k: int | None = None,
        where: Filter | None = None,
        mmr: float | None = None,
    ) -> list[list[ScoredDocument]]:
        """:meth:`retrieve` for several queries, with one search in the index."""
        for query in queries:
            if not query.strip():
                raise UserError("the query is empty; pass the words to look for")
        _checked_top_k(self.top_k if top_k is None else top_k)
        if not len(self) or not queries:
            return [[] for _ in queries]
        vectors = [self.embedder.embed_query(replace_surrogates(query)) for query in queries]
        return self.search_many(np.stack(vectors), top_k=top_k, where=where, mmr=mmr)

    def search(
        self,
        vector: Vectors,
        *,
        top_k: int | None = None,
        where: Filter | None = None,
        mmr: float | None = None,
        fetch_k: int | None = None,
        exact: bool = False,
    ) -> list[ScoredDocument]:
        """Return the documents closest to a vector, best first. See :meth:`search_many`."""
        options: dict[str, Any] = {"mmr": mmr, "fetch_k": fetch_k, "exact": exact}
        return self.search_many(vector.reshape(1, -1), top_k=top_k, where=where, **options)[0]

    def search_many(
        self,
        vectors: Vectors,
        *,
        top_k: int | None = None,
        where: Filter | None = None,
        mmr: float | None = None,
        fetch_k: int | None = None,
        exact: bool = False,
    ) -> list[list[ScoredDocument]]:
        """Return the documents closest to each vector, best first.

        Args:
            vectors: Shape ``(n, dimension)``.
            top_k: As for :meth:`retrieve`.
            where: Search only among documents that fit: a condition such as
                ``{"lang": "en", "year": {"$gte": 2020}}``, see
                :mod:`agentkit_retrievers.filters`, or a function of the document.
            mmr: Choose documents that are unlike each other too, by marginal relevance; from
                0 for the most diverse to 1 for the closest.
            fetch_k: For ``mmr``: choose among so many; ``None`` for 20, or 4 times ``top_k``
                where that is more.
            exact: Compare the query with every vector, whatever the kind of index.

        Raises:
            UserError: ``top_k`` is below 1, or the condition cannot be understood.
            RetrievalError: A vector is not what it should be.
        """
        count = _checked_top_k(self.top_k if top_k is None else top_k)
        if not len(self) or not len(vectors):
            return [[] for _ in vectors]
        queries = checked_vectors(vectors, len(vectors), self.embedder, self._dimension())
        fetched = count if mmr is None else max(count, fetch_k or max(20, 4 * count))
        found = self._search(queries, fetched, where, exact)
        if found is None:  # A document went while its vector was found.
            with self._publishing:
                found = self._search(queries, fetched, where, exact)
        assert found is not None
        index, lines = found
        if mmr is not None:
            lines = [_diverse(index, hits, count, mmr) for hits in lines]
        return [
            [hit for _, hit in hits if self.min_score is None or hit.score >= self.min_score]
            for hits in lines
        ]

    async def aretrieve(
        self,
        query: str,
        *,
        top_k: int | None = None,
        where: Filter | None = None,
        mmr: float | None = None,
    ) -> list[ScoredDocument]:
        """:meth:`retrieve` in a worker thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.retrieve, query, top_k=top_k, where=where, mmr=mmr)

    async def asearch(self, vector: Vectors, **options: Any) -> list[ScoredDocument]:
        """:meth:`search` in a worker thread, with its options."""
        return await asyncio.to_thread(self.search, vector, **options)

    async def asearch_many(self, vectors: Vectors, **options: Any) -> list[list[ScoredDocument]]:
        """:meth:`search_many` in a worker thread, with its options."""
        return await asyncio.to_thread(self.search_many, vectors, **options)

    def as_tool(self, **options: Any) -> RetrieverTool:
        """A tool with which the model searches here itself.

        Args:
            **options: Passed to :class:`agentkit.RetrieverTool`: ``name``, ``description``,
                ``top_k`` (the retriever's own by default), ``max_chars``, ``timeout``.
        """
        return RetrieverTool(self, **{"top_k": self.top_k, **options})

    def _search(
        self, queries: Vectors, count: int, where: Filter | None, exact: bool
    ) -> tuple[VectorIndex, list[list[_Hit]]] | None:
        """The state searched, and each query's hits; ``None`` if a document found is gone."""
        index = self._current()
        allowed = None if where is None else self._allow_sets.rows(where, self._table)
        scores, rows = index.search(queries, count, allowed=allowed, exact=exact)
        np.clip(scores, -1, 1, out=scores)  # Rounded vectors are not of length 1 exactly.
        wanted = dict.fromkeys(rows[rows >= 0].tolist())
        documents = self._table.documents(wanted)
        if len(documents) < len(wanted):
            return None
        return index, [
            [
                (row, ScoredDocument(documents[row], score))
                for row, score in zip(*line, strict=True)
                if row >= 0
            ]
            for line in zip(rows.tolist(), scores.tolist(), strict=True)
        ]


def _diverse(index: VectorIndex, hits: list[_Hit], count: int, balance: float) -> list[_Hit]:
    scores = np.array([hit.score for _, hit in hits], dtype=np.float32)
    vectors = index.vectors(np.array([row for row, _ in hits], dtype=np.int64))
    chosen = marginal_relevance(scores, vectors, count=count, balance=balance)
    return [hits[i] for i in chosen]


def _checked_top_k(top_k: int) -> int:
    if top_k < 1:
        raise UserError(f"top_k must be at least 1, not {top_k}")
    return top_k
