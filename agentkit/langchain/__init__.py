"""agentkit for LangChain and LangGraph: its models, retrievers, tools and agents, both ways.

Names are imported when first used; ``langchain-core`` is needed, LangChain itself is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.langchain.agent_runnable import AgentRunnable
    from agentkit.langchain.chat_model import ChatGranite
    from agentkit.langchain.documents import document_from_langchain, document_to_langchain
    from agentkit.langchain.embeddings import AgentkitEmbeddings, LangChainEmbedder
    from agentkit.langchain.messages import messages_from_langchain, messages_to_langchain
    from agentkit.langchain.retriever import AgentkitRetriever
    from agentkit.langchain.store_retriever import VectorStoreRetriever
    from agentkit.langchain.tools import from_langchain, to_langchain
    from agentkit.langchain.vector_store import AgentkitVectorStore

_HOMES = {
    "AgentRunnable": ".agent_runnable",
    "AgentkitEmbeddings": ".embeddings",
    "AgentkitRetriever": ".retriever",
    "AgentkitVectorStore": ".vector_store",
    "ChatGranite": ".chat_model",
    "LangChainEmbedder": ".embeddings",
    "VectorStoreRetriever": ".store_retriever",
    "document_from_langchain": ".documents",
    "document_to_langchain": ".documents",
    "from_langchain": ".tools",
    "messages_from_langchain": ".messages",
    "messages_to_langchain": ".messages",
    "to_langchain": ".tools",
}

__all__ = [
    "AgentRunnable",
    "AgentkitEmbeddings",
    "AgentkitRetriever",
    "AgentkitVectorStore",
    "ChatGranite",
    "LangChainEmbedder",
    "VectorStoreRetriever",
    "document_from_langchain",
    "document_to_langchain",
    "from_langchain",
    "messages_from_langchain",
    "messages_to_langchain",
    "to_langchain",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
