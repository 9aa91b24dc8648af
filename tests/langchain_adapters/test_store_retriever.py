"""LangChain's vector stores as agentkit retrievers."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

from agentkit import Agent, RetrievalError, Retriever, ScriptedModel, UserError
from agentkit.langchain import AgentkitEmbeddings, VectorStoreRetriever
from agentkit_retrievers import BM25Retriever, HybridRetriever
from hashing_embedder import HashingEmbedder

TEXTS = {"cats": "cats sleep all day", "dogs": "dogs walk", "fish": "fish swim all night"}


class CosineStore(InMemoryVectorStore):
    """LangChain's own store, which does not say how to read its scores; stores in use do."""

    def _select_relevance_score_fn(self):
        return lambda score: score


def filled(kind):
    store = kind(AgentkitEmbeddings(embedder=HashingEmbedder()))
    store.add_documents(
        [
            LangChainDocument(id=key, page_content=text, metadata={"source": f"{key}.md"})
            for key, text in TEXTS.items()
        ]
    )
    return store


@pytest.mark.parametrize("kind", [InMemoryVectorStore, CosineStore])
def test_finds_what_the_store_finds(kind):
    retriever = VectorStoreRetriever(filled(kind), top_k=2)
    assert isinstance(retriever, Retriever)
    hits = retriever.retrieve("cats sleep all")
    assert [hit.document.doc_id for hit in hits] == ["cats", "fish"]
    assert hits[0].document.source == "cats.md"
    assert hits[0].score > hits[1].score
    found = asyncio.run(retriever.aretrieve("cats sleep all", top_k=1))
    assert found == hits[:1]


def test_scores_and_options_reach_the_store():
    scored = VectorStoreRetriever(filled(CosineStore), min_score=0.5)
    assert [hit.document.doc_id for hit in scored.retrieve("cats sleep all")] == ["cats"]
    only = VectorStoreRetriever(
        filled(InMemoryVectorStore), filter=lambda document: document.id == "dogs"
    )
    assert [hit.document.doc_id for hit in only.retrieve("cats")] == ["dogs"]


def test_an_agent_and_a_hybrid_search_use_it():
    store = VectorStoreRetriever(filled(InMemoryVectorStore), top_k=1)
    result = Agent(ScriptedModel(["They sleep."]), retriever=store).run_sync("cats sleep?")
    assert result.sources[0].document.doc_id == "cats"
    sparse = BM25Retriever.from_documents(hit.document for hit in store.retrieve("x", top_k=3))
    hybrid = HybridRetriever(store, sparse, top_k=1)
    assert hybrid.retrieve("fish swim")[0].document.doc_id == "fish"


def test_what_goes_wrong_is_explained():
    class Broken(InMemoryVectorStore):
        def similarity_search(self, query, k=4, **kwargs):
            raise ConnectionError("no route")

    broken = VectorStoreRetriever(Broken(DeterministicFakeEmbedding(size=4)))
    with pytest.raises(RetrievalError, match="Broken failed: ConnectionError: no route"):
        broken.retrieve("x")
    with pytest.raises(RetrievalError, match="no route"):
        asyncio.run(broken.aretrieve("x"))
    with pytest.raises(UserError, match="empty"):
        broken.retrieve(" ")
    with pytest.raises(UserError, match="top_k"):
        broken.retrieve("x", top_k=0)
