"""Loading, chunking, embedding and searching documents for agentkit agents.

Names are imported when first used: FAISS, PyTorch and the file readers cost nothing before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit_retrievers.chunking import Chunker
    from agentkit_retrievers.embedding import Embedder, SentenceTransformerEmbedder
    from agentkit_retrievers.faiss_index import FaissRetriever
    from agentkit_retrievers.filters import Filter
    from agentkit_retrievers.index_spec import IndexKind, IndexSpec
    from agentkit_retrievers.loading import load, load_folder
    from agentkit_retrievers.progress import Progress
    from agentkit_retrievers.sources import format_sources

__all__ = [
    "Chunker",
    "Embedder",
    "FaissRetriever",
    "Filter",
    "IndexKind",
    "IndexSpec",
    "Progress",
    "SentenceTransformerEmbedder",
    "format_sources",
    "load",
    "load_folder",
]

_MODULES = {
    "Chunker": ".chunking",
    "Embedder": ".embedding",
    "FaissRetriever": ".faiss_index",
    "Filter": ".filters",
    "IndexKind": ".index_spec",
    "IndexSpec": ".index_spec",
    "Progress": ".progress",
    "SentenceTransformerEmbedder": ".embedding",
    "format_sources": ".sources",
    "load": ".loading",
    "load_folder": ".loading",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
