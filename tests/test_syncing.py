"""Bringing an index up to date with a folder."""

from __future__ import annotations

import pytest

from agentkit import Document, RetrievalError
from agentkit_retrievers import BM25Retriever, Chunker, FaissRetriever, sync_folder
from hashing_embedder import HashingEmbedder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text(f"Words of {name}. " * 3)
    return folder


def test_only_what_changed_is_embedded(folder, tmp_path):
    embedder = HashingEmbedder()
    index = FaissRetriever(embedder)
    index.add([Document(doc_id="own", text="added by hand")])
    changes = sync_folder(index, folder)
    assert changes.added == ("a.txt", "b.txt", "c.txt")
    assert (changes.chunks, len(index)) == (3, 4)

    embedder.embedded.clear()
    assert sync_folder(index, folder).unchanged == 3
    assert embedder.embedded == []

    (folder / "a.txt").write_text("Now quite another text.")
    (folder / "b.txt").unlink()
    (folder / "d.txt").write_text("A new file.")
    index.save(tmp_path / "index")
    index = FaissRetriever.load(tmp_path / "index", embedder=embedder)
    changes = sync_folder(index, folder)
    assert (changes.added, changes.changed, changes.removed, changes.unchanged) == (
        ("d.txt",),
        ("a.txt",),
        ("b.txt",),
        1,
    )
    assert len(embedder.embedded) == 2
    assert {document.doc_id for document in index.documents} == {
        "own",
        "a.txt#0",
        "c.txt#0",
        "d.txt#0",
    }
    assert index.retrieve("quite another")[0].document.doc_id == "a.txt#0"


def test_shrinking_files_and_other_chunkers(folder):
    index = BM25Retriever()
    (folder / "a.txt").write_text("One paragraph.\n\n" * 30)
    sync_folder(index, folder, chunker=Chunker(max_size=60, overlap=0))
    many = len(index)
    (folder / "a.txt").write_text("One paragraph.")
    assert sync_folder(index, folder, chunker=Chunker(max_size=60, overlap=0)).changed == ("a.txt",)
    assert len(index) < many
    changes = sync_folder(index, folder, chunker=Chunker(max_size=20, overlap=0))
    assert changes.changed == ("a.txt", "b.txt", "c.txt")
    (folder / "a.txt").write_text(" ")
    assert sync_folder(index, folder, chunker=Chunker(max_size=20, overlap=0)).changed == ("a.txt",)
    assert "a.txt" not in {document.source for document in index.documents}


def test_an_interruption_costs_one_batch(folder):
    class Fragile(BM25Retriever):
        room = 2

        def add(self, documents):
            documents = list(documents)
            self.room -= len(documents)
            if self.room < 0:
                raise KeyboardInterrupt
            return super().add(documents)

    index = Fragile()
    with pytest.raises(KeyboardInterrupt):
        sync_folder(index, folder, batch=1)
    assert len(index) == 2
    index.room = 9
    changes = sync_folder(index, folder, batch=1)
    assert (changes.added, changes.unchanged) == (("c.txt",), 2)


def test_unreadable_files_keep_what_they_had(folder):
    index = BM25Retriever()
    sync_folder(index, folder)
    (folder / "a.txt").write_bytes(b"\xff\xfe\0\0binary")
    with pytest.warns(UserWarning, match=r"a\.txt"):
        changes = sync_folder(index, folder)
    assert (changes.changed, changes.removed, changes.unchanged) == ((), (), 2)
    assert len(index) == 3
    with pytest.raises(RetrievalError, match=r"a\.txt"):
        sync_folder(index, folder, on_error="raise")
