"""Saving and loading an index: whole, damaged, foreign, interrupted."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentkit.errors import IndexFormatError, RetrievalError
from agentkit.retrieval import Document, ScoredDocument
from agentkit_retrievers import FaissRetriever
from hashing_embedder import HashingEmbedder

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCUMENTS = [
    Document(text="the cat sat on the mat", doc_id="cat"),
    Document(text="dogs bark at night", doc_id=7, title="Dogs", metadata={"page": 2}),
    Document(text="Grüße \ud800 aus Köln", doc_id="greeting", start=3, end=20, source="g.md"),
]
FILES = ["documents.jsonl", "manifest.json", "vectors.faiss"]


@pytest.fixture
def retriever() -> FaissRetriever:
    return FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder())


def loaded(folder: Path, **options: Any) -> FaissRetriever:
    return FaissRetriever.load(folder, embedder=HashingEmbedder(**options))


def ids(hits: Sequence[ScoredDocument]) -> list[str | int]:
    return [hit.document.doc_id for hit in hits]


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
