"""Embedding models from agentkit's form to LangChain's and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from langchain_core.embeddings import Embeddings

from agentkit.errors import UserError

if TYPE_CHECKING:
    from agentkit_retrievers.embedding import Embedder, Vectors

__all__ = ["AgentkitEmbeddings", "LangChainEmbedder", "as_embedder", "as_embeddings"]

_NAME_ATTRIBUTES = ("model_name", "model", "model_id", "deployment")


class AgentkitEmbeddings(Embeddings):
    """An agentkit embedder for LangChain; vectors have length 1.

    Args:
        embedder: ``None`` for a :class:`agentkit_retrievers.SentenceTransformerEmbedder` with
            its default model.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        if embedder is None:
            from agentkit_retrievers.embedding import SentenceTransformerEmbedder

            embedder = SentenceTransformerEmbedder()
        self.embedder = embedder

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.embedder!r})"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed passages."""
        return _numbers(self.embedder.embed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        vector: list[float] = self.embedder.embed_query(text).tolist()
        return vector


class LangChainEmbedder:
    """A LangChain embedding model for agentkit. A :class:`agentkit_retrievers.Embedder`.

    Args:
        embeddings: The model.
        model_name: Names it in saved indexes; if not given, what the model says of itself.
        dimension: Numbers in one vector; if not given, one text is embedded to find out.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        model_name: str | None = None,
        dimension: int | None = None,
    ) -> None:
        if not isinstance(embeddings, Embeddings):
            raise UserError(f"{embeddings!r:.100} is not a LangChain Embeddings")
        self.embeddings = embeddings
        self.model_name = model_name or _name(embeddings)
        self._dimension = dimension

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r})"

    @cached_property
    def dimension(self) -> int:
        """Numbers in one vector."""
        return self._dimension or len(self.embeddings.embed_query("dimension"))

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages. See :meth:`agentkit_retrievers.Embedder.embed_documents`."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return _normalised(self.embeddings.embed_documents(list(texts)))

    def embed_query(self, text: str) -> Vectors:
        """Embed a query. See :meth:`agentkit_retrievers.Embedder.embed_query`."""
        return _normalised(self.embeddings.embed_query(text))


def as_embedder(embedding: Embeddings | Embedder) -> Embedder:
    """Either kind as agentkit's; what was wrapped is unwrapped."""
    if isinstance(embedding, AgentkitEmbeddings):
        return embedding.embedder
    return LangChainEmbedder(embedding) if isinstance(embedding, Embeddings) else embedding


def as_embeddings(embedder: Embedder) -> Embeddings:
    """An embedder as LangChain's; what was wrapped is unwrapped."""
    if isinstance(embedder, LangChainEmbedder):
        return embedder.embeddings
    return AgentkitEmbeddings(embedder)


def _name(embeddings: Embeddings) -> str:
    for attribute in _NAME_ATTRIBUTES:
        value = getattr(embeddings, attribute, None)
        if isinstance(value, str) and value:
            return f"{type(embeddings).__name__}:{value}"
    return type(embeddings).__name__


def _normalised(vectors: Sequence[float] | Sequence[Sequence[float]]) -> Vectors:
    array = np.asarray(vectors, dtype=np.float32)
    # A vector of zeros stays one, rather than become numbers that are none.
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    scaled: Vectors = (array / np.where(length > 0, length, 1.0)).astype(np.float32)
    return scaled


def _numbers(vectors: Vectors) -> list[list[float]]:
    rows: list[list[float]] = vectors.tolist()
    return rows
