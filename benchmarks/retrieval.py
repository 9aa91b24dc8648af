"""Making an index against bare embedding, making it again, and what a hybrid search costs."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agentkit import Document
from agentkit_retrievers import (
    BM25Retriever,
    CachedEmbedder,
    Chunker,
    FaissRetriever,
    HybridRetriever,
    SentenceTransformerEmbedder,
    load_folder,
)
from benchmarks.report import Figure, median_seconds

PASSAGES, ROUNDS = 64, 3
QUERY = "How does the agent find the documents for a question?"


def run() -> list[Figure]:
    """Passages are this repository's own text and code, of all lengths."""
    embedder = SentenceTransformerEmbedder()
    documents = _passages()
    # As indexes do, so that both ways read the same.
    texts = [f"{document.title}\n{document.text}" for document in documents]
    embedder.embed_documents(texts[:8])
    model = embedder._loaded()

    def bare() -> None:
        model.encode(texts, batch_size=embedder.batch_size, show_progress_bar=False)

    def indexed() -> None:
        HybridRetriever.from_documents(documents, embedder=embedder)

    ours, baseline = _interleaved(indexed, bare)
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedEmbedder(embedder, Path(folder) / "vectors.sqlite")
        HybridRetriever.from_documents(documents, embedder=cached)
        again = median_seconds(
            lambda: HybridRetriever.from_documents(documents, embedder=cached), repeat=ROUNDS
        )
        cached.close()
    dense = FaissRetriever.from_documents(documents, embedder=embedder)
    hybrid = HybridRetriever(dense, BM25Retriever.from_documents(documents))
    return [
        Figure(
            what=f"hybrid index of {len(texts)} passages against bare encode()",
            ours=ours,
            baseline=baseline,
            unit="s",
            at_least=0.9,
        ),
        Figure(
            what="the same index again, with the embedding cache",
            ours=again,
            baseline=baseline,
            unit="s",
            at_least=5.0,
        ),
        Figure(
            what="hybrid search against dense search",
            # The query differs each time, so that nothing is remembered.
            ours=1000 * median_seconds(_asking(hybrid.retrieve), repeat=15),
            baseline=1000 * median_seconds(_asking(dense.retrieve), repeat=15),
            unit="ms",
        ),
    ]


def _passages() -> list[Document]:
    root = Path(__file__).parent.parent
    # Folder by folder: at the root there may be an environment, with files by the thousand.
    documents = load_folder(root / "docs", patterns=["*.md"])
    documents += load_folder(root / "agentkit", patterns=["*.py"])
    chunks = Chunker().split_all(documents)
    return chunks[:: max(1, len(chunks) // PASSAGES)][:PASSAGES]


def _interleaved(ours: Callable[[], None], baseline: Callable[[], None]) -> tuple[float, float]:
    """Medians of both, measured in turns so that both see the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for work, found in zip((ours, baseline), times, strict=True):
            begin = time.perf_counter()
            work()
            found.append(time.perf_counter() - begin)
    return statistics.median(times[0]), statistics.median(times[1])


def _asking(search: Callable[[str], object]) -> Callable[[], object]:
    numbers = iter(range(1000))
    return lambda: search(f"{QUERY} {next(numbers)}")
