"""Any LangChain vector store as an agentkit retriever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentkit.errors import RetrievalError, UserError
from agentkit.langchain.documents import document_from_langchain
from agentkit.retrieval import ScoredDocument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.vectorstores import VectorStore

__all__ = ["VectorStoreRetriever"]


class VectorStoreRetriever:
    """Searches a store such as Chroma, Qdrant, pgvector or Milvus. A :class:`agentkit.Retriever`.

    Scores are what the store makes of its distances: from 0 to 1 and higher for closer, where
    it can tell (``similarity_search_with_relevance_scores``); else one over the rank.

    Args:
        store: Any LangChain vector store.
        top_k: How many documents a search returns unless told otherwise.
        min_score: Leave out documents below this score.
        **search_options: Passed to the store with each search, such as ``filter``.

    Raises:
        UserError: ``top_k`` is below 1.

    Example:
        >>> retriever = VectorStoreRetriever(Chroma(...), filter={"lang": "en"})
        >>> agent = Agent(retriever=retriever)
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        top_k: int = 4,
        min_score: float | None = None,
        **search_options: Any,
    ) -> None:
        if top_k < 1:
            raise UserError(f"top_k must be at least 1, not {top_k}")
        self.store = store
        self.top_k = top_k
        self.min_score = min_score
        self.search_options = search_options

    def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """Return the best documents for the query, best first.

        Args:
            query: What to look for.
            top_k: At most this many; ``None`` for the retriever's own.

        Raises:
            UserError: The query is empty, or ``top_k`` is below 1.
            RetrievalError: The store failed.
        """
        count = self._checked(query, top_k)
        try:
            try:
                pairs = self.store.similarity_search_with_relevance_scores(
                    query, k=count, **self.search_options
                )
            except NotImplementedError:
                found = self.store.similarity_search(query, k=count, **self.search_options)
                pairs = _ranked(found)
        except Exception as error:
            raise self._failure(error) from error
        return self._hits(pairs)

    async def aretrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """:meth:`retrieve`, by the store's own asynchronous search."""
        count = self._checked(query, top_k)
        try:
            try:
                pairs = await self.store.asimilarity_search_with_relevance_scores(
                    query, k=count, **self.search_options
                )
            except NotImplementedError:
                # Not every store without scores has an asynchronous search of its own.
                found = await asyncio.to_thread(
                    self.store.similarity_search, query, k=count, **self.search_options
                )
                pairs = _ranked(found)
        except Exception as error:
            raise self._failure(error) from error
        return self._hits(pairs)

    def _checked(self, query: str, top_k: int | None) -> int:
        if not query.strip():
            raise UserError("the query is empty; pass the words to look for")
        count = self.top_k if top_k is None else top_k
        if count < 1:
            raise UserError(f"top_k must be at least 1, not {count}")
        return count

    def _failure(self, error: Exception) -> RetrievalError:
        return RetrievalError(
            f"the vector store {type(self.store).__name__} failed: {type(error).__name__}: {error}"
        )

    def _hits(self, pairs: Sequence[tuple[LangChainDocument, float]]) -> list[ScoredDocument]:
        hits = [ScoredDocument(document_from_langchain(doc), float(score)) for doc, score in pairs]
        return [hit for hit in hits if self.min_score is None or hit.score >= self.min_score]


def _ranked(documents: Sequence[LangChainDocument]) -> list[tuple[LangChainDocument, float]]:
    return [(document, 1 / rank) for rank, document in enumerate(documents, start=1)]
