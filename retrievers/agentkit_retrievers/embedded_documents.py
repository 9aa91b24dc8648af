"""Documents to vectors of the form that FAISS wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from agentkit.errors import RetrievalError
from agentkit_retrievers.embedding import replace_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit.retrieval import Document
    from agentkit_retrievers.embedding import Embedder, Vectors
    from agentkit_retrievers.progress import Progress

__all__ = ["checked_vectors", "embed", "embedded_alike"]

# Documents embedded between two progress reports: several of the model's batches.
_EMBED_STEP = 256


def embed(
    documents: Sequence[Document],
    embedder: Embedder,
    *,
    dimension: int | None = None,
    progress: Progress | None = None,
) -> Vectors:
    """The documents' vectors, L2-normalised, of their titles and texts.

    Args:
        documents: At least one.
        embedder: Makes the vectors.
        dimension: Of the vectors that there are; ``None`` for the embedder's own.
        progress: Called with stage ``"embed"``.

    Raises:
        RetrievalError: The embedder's vectors are not what they should be.
    """
    texts = [replace_surrogates(_embedded_text(document)) for document in documents]
    # Of similar lengths together, over all of them, which saves padding; long ones first, so that
    # what is too much for the memory is so at once.
    order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
    vectors: Vectors | None = None
    for begin in range(0, len(order), _EMBED_STEP):
        chosen = order[begin : begin + _EMBED_STEP]
        found = embedder.embed_documents([texts[position] for position in chosen])
        found = checked_vectors(found, len(chosen), embedder, dimension)
        if vectors is None:
            vectors = np.empty((len(texts), found.shape[1]), dtype=np.float32)
        vectors[chosen] = found
        if progress is not None:
            progress("embed", begin + len(chosen), len(texts))
    assert vectors is not None  # There is at least one.
    return vectors


def embedded_alike(one: Document, other: Document) -> bool:
    """Whether two documents have one vector, because what is embedded of them is the same."""
    return one.text == other.text and one.title == other.title


def checked_vectors(
    vectors: Vectors, count: int, embedder: Embedder, dimension: int | None = None
) -> Vectors:
    """A copy of the vectors in FAISS's form, L2-normalised, or an error that blames the embedder.

    Raises:
        RetrievalError: They have not the right shape, or are no finite numbers.
    """
    expected = (count, embedder.dimension if dimension is None else dimension)
    if vectors.shape != expected:
        raise RetrievalError(
            f"the embedder {embedder.model_name!r} returned an array of shape "
            f"{vectors.shape} for {count} texts, not {expected}: is it the model "
            "that made the index?"
        )
    if not np.isfinite(vectors).all():
        raise RetrievalError(
            f"the embedder {embedder.model_name!r} returned numbers that are infinite "
            "or no numbers; try another device or float32 weights"
        )
    # A copy, because the length is set in place.
    own: Vectors = np.array(vectors, dtype=np.float32, order="C")
    faiss.normalize_L2(own)
    return own


def _embedded_text(document: Document) -> str:
    return f"{document.title}\n{document.text}" if document.title else document.text
