"""The vector store beyond LangChain's standard tests, and embeddings both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

from agentkit import Document as AgentkitDocument
from agentkit.errors import IndexFormatError, UserError
from agentkit.langchain import (
    AgentkitEmbeddings,
    AgentkitRetriever,
    AgentkitVectorStore,
    LangChainEmbedder,
    document_from_langchain,
    document_to_langchain,
)
from agentkit_retrievers import Embedder, FaissRetriever
from hashing_embedder import HashingEmbedder

TEXTS = ["cats purr softly", "cats purr loudly", "dogs bark", "cows moo"]
METADATA = [{"kind": "cat", "n": 1}, {"kind": "cat", "n": 2}, {"kind": "dog"}, {"kind": "cow"}]


@pytest.fixture
def store() -> AgentkitVectorStore:
    return AgentkitVectorStore.from_texts(TEXTS, HashingEmbedder(), METADATA, ids=list("abcd"))


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"kind": "dog"}, {"c"}),
        ({"kind": ["dog", "cow"]}, {"c", "d"}),
        ({"kind": "cat", "n": 2}, {"b"}),
        ({"kind": "fish"}, set()),
        ({"missing": None}, set()),
        (lambda document: "purr" in document.page_content, {"a", "b"}),
    ],
)
def test_filters(store: AgentkitVectorStore, wanted: Any, ids: set[str]) -> None:
    assert {d.id for d in store.similarity_search("cats", k=9, filter=wanted)} == ids
    found = store.max_marginal_relevance_search("cats", k=9, filter=wanted)
    assert {d.id for d in found} == ids


def test_scores_are_cosine_similarities_and_relevance_is_between_0_and_1(
    store: AgentkitVectorStore,
) -> None:
    found = store.similarity_search_with_score("cats purr softly", k=4)
    assert found[0][0].id == "a"
    assert found[0][1] == pytest.approx(1.0, abs=1e-5)
    assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)
    relevant = store.similarity_search_with_relevance_scores("cats purr softly", k=4)
    assert all(0 <= score <= 1 for _, score in relevant)
    vector = store.embeddings.embed_query("cats purr softly")
    assert store.similarity_search_by_vector(vector, k=1)[0].id == "a"


def test_marginal_relevance_trades_closeness_for_variety(store: AgentkitVectorStore) -> None:
    closest = store.max_marginal_relevance_search("cats purr softly", k=2, lambda_mult=1)
    varied = store.max_marginal_relevance_search("cats purr softly", k=2, lambda_mult=0.1)
    assert [d.id for d in closest] == ["a", "b"]
    assert varied[0].id == "a"
    assert varied[1].id in ("c", "d")


async def test_as_retriever_and_asynchronous_forms(store: AgentkitVectorStore) -> None:
    options = {"k": 1, "filter": {"kind": "cow"}}
    retriever = store.as_retriever(search_kwargs=options)
    assert [d.id for d in await retriever.ainvoke("cats")] == ["d"]
    mmr = store.as_retriever(search_type="mmr", search_kwargs={"k": 2})
    assert len(mmr.invoke("cats")) == 2
    assert await store.aadd_texts(["birds sing"], ids=["e"]) == ["e"]
    found = await store.amax_marginal_relevance_search("birds sing", k=1)
    assert found[0].id == "e"


def test_delete_all_and_ids_that_are_numbers() -> None:
    documents = [AgentkitDocument(text=text, doc_id=i) for i, text in enumerate(TEXTS)]
    index = FaissRetriever.from_documents(documents, embedder=HashingEmbedder())
    store = AgentkitVectorStore(index=index)
    assert [d.id for d in store.get_by_ids(["2", "x", "0"])] == ["2", "0"]
    store.delete(["2"])
    assert len(store) == 3
    store.delete()
    assert len(store) == 0
    assert store.similarity_search("cats") == []


def test_equal_texts_are_two_documents() -> None:
    store = AgentkitVectorStore(HashingEmbedder())
    document = Document("same", metadata={"source": "a.md"})
    assert len(set(store.add_documents([document, document]))) == 2
    assert len(store) == 2


def test_save_and_load(store: AgentkitVectorStore, tmp_path: Path) -> None:
    store.save_local(tmp_path / "index")
    loaded = AgentkitVectorStore.load_local(tmp_path / "index", HashingEmbedder())
    assert loaded.similarity_search("dogs bark", k=1) == store.similarity_search("dogs bark", k=1)
    with pytest.raises(IndexFormatError, match="embedding model"):
        AgentkitVectorStore.load_local(tmp_path / "index", DeterministicFakeEmbedding(size=4))


def test_what_cannot_work_says_so(store: AgentkitVectorStore) -> None:
    with pytest.raises(UserError, match="1 ids for 2 texts"):
        store.add_texts(["a", "b"], ids=["1"])
    with pytest.raises(UserError, match="filter must be"):
        store.similarity_search("cats", filter=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'fitler'"):
        store.similarity_search("cats", fitler={})
    with pytest.raises(UserError, match="not both"):
        AgentkitVectorStore(HashingEmbedder(), index=store.index)
    with pytest.raises(UserError, match="'nope'"):
        store.index.vectors(["nope"])


def test_documents_survive_both_ways() -> None:
    document = AgentkitDocument(
        text="t", doc_id="1", title="T", source="s.md", start=3, end=4, metadata={"x": 1}
    )
    there = document_to_langchain(document)
    assert there.metadata == {"x": 1, "title": "T", "source": "s.md", "start": 3, "end": 4}
    back = document_from_langchain(there)
    assert back.to_prompt() == document.to_prompt()
    assert document_to_langchain(back) == there


def test_embeddings_both_ways() -> None:
    embedder = HashingEmbedder()
    embeddings = AgentkitEmbeddings(embedder)
    assert embeddings.embed_query("cats") == embedder.embed_query("cats").tolist()
    foreign = LangChainEmbedder(DeterministicFakeEmbedding(size=6))
    assert isinstance(foreign, Embedder)
    assert foreign.model_name == "DeterministicFakeEmbedding"
    assert foreign.dimension == 6
    vectors = foreign.embed_documents(["a", "b"])
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])
    assert foreign.embed_documents([]).shape == (0, 6)
    with pytest.raises(UserError, match="not a LangChain Embeddings"):
        LangChainEmbedder(embedder)  # type: ignore[arg-type]


async def test_retriever_scores_and_limits(store: AgentkitVectorStore) -> None:
    retriever = AgentkitRetriever(retriever=store.index, with_scores=True, min_score=0.9)
    (found,) = await retriever.ainvoke("dogs bark", k=3)
    assert found.metadata["score"] > 0.9
    with pytest.raises(TypeError, match="cannot retrieve"):
        AgentkitRetriever(retriever=3)
