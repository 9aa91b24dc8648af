"""Loading, chunking, embedding and searching documents for agentkit agents.

Names are imported when first used: FAISS, PyTorch and the file readers cost nothing before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.grounding import Citation, GroundedAnswer, GroundedSentence
    from agentkit_retrievers.bm25 import BM25Retriever
    from agentkit_retrievers.chunking import Chunker
    from agentkit_retrievers.embedding import Embedder, SentenceTransformerEmbedder
    from agentkit_retrievers.embedding_cache import CachedEmbedder
    from agentkit_retrievers.embedding_server import ServerEmbedder
    from agentkit_retrievers.expansion import ContextExpander
    from agentkit_retrievers.faiss_index import FaissRetriever
    from agentkit_retrievers.filters import Filter
    from agentkit_retrievers.grounded_agent import GroundedAgent, GroundedRun
    from agentkit_retrievers.grounding import Grounding, aground, ground
    from agentkit_retrievers.hybrid import HybridRetriever
    from agentkit_retrievers.index_spec import IndexKind, IndexSpec
    from agentkit_retrievers.loading import load, load_folder
    from agentkit_retrievers.progress import Progress
    from agentkit_retrievers.reranking import CrossEncoderReranker, MMRReranker, Reranker
    from agentkit_retrievers.rewriting import QueryRewriter
    from agentkit_retrievers.sources import format_sources
    from agentkit_retrievers.syncing import FolderChanges, sync_folder
    from agentkit_retrievers.terms import Analyzer

__all__ = [
    "Analyzer",
    "BM25Retriever",
    "CachedEmbedder",
    "Chunker",
    "Citation",
    "ContextExpander",
    "CrossEncoderReranker",
    "Embedder",
    "FaissRetriever",
    "FolderChanges",
    "GroundedAgent",
    "GroundedAnswer",
    "GroundedRun",
    "GroundedSentence",
    "Grounding",
    "HybridRetriever",
    "MMRReranker",
    "Filter",
    "IndexKind",
    "IndexSpec",
    "Progress",
    "QueryRewriter",
    "Reranker",
    "SentenceTransformerEmbedder",
    "ServerEmbedder",
    "aground",
    "format_sources",
    "ground",
    "load",
    "load_folder",
    "sync_folder",
]

_MODULES = {
    "Analyzer": ".terms",
    "BM25Retriever": ".bm25",
    "CachedEmbedder": ".embedding_cache",
    "Chunker": ".chunking",
    "Citation": "agentkit.grounding",
    "ContextExpander": ".expansion",
    "CrossEncoderReranker": ".reranking",
    "Embedder": ".embedding",
    "FaissRetriever": ".faiss_index",
    "FolderChanges": ".syncing",
    "GroundedAgent": ".grounded_agent",
    "GroundedAnswer": "agentkit.grounding",
    "GroundedRun": ".grounded_agent",
    "GroundedSentence": "agentkit.grounding",
    "Grounding": ".grounding",
    "HybridRetriever": ".hybrid",
    "MMRReranker": ".reranking",
    "Filter": ".filters",
    "IndexKind": ".index_spec",
    "IndexSpec": ".index_spec",
    "Progress": ".progress",
    "QueryRewriter": ".rewriting",
    "Reranker": ".reranking",
    "SentenceTransformerEmbedder": ".embedding",
    "ServerEmbedder": ".embedding_server",
    "aground": ".grounding",
    "format_sources": ".sources",
    "ground": ".grounding",
    "load": ".loading",
    "load_folder": ".loading",
    "sync_folder": ".syncing",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
