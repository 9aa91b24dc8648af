"""Kill a writer of a durable index again and again, and look at what is left.

``python store_crash.py FOLDER KILLS SEED``: a program of its own, so that it can fork before any
library has threads. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from agentkit import Document, FaissRetriever
from agentkit_retrievers import IndexSpec
from hashing_embedder import HashingEmbedder

# Small enough that merges and rebuilding happen within a few commits.
SPEC = IndexSpec(kind="hnsw", fresh=12, links=4, build_effort=8, search_effort=16, max_dead=0.02)
FIRST = [Document(text=f"word{i} of {i}", doc_id=f"first-{i}") for i in range(260)]


def change(retriever: FaissRetriever, number: int) -> None:
    """Commit number ``number``; a function of the number alone."""
    if number == 0:
        retriever.add(FIRST)
    elif number % 11 == 10:
        retriever.compact()
    elif number % 3 == 0:
        retriever.remove([f"{number - 5}-a", f"first-{number % 260}", f"{number - 2}-b"])
    elif number % 3 == 1:
        new = [Document(text=f"{number} {word}", doc_id=f"{number}-{word}") for word in "abc"]
        moved = Document(text=f"again in {number}", doc_id=f"first-{(7 * number) % 260}")
        retriever.add([*new, moved])
    else:
        key = f"first-{(5 * number) % 260}"
        text = f"rewritten in {number // 2}"
        retriever.add([Document(text=text, doc_id=key, metadata={"n": number}), FIRST[259]])


def states(count: int) -> list[dict[str, Any]]:
    """The documents after each number of commits, from an index in memory."""
    retriever = FaissRetriever(HashingEmbedder(dimension=32))
    found: list[dict[str, Any]] = [{}]
    for number in range(count):
        change(retriever, number)
        found.append(contents(retriever))
    return found


def contents(retriever: FaissRetriever) -> dict[str, Any]:
    """What to compare."""
    return {str(doc.doc_id): [doc.text, dict(doc.metadata)] for doc in retriever.documents}


def write(folder: Path, report: int) -> None:
    """Commit one change after another, and say so after each, until killed."""
    retriever = FaissRetriever.open(folder, embedder=HashingEmbedder(dimension=32), index=SPEC)
    os.write(report, generation(retriever).to_bytes(4, "big"))
    for number in range(generation(retriever), 100_000):
        change(retriever, number)
        os.write(report, (number + 1).to_bytes(4, "big"))


def generation(retriever: FaissRetriever) -> int:
    """How many commits there were."""
    assert retriever._folder is not None
    return retriever._folder.table.generation


def examine(folder: Path) -> dict[str, Any]:
    """The state left, and whether each vector is that of its document and is found."""
    embedder = HashingEmbedder(dimension=32)
    options: Any = {"embedder": embedder, "read_only": True, "verify": True}
    with FaissRetriever.open(folder, **options) as retriever:
        documents = retriever.documents
        vectors = retriever.vectors([document.doc_id for document in documents])
        wanted = embedder.embed_documents([document.text for document in documents])
        # What is built holds vectors in eight bits.
        near = np.einsum("ij,ij->i", vectors, wanted) if documents else np.ones(1)
        close = bool((near > 0.94).all())
        count = max(1, len(documents))
        found = retriever.search_many(wanted[::7], top_k=count, exact=True) if documents else []
        whole = all(len({hit.document.doc_id for hit in hits}) == len(documents) for hits in found)
        return {
            "generation": generation(retriever),
            "contents": contents(retriever),
            "vectors": close and whole,
        }


def kill_one(folder: Path, delay: float, opened: bool) -> int:
    """Let a writer run and kill it; the last commit that it reported, or 0.

    Args:
        folder: The index.
        delay: Seconds that it has.
        opened: Count them from when it has opened the index.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            write(folder, writer)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    reported = os.read(reader, 4) if opened else b""
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"
    while part := os.read(reader, 1 << 16):
        reported += part
    os.close(reader)
    return int.from_bytes(reported[-4:], "big")


def main() -> None:
    """See the module."""
    faiss.omp_set_num_threads(1)
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(int(sys.argv[3]))
    left: list[dict[str, Any]] = []
    last = 0
    for _ in range(kills):
        # Most in the midst of writing, some while the index is made or opened.
        opened = chance.random() < 0.8
        reported = kill_one(folder, chance.uniform(0, 0.25), opened)
        last = max(last, reported)
        if not (folder / "manifest.json").exists():
            assert last == 0
            continue
        left.append({"reported": last, **examine(folder)})
    expected = states(max((state["generation"] for state in left), default=0) + 1)
    wrong = [
        f"{state['generation']} commits, {state['reported']} reported"
        for state in left
        if not state["vectors"]
        or state["contents"] != expected[state["generation"]]
        or not state["reported"] <= state["generation"] <= state["reported"] + 1
    ]
    files = sorted(path.name for path in folder.glob("index-*"))
    print(json.dumps({"states": len(left), "wrong": wrong, "commits": last, "files": files}))


if __name__ == "__main__":
    main()
