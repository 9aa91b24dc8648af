"""An index that lives in a folder: durable, one writer, many readers, whole after any crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentkit.errors import IndexFormatError, RetrievalError, UserError
from agentkit.retrieval import Document
from agentkit_retrievers import FaissRetriever, IndexSpec
from hashing_embedder import HashingEmbedder

DOCUMENTS = [
    Document(text="the cat sat on the mat", doc_id="cat"),
    Document(text="dogs bark at night", doc_id=7, title="Dogs", metadata={"page": 2}),
    Document(text="Grüße \ud800 aus Köln", doc_id="7", start=3, end=20, source="g.md"),
]
MANY = [Document(text=f"word{i} of many", doc_id=i, metadata={"n": i}) for i in range(400)]


def opened(folder: Path, **options: Any) -> FaissRetriever:
    return FaissRetriever.open(folder, **{"embedder": HashingEmbedder(), **options})


def test_changes_are_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path / "deep" / "index") as index:
        assert index.add(DOCUMENTS) == ["cat", 7, "7"]
        index.remove(["cat"])
        index.add([Document(text="dogs bark at night", doc_id=7, title="Dogs", metadata={"p": 1})])
        before, hits = index.documents, index.retrieve("dogs bark")
    embedder = HashingEmbedder()
    with opened(tmp_path / "deep" / "index", embedder=embedder) as index:
        assert index.documents == before
        assert index.retrieve("dogs bark") == hits
        assert index.get(["7", "x", 7]) == [before[1], before[0]]
        assert embedder.embedded == []
        index.add(before)
        assert embedder.embedded == []
    with pytest.raises(UserError, match="is closed; open it again"):
        index.documents


@pytest.mark.parametrize("kind", ["flat", "sq8", "hnsw"])
def test_merged_indexes_are_files(tmp_path: Path, kind: str) -> None:
    spec = IndexSpec(kind=kind, fresh=50)  # type: ignore[arg-type]
    with opened(tmp_path, index=spec) as index:
        index.add(MANY)
        index.add([Document(text="late", doc_id="late")])
        index.remove([5, 6])
        hits = index.retrieve("word7 of many")
        assert index.index_kind == kind
    assert len(list(tmp_path.glob("index-*.faiss"))) == 1
    with opened(tmp_path) as index:
        assert index.index_kind == kind  # remembered
        assert index.retrieve("word7 of many") == hits
        assert {hit.document.doc_id for hit in index.retrieve("many", top_k=999)} == (
            {*range(400), "late"} - {5, 6}
        )
        index.compact()
        index.add(MANY[:7])
    assert len(list(tmp_path.glob("index-*.faiss"))) == 1
    with opened(tmp_path, verify=True) as index:
        assert len(index) == 401
        # Among others, for a few words have the same hash.
        assert 5 in [hit.document.doc_id for hit in index.retrieve("word5 of many", top_k=5)]


def test_readers_see_one_state_until_they_refresh(tmp_path: Path) -> None:
    with opened(tmp_path, index=IndexSpec(fresh=20)) as writer:
        writer.add(DOCUMENTS)
        with opened(tmp_path, read_only=True) as reader:
            before = reader.documents, reader.retrieve("cat")
            writer.remove(["cat"])
            writer.add(MANY)
            writer.compact()
            assert (reader.documents, reader.retrieve("cat")) == before
            assert reader.retrieve("many", where={"n": 3}) == []
            assert reader.refresh()
            assert reader.documents == writer.documents
            assert reader.retrieve("many", where={"n": 3})[0].document.doc_id == 3
            assert not reader.refresh()
            with pytest.raises(UserError, match="opened with read_only=True"):
                reader.add(DOCUMENTS)


def test_readers_search_while_a_writer_commits_and_merges(tmp_path: Path) -> None:
    with opened(tmp_path, index=IndexSpec(fresh=5)) as writer:
        writer.add([*DOCUMENTS, *MANY[:2]])
        failed: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                with opened(tmp_path, read_only=True) as reader:
                    while not done.is_set():
                        reader.refresh()
                        found = {hit.document.doc_id for hit in reader.retrieve("x", top_k=999)}
                        assert found == {document.doc_id for document in reader.documents}
                        # Both are written in one commit, or neither.
                        assert (100 in found) == (101 in found)
            except BaseException as error:
                failed.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for thread in readers:
            thread.start()
        for number in range(2, 30):
            writer.add([MANY[number]])
            writer.add(MANY[100:102])
            assert {hit.document.doc_id for hit in writer.retrieve("many", top_k=99)} >= {100, 101}
            writer.remove([100, 101])
        done.set()
        for thread in readers:
            thread.join()
        assert failed == []


def test_one_writer(tmp_path: Path) -> None:
    with opened(tmp_path):
        for timeout in (0, 0.1):
            with pytest.raises(RetrievalError, match="being written to by another process"):
                opened(tmp_path, lock_timeout=timeout)
    opened(tmp_path).close()


def test_saved_folders_are_brought_over(tmp_path: Path) -> None:
    saved = FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder())
    saved.save(tmp_path)
    with opened(tmp_path, read_only=True) as index:
        assert index.documents == saved.documents
    with opened(tmp_path) as index:
        assert index.retrieve("cat") == saved.retrieve("cat")
        index.add(MANY)
    assert not (tmp_path / "documents.jsonl").exists()
    loaded = FaissRetriever.load(tmp_path, embedder=HashingEmbedder())
    assert len(loaded) == 402  # one doc_id is in both
    with pytest.raises(RetrievalError, match="holds a durable index, which saves itself"):
        saved.save(tmp_path)
    loaded.save(tmp_path / "copy")
    copy = FaissRetriever.load(tmp_path / "copy", embedder=HashingEmbedder())
    assert copy.documents == loaded.documents


@pytest.mark.parametrize("part", ["documents.sqlite", "index"])
def test_damaged_files(tmp_path: Path, part: str) -> None:
    with opened(tmp_path, index=IndexSpec(fresh=50)) as index:
        index.add(MANY)
    (path,) = tmp_path.glob(f"{part}*")
    whole = path.read_bytes()
    needle = b"word250 of many" if part == "documents.sqlite" else whole[5_000:5_004]
    position = whole.index(needle)
    for damaged in (
        whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :],
        whole[: len(whole) // 2],
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(RetrievalError, match=r"damaged|cannot be read"):
            opened(tmp_path).documents
    path.unlink()
    with pytest.raises(IndexFormatError, match="lacks its file"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "holds no agentkit index|neither empty nor"),
        ({"version": 99}, "format version 99"),
        ({"embedding_model": "org/other"}, r"'org/other', but .*embedder=.*AGENTKIT_EMBEDDER"),
        ({"dimension": None}, "damaged"),
    ],
)
def test_a_manifest_that_does_not_fit(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    opened(tmp_path).close()
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(RetrievalError, match=message):
        opened(tmp_path)
    with pytest.raises(IndexFormatError):
        opened(tmp_path, read_only=True)


def test_folders_that_are_none(tmp_path: Path) -> None:
    for options in ({"read_only": True}, {"create": False}):
        with pytest.raises(IndexFormatError, match="no index in"):
            opened(tmp_path / "none", **options)
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RetrievalError, match="neither empty nor an agentkit index"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_metadata_that_json_cannot_hold_change_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as index:
        index.add(DOCUMENTS)
        with pytest.raises(RetrievalError, match="document 'odd' cannot be saved: its metadata"):
            index.add([Document(text="x", doc_id="odd", metadata={"at": object()})])
        assert len(index) == 3
        index.add([Document(text="x", doc_id="even")])
        assert len(index.retrieve("x", top_k=9)) == 4
        assert np.isfinite(index.vectors(["even", "cat"])).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_writer_leaves_a_committed_state(tmp_path: Path) -> None:
    script = Path(__file__).with_name("store_crash.py")
    arguments = [sys.executable, str(script), str(tmp_path / "index"), "50", "0"]
    path = os.pathsep.join([str(script.parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    output = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert output.returncode == 0, output.stderr
    result = json.loads(output.stdout)
    assert result["wrong"] == []
    assert result["states"] >= 40
    assert result["commits"] > 20
    assert len(result["files"]) <= 2  # the index, and one that was not committed
