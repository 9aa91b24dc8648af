"""agentkit's retrievers for LangChain."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from agentkit.langchain.documents import document_to_langchain
from agentkit.retrieval import Retriever, ScoredDocument, retrieve

__all__ = ["SCORE_KEY", "AgentkitRetriever"]

SCORE_KEY = "score"
"""Where a found document's metadata keep its score, if that is asked for."""


class AgentkitRetriever(BaseRetriever):
    """Any agentkit retriever, for LangChain.

    Example:
        >>> retriever = AgentkitRetriever(retriever=FaissRetriever.from_folder("docs"), k=3)
        >>> retriever.invoke("How do I install it?")
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    retriever: Any = Field(repr=False)
    """A :class:`agentkit.Retriever`."""
    k: int | None = Field(default=None, ge=1)
    """At most this many documents; ``None`` for the retriever's own default."""
    min_score: float | None = None
    """Leave out documents with lower scores."""
    with_scores: bool = False
    """Add each document's score to its metadata, under ``score``."""

    def model_post_init(self, context: Any) -> None:
        """Check the retriever."""
        if not isinstance(self.retriever, Retriever):
            raise TypeError(f"{self.retriever!r:.100} is no agentkit retriever: it cannot retrieve")

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
    ) -> list[LangChainDocument]:
        hits = self.retriever.retrieve(query, top_k=k or self.k)
        return [self._document(hit) for hit in hits if self._is_wanted(hit)]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
    ) -> list[LangChainDocument]:
        hits = await retrieve(self.retriever, query, top_k=k or self.k)
        return [self._document(hit) for hit in hits if self._is_wanted(hit)]

    def _is_wanted(self, hit: ScoredDocument) -> bool:
        return self.min_score is None or hit.score >= self.min_score

    def _document(self, hit: ScoredDocument) -> LangChainDocument:
        document = document_to_langchain(hit.document)
        if self.with_scores:
            document.metadata[SCORE_KEY] = hit.score
        return document
