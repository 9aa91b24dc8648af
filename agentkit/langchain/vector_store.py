"""agentkit's FAISS index as a LangChain vector store."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias, cast

import numpy as np
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from agentkit.errors import UserError
from agentkit.langchain.documents import document_from_langchain, document_to_langchain
from agentkit.langchain.embeddings import as_embedder, as_embeddings
from agentkit.retrieval import ScoredDocument
from agentkit_retrievers.embedding import Embedder
from agentkit_retrievers.faiss_index import FaissRetriever
from agentkit_retrievers.filters import Filter

__all__ = ["AgentkitVectorStore", "MetadataFilter"]

MetadataFilter: TypeAlias = (
    Mapping[str, Any] | Callable[[dict[str, Any]], bool] | Callable[[LangChainDocument], bool]
)
"""Which documents to search among: metadata that they must have (a list or set of values means
any of them; ``{"$gte": 3}`` and the like are in :mod:`agentkit_retrievers.filters`), or a function
of the document."""

_Scored: TypeAlias = tuple[LangChainDocument, float]


class AgentkitVectorStore(VectorStore):
    """Documents in a :class:`agentkit_retrievers.FaissRetriever`, for LangChain.

    Scores are cosine similarities, higher is better; relevance scores are the same, brought from
    -1..1 to 0..1. A document's ``title`` among its metadata is embedded with its text.
    :attr:`index` can be given to an agentkit agent as it is.

    Args:
        embedding: A LangChain or an agentkit embedding model; ``None`` for agentkit's default.
        index: An index to build on, with its own embedding model.

    Raises:
        UserError: Both are given.
    """

    def __init__(
        self,
        embedding: Embeddings | Embedder | None = None,
        *,
        index: FaissRetriever | None = None,
    ) -> None:
        if index is not None and embedding is not None:
            raise UserError("pass an embedding or an index, not both: the index has its own")
        if index is None:
            index = FaissRetriever(None if embedding is None else as_embedder(embedding))
        self.index = index
        """Where the documents are."""

    @property
    def embeddings(self) -> Embeddings:
        """The embedding model."""
        return as_embeddings(self.index.embedder)

    def __len__(self) -> int:
        return len(self.index)

    def __bool__(self) -> bool:
        return True

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts; one whose id is known takes the known one's place.

        Args:
            texts: Not empty ones.
            metadatas: One for each text.
            ids: One for each text; made up where not given.
            **kwargs: None are known.

        Returns:
            The ids.

        Raises:
            UserError: There are not as many metadata or ids as texts, or a text is empty.
        """
        _refuse(kwargs)
        texts = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(texts):
                raise UserError(f"there are {len(given)} {name} for {len(texts)} texts")
        documents = [
            document_from_langchain(
                LangChainDocument(
                    page_content=text,
                    metadata=metadatas[i] if metadatas else {},
                    # Not from the content: two equal texts are two documents here.
                    id=(ids[i] if ids else None) or str(uuid.uuid4()),
                )
            )
            for i, text in enumerate(texts)
        ]
        return [str(doc_id) for doc_id in self.index.add(documents)]

    def add_documents(self, documents: list[LangChainDocument], **kwargs: Any) -> list[str]:
        """Add documents under ``ids``, or their own ids, or made-up ones. See :meth:`add_texts`."""
        ids = kwargs.pop("ids", None) or [document.id for document in documents]
        texts = [document.page_content for document in documents]
        return self.add_texts(texts, [d.metadata for d in documents], ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents.

        Args:
            ids: Unknown ones are passed over; ``None`` deletes all documents.
            **kwargs: None are known.
        """
        _refuse(kwargs)
        if ids is None:
            self.index.remove([document.doc_id for document in self.index.documents])
        else:
            self.index.remove([key for doc_id in ids for key in _keys(doc_id)])
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """The documents with these ids, in this order; unknown ones are passed over."""
        found = self.index.get(key for doc_id in ids for key in _keys(doc_id))
        return [document_to_langchain(document) for document in found]

    def similarity_search(
        self, query: str, k: int = 4, filter: MetadataFilter | None = None, **kwargs: Any
    ) -> list[LangChainDocument]:
        """The documents closest to the query, best first.

        Args:
            query: What to look for.
            k: At most this many.
            filter: Search only among documents that fit it.
            **kwargs: None are known.
        """
        scored = self.similarity_search_with_score(query, k, filter, **kwargs)
        return [document for document, _ in scored]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: MetadataFilter | None = None, **kwargs: Any
    ) -> list[_Scored]:
        """As :meth:`similarity_search`, with the cosine similarities."""
        return self.similarity_search_with_score_by_vector(self._embed(query), k, filter, **kwargs)

    def similarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: MetadataFilter | None = None,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        """As :meth:`similarity_search`, for a query that is a vector."""
        scored = self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs)
        return [document for document, _ in scored]

    def similarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: MetadataFilter | None = None,
        **kwargs: Any,
    ) -> list[_Scored]:
        """As :meth:`similarity_search_with_score`, for a query that is a vector."""
        _refuse(kwargs)
        return [
            (document_to_langchain(hit.document), hit.score)
            for hit in self._search(embedding, k, filter)
        ]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: MetadataFilter | None = None,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        """Documents close to the query and unlike each other (Carbonell & Goldstein 1998).

        Args:
            query: What to look for.
            k: At most this many.
            fetch_k: Choose among this many closest documents.
            lambda_mult: From 0 for the most diverse to 1 for the closest.
            filter: Search only among documents that fit it.
            **kwargs: None are known.
        """
        return self.max_marginal_relevance_search_by_vector(
            self._embed(query), k, fetch_k, lambda_mult, filter, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: MetadataFilter | None = None,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        """As :meth:`max_marginal_relevance_search`, for a query that is a vector."""
        _refuse(kwargs)
        hits = self._search(embedding, k, filter, mmr=lambda_mult, fetch_k=fetch_k)
        return [document_to_langchain(hit.document) for hit in hits]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """:meth:`add_texts` in a worker thread."""
        return await asyncio.to_thread(self.add_texts, texts, metadatas, ids=ids, **kwargs)

    async def aadd_documents(self, documents: list[LangChainDocument], **kwargs: Any) -> list[str]:
        """:meth:`add_documents` in a worker thread."""
        return await asyncio.to_thread(self.add_documents, documents, **kwargs)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | Embedder | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store with these texts. See the class and :meth:`add_texts`."""
        store = cls(embedding)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def save_local(self, folder: str | os.PathLike[str]) -> None:
        """Save the store. See :meth:`agentkit_retrievers.FaissRetriever.save`."""
        self.index.save(folder)

    @classmethod
    def load_local(
        cls,
        folder: str | os.PathLike[str],
        embedding: Embeddings | Embedder | None = None,
    ) -> Self:
        """Load a saved store; nothing in it is code.

        Args:
            folder: As given to :meth:`save_local`, or saved by a ``FaissRetriever``.
            embedding: The model that made the vectors. See the class.

        Raises:
            IndexFormatError: There is none, it is damaged, or another model made it.
        """
        embedder = None if embedding is None else as_embedder(embedding)
        return cls(index=FaissRetriever.load(folder, embedder=embedder))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda similarity: min(1.0, max(0.0, (similarity + 1) / 2))

    def _embed(self, query: str) -> Sequence[float]:
        # An empty store has nothing to find, and need not load its model for that.
        if not len(self):
            return ()
        vector: list[float] = self.index.embedder.embed_query(query).tolist()
        return vector

    def _search(
        self, vector: Sequence[float], k: int, filter: MetadataFilter | None, **options: Any
    ) -> list[ScoredDocument]:
        where = _condition(filter)
        return self.index.search(
            np.asarray(vector, dtype=np.float32), top_k=k, where=where, **options
        )


def _condition(filter: Any) -> Filter | None:
    if callable(filter):
        accept: Callable[[LangChainDocument], bool] = filter
        return lambda document: bool(accept(document_to_langchain(document)))
    return cast("Filter | None", filter)


def _keys(doc_id: str) -> tuple[str | int, ...]:
    """LangChain's ids are text; an index made without it may have numbers."""
    return (doc_id, int(doc_id)) if doc_id.isascii() and doc_id.isdigit() else (doc_id,)


def _refuse(options: Mapping[str, Any]) -> None:
    if options:
        raise UserError(f"AgentkitVectorStore knows no option {next(iter(options))!r}")
