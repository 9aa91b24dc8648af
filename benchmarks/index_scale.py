"""The index at scale: recall, speed, memory, opening, and what a change costs.

``python -m benchmarks.index_scale [N]`` for another number of vectors than 100,000.

There are no million texts here, so the vectors are made: each is a mixture of two or of three real
embeddings (of the sentences of the project's documents and docstrings), of any weights alike, with
noise of 0.6 times their covariance; normalised. Few centres, or small weights beside one large
one, are feared to make clusters so tight that lists find everything without looking far. Queries
are made in the same way from other random numbers, and are not in the index. Both sides are timed
for single queries by the same threads. What recall and speed are at a million vectors depends on
this construction, so figures are to be compared only with others of the same one.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from agentkit import Document, FaissRetriever
from agentkit_retrievers import IndexSpec, SentenceTransformerEmbedder
from agentkit_retrievers.built_files import read_built, write_built
from agentkit_retrievers.index_kinds import build, search
from benchmarks.report import Figure

_ROOT = Path(__file__).parent.parent
_QUERIES = 100
_STEP = 50_000
_DOCSTRING = re.compile(r'"""(.+?)"""', re.DOTALL)


def run(count: int = 100_000) -> list[Figure]:
    """Measure at ``count`` vectors of 384 numbers."""
    sentences = _sentences()
    vectors, queries = _vectors(sentences, count), _vectors(sentences, _QUERIES, seed=1)
    return [*_searching(vectors, queries), *_overhead(vectors[:2_000]), *_changes()]


def _searching(vectors: Any, queries: Any) -> list[Figure]:
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    _, true = flat.search(queries, 10)
    slow = _median(lambda query: flat.search(query, 10), queries[:20])
    spec = IndexSpec(kind="ivfsq8")
    begin = time.perf_counter()
    built = build("ivfsq8", spec, np.arange(len(vectors)), vectors)
    seconds = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.faiss"
        about = write_built(built, path)
        begin = time.perf_counter()
        mapped = read_built(path, about)
        opening = time.perf_counter() - begin
        size = path.stat().st_size
        _, found = search(mapped, spec, queries, 10)
        fast = _median(lambda query: search(mapped, spec, query, 10), queries)
    missed = 1 - np.mean([len(set(t) & set(f)) / 10 for t, f in zip(true, found, strict=True)])
    what = f"{len(vectors):,} x {vectors.shape[1]}, ivfsq8, {mapped.effort} lists"
    return [
        Figure(what=f"{what}: recall@10 missed", ours=float(missed), unit="", at_most=0.05),
        Figure(
            what=f"{what}: a query, against flat",
            ours=1e3 * fast,
            baseline=1e3 * slow,
            unit="ms",
            at_least=20 if len(vectors) >= 1_000_000 else None,
        ),
        Figure(
            what=f"{what}: memory, against float32",
            ours=size / 1e6,
            baseline=vectors.nbytes / 1e6,
            unit="MB",
            at_least=1 / 0.6,
        ),
        Figure(what=f"{what}: building", ours=seconds, unit="s"),
        Figure(what=f"{what}: opening by memory map", ours=opening, unit="s", at_most=2),
    ]


def _overhead(vectors: Any) -> list[Figure]:
    table = _Table(vectors)
    retriever = FaissRetriever(table, index="flat")
    retriever.add([Document(text=str(i), doc_id=i) for i in range(len(vectors))])
    bare = faiss.IndexFlatIP(vectors.shape[1])
    bare.add(vectors)
    ours, theirs = [], []
    for i in range(100):  # In turns, for the machine may be busy.
        query = vectors[i : i + 1]
        ours.append(_seconds(lambda q=query: retriever.search(q[0], top_k=10)))
        theirs.append(_seconds(lambda q=query: bare.search(q, 10)))
    difference = 1e3 * (statistics.median(ours) - statistics.median(theirs))
    return [Figure(what="a search, beyond bare FAISS", ours=difference, unit="ms", at_most=1)]


def _changes() -> list[Figure]:
    """One document added, replaced and removed in durable indexes of several sizes."""
    figures = []
    chance = np.random.default_rng(0)
    for size in (1_000, 10_000, 100_000):
        table = _Table(chance.standard_normal((size + 100, 384), dtype=np.float32))
        with (
            tempfile.TemporaryDirectory() as folder,
            FaissRetriever.open(folder, embedder=table, index="sq8") as index,
        ):
            index.add([Document(text=str(i), doc_id=i) for i in range(size)])
            times: dict[str, list[float]] = {"add": [], "replace": [], "remove": []}
            for i in range(size, size + 30):
                document = Document(text=str(i), doc_id=i)
                other = Document(text=str(i + 50), doc_id=i)
                times["add"].append(_seconds(lambda d=document: index.add([d])))
                times["replace"].append(_seconds(lambda d=other: index.add([d])))
                times["remove"].append(_seconds(lambda key=i: index.remove([key])))
        figures += [
            Figure(
                what=f"durable: {name} one of {size:,}",
                ours=1e3 * statistics.median(values),
                unit="ms",
            )
            for name, values in times.items()
        ]
    return figures


class _Table:
    """An embedder of given vectors: the text is a position."""

    model_name = "table"

    def __init__(self, vectors: Any) -> None:
        self.vectors = vectors
        self.dimension = vectors.shape[1]

    def embed_documents(self, texts: Any) -> Any:
        return self.vectors[[int(text) for text in texts]]

    def embed_query(self, text: str) -> Any:
        return self.vectors[int(text)]


def _sentences() -> Any:
    """Real embeddings: of the sentences of the project's own documents and docstrings."""
    files = [*_ROOT.glob("docs/*.md"), *_ROOT.glob("*.md"), *_ROOT.glob("examples/data/**/*.md")]
    text = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(files))
    for path in sorted(_ROOT.glob("*/agentkit_*/**/*.py")) + sorted(_ROOT.glob("agentkit/**/*.py")):
        text += "\n\n" + "\n\n".join(_DOCSTRING.findall(path.read_text(encoding="utf-8")))
    parts = [" ".join(part.split()) for part in re.split(r"(?<=[.!?:])\s+|\n\n|\n[-|#] ?", text)]
    embedder = SentenceTransformerEmbedder()
    return embedder.embed_documents(list(dict.fromkeys(p for p in parts if len(p) > 30)))


def _vectors(real: Any, count: int, seed: int = 0) -> Any:
    """Many vectors of the kind of a few; see above."""
    chance = np.random.default_rng(seed)
    shape = np.linalg.cholesky(np.cov(real.T) + 1e-6 * np.eye(real.shape[1])).astype(np.float32)
    vectors = np.empty((count, real.shape[1]), dtype=np.float32)
    for begin in range(0, count, _STEP):
        part = vectors[begin : begin + _STEP]
        weights = chance.dirichlet([1.0] * 3, len(part)).astype(np.float32)
        weights[chance.random(len(part)) < 0.5, 2] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        chosen = chance.integers(0, len(real), (len(part), 3))
        part[:] = 0.6 * chance.standard_normal(part.shape, dtype=np.float32) @ shape.T
        for i in range(3):
            part += weights[:, i : i + 1] * real[chosen[:, i]]
    faiss.normalize_L2(vectors)
    return vectors


def _median(work: Callable[[Any], object], queries: Any) -> float:
    return statistics.median(_seconds(lambda q=q: work(q.reshape(1, -1))) for q in queries)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    for figure in run(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 100_000):
        print(*figure.cells(), sep=" | ", flush=True)
