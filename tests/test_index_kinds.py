"""Kinds of index: what they find, how they change into each other, and removing from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agentkit.errors import UserError
from agentkit.retrieval import Document
from agentkit_retrievers import FaissRetriever, IndexSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agentkit_retrievers.embedding import Vectors

DIMENSION = 48
COUNT = 3_000
KINDS = ["flat", "sq8", "hnsw", "ivfsq8", "ivfpq"]


class Clustered:
    """An embedder whose vectors are given: document ``i`` has the text ``str(i)``."""

    model_name = "clustered"
    dimension = DIMENSION

    def __init__(self, count: int = COUNT, seed: int = 0) -> None:
        chance = np.random.default_rng(seed)
        centres = chance.standard_normal((40, DIMENSION), dtype=np.float32)
        noise = chance.standard_normal((count, DIMENSION), dtype=np.float32)
        self.table = centres[chance.integers(0, 40, count)] + 0.7 * noise
        self.table /= np.linalg.norm(self.table, axis=1, keepdims=True)
        self.embedded = 0

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.embedded += len(texts)
        return self.table[[int(text) for text in texts]]

    def embed_query(self, text: str) -> Vectors:
        return self.table[int(text)]


def numbers(begin: int, end: int, step: int = 1) -> list[Document]:
    return [
        Document(text=str(i), doc_id=i, metadata={"n": i, "third": i % 3})
        for i in range(begin, end, step)
    ]


@pytest.fixture(scope="module")
def embedder() -> Clustered:
    return Clustered()


def made(embedder: Clustered, kind: str, **options: Any) -> FaissRetriever:
    spec = IndexSpec(**{"kind": kind, "fresh": 100, "code_bytes": 12, **options})
    return FaissRetriever.from_documents(numbers(0, COUNT), embedder=embedder, index=spec)


def found(retriever: FaissRetriever, queries: Vectors, **options: Any) -> list[list[Any]]:
    hits = retriever.search_many(queries, **{"top_k": 10, **options})
    return [[hit.document.doc_id for hit in line] for line in hits]


def recall(retriever: FaissRetriever, embedder: Clustered, alive: list[int]) -> float:
    """Share of the true 10 nearest, computed without FAISS."""
    queries = embedder.table[alive][:100]
    true = np.argsort(-(queries @ embedder.table[alive].T), axis=1)[:, :10]
    lines = found(retriever, queries)
    shares = [len({alive[i] for i in t} & set(f)) / 10 for t, f in zip(true, lines, strict=True)]
    return float(np.mean(shares))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_finds_adds_and_removes(embedder: Clustered, kind: str, tmp_path: Path) -> None:
    retriever = made(embedder, kind)
    assert retriever.index_kind == kind
    assert retriever.index_reason.startswith("asked for")
    assert recall(retriever, embedder, list(range(COUNT))) > 0.93

    # Removed ones are never found, be they few or so many that the index is cleared of them.
    removed = set(range(0, 60, 2))
    retriever.remove(removed)
    assert recall(retriever, embedder, sorted(set(range(COUNT)) - removed)) > 0.93
    removed |= set(range(1, COUNT, 3))
    retriever.remove(removed)
    alive = sorted(set(range(COUNT)) - removed)
    assert recall(retriever, embedder, alive) > 0.93
    assert not removed & {key for line in found(retriever, embedder.table[:200]) for key in line}
    assert len(retriever) == len(alive)
    assert {key for line in found(retriever, embedder.table[:1], top_k=COUNT) for key in line} == (
        set(alive)
    )

    # They can come back, and what stayed is where it was.
    retriever.add(numbers(0, COUNT))
    retriever.compact()
    assert len(retriever) == COUNT
    assert recall(retriever, embedder, list(range(COUNT))) > 0.93
    kept = retriever.vectors(range(50))
    assert np.einsum("ij,ij->i", kept, embedder.table[:50]).min() > 0.995

    retriever.save(tmp_path)
    loaded = FaissRetriever.load(tmp_path, embedder=embedder)
    assert loaded.index_kind == kind
    assert recall(loaded, embedder, list(range(COUNT))) > 0.93


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({"third": 1}, lambda n: n % 3 == 1),  # many
        ({"n": {"$lt": 25}}, lambda n: n < 25),  # few
        ({"n": {"$gte": 200}, "third": [0, 2]}, lambda n: n >= 200 and n % 3 != 1),
        (lambda document: document.metadata["n"] % 1000 == 7, lambda n: n % 1000 == 7),
        ({"n": -1}, lambda n: False),
    ],
)
def test_filters_leave_no_search_short(
    embedder: Clustered, kind: str, where: Any, fits: Any
) -> None:
    retriever = _shared(embedder, kind)
    removed = [3, 4, 1007]
    alive = [n for n in range(COUNT) if n not in removed]
    wanted = [n for n in alive if fits(n)]
    queries = embedder.table[::300]
    lines = found(retriever, queries, where=where)
    assert all(len(line) == min(10, len(wanted)) for line in lines)
    assert all(set(line) <= set(wanted) for line in lines)
    if wanted:
        true = np.argsort(-(queries @ embedder.table[wanted].T), axis=1)[:, :10]
        shares = [len({wanted[i] for i in t} & set(f)) for t, f in zip(true, lines, strict=True)]
        assert np.mean(shares) > 0.9 * min(10, len(wanted))
    everything = found(retriever, queries[:1], where=where, top_k=COUNT)[0]
    assert sorted(everything) == wanted


_SHARED: dict[str, FaissRetriever] = {}


def _shared(embedder: Clustered, kind: str) -> FaissRetriever:
    if kind not in _SHARED:
        # The last documents are beside the index proper.
        retriever = FaissRetriever(embedder, index=IndexSpec(kind=kind, fresh=100, code_bytes=12))  # type: ignore[arg-type]
        retriever.add(numbers(0, COUNT - 60))
        retriever.add(numbers(COUNT - 60, COUNT))
        retriever.remove([3, 4, 1007])
        _SHARED[kind] = retriever
    return _SHARED[kind]


def test_kept_filters_follow_changes(embedder: Clustered) -> None:
    retriever = FaissRetriever.from_documents(numbers(0, 30), embedder=embedder)
    query = embedder.table[:1]
    where = {"third": 1}
    assert len(found(retriever, query, where=where, top_k=99)[0]) == 10
    retriever.add(numbers(30, 60))
    retriever.remove([1, 2])
    retriever.add([Document(text="4", doc_id=4, metadata={"third": 2})])  # the text is as it was
    wanted = [n for n in range(60) if n % 3 == 1 and n not in (1, 4)]
    assert sorted(found(retriever, query, where=where, top_k=99)[0]) == wanted


def test_the_kind_follows_the_size() -> None:
    embedder = Clustered(9_000)
    spec = IndexSpec(flat_until=2_500, ivfsq8_until=6_000, fresh=500, code_bytes=12)
    retriever = FaissRetriever(embedder, index=spec)
    seen = [(0, retriever.index_kind)]
    for begin in range(0, 9_000, 750):
        retriever.add(numbers(begin, begin + 750))
        seen.append((len(retriever), retriever.index_kind))
    assert [kind for count, kind in seen if count <= 2_500] == ["flat"] * 4
    assert [kind for count, kind in seen if 2_500 < count <= 6_000] == ["ivfsq8"] * 5
    assert [kind for count, kind in seen if count > 6_000] == ["ivfpq"] * 4
    assert "9,000 vectors are more than 6,000" in retriever.index_reason
    assert recall(retriever, embedder, list(range(9_000))) > 0.93
    retriever.remove(range(1_000, 9_000))
    retriever.compact()
    assert retriever.index_kind == "flat"
    assert recall(retriever, embedder, list(range(1_000))) > 0.97  # rounded on the way


def test_an_index_asked_for_waits_for_enough_to_train_on(embedder: Clustered) -> None:
    retriever = FaissRetriever(embedder, index="hnsw")
    retriever.add(numbers(0, 200))
    assert retriever.index_kind == "flat"
    assert retriever.index_reason == "hnsw is built from 256 vectors on; there are 200"
    retriever.add(numbers(200, 300))
    assert retriever.index_kind == "hnsw"


def test_vectors_outside_the_trained_range_train_the_index_anew() -> None:
    embedder = Clustered(600)
    embedder.table[:, 0] = 0
    embedder.table[300:, 0] = 3
    embedder.table /= np.linalg.norm(embedder.table, axis=1, keepdims=True)
    retriever = FaissRetriever(embedder, index=IndexSpec(kind="sq8", fresh=10))
    retriever.add(numbers(0, 300))
    retriever.add(numbers(300, 600))
    kept = retriever.vectors(range(600))
    assert np.einsum("ij,ij->i", kept, embedder.table).min() > 0.99


def test_unchanged_texts_are_not_embedded_again() -> None:
    embedder = Clustered(50)
    retriever = FaissRetriever.from_documents(numbers(0, 50), embedder=embedder)
    assert embedder.embedded == 50
    retriever.add(numbers(0, 50))
    retriever.add([Document(text="5", doc_id=5, metadata={"new": True})])
    assert embedder.embedded == 50
    assert retriever.get([5])[0].metadata == {"new": True}
    retriever.add([Document(text="6", doc_id=5), Document(text="7", doc_id=7)])
    assert embedder.embedded == 51
    assert retriever.search(embedder.table[6], top_k=2)[1].score == pytest.approx(1, abs=1e-5)


async def test_many_queries_are_as_one_by_one(embedder: Clustered) -> None:
    retriever = _shared(embedder, "hnsw")
    texts = ["10", "20", "2990"]
    many = retriever.retrieve_many(texts, top_k=5)
    assert many == [retriever.retrieve(text, top_k=5) for text in texts]
    assert [line[0].document.doc_id for line in many] == [10, 20, 2990]
    assert await retriever.asearch_many(embedder.table[[10, 20, 2990]], top_k=5) == many
    assert await retriever.asearch(embedder.table[10], top_k=5) == many[0]
    assert retriever.retrieve_many([]) == []
    assert retriever.search_many(embedder.table[:0]) == []


def test_exact_searches_in_any_kind(embedder: Clustered) -> None:
    for kind in KINDS[2:]:
        retriever = made(embedder, kind, probes=1, search_effort=1, links=2)
        queries = embedder.table[::100]
        true = np.argsort(-(queries @ embedder.table.T), axis=1)[:, :10]

        def share(lines: list[list[Any]], true: Any = true) -> float:
            return float(np.mean([len(set(t) & set(f)) for t, f in zip(true, lines, strict=True)]))

        assert share(found(retriever, queries, exact=True)) > 9.5
        assert share(found(retriever, queries)) < share(found(retriever, queries, exact=True))


def test_marginal_relevance(embedder: Clustered) -> None:
    retriever = _shared(embedder, "flat")
    query = embedder.table[11]
    plain = [hit.document.doc_id for hit in retriever.search(query, top_k=4)]
    assert [hit.document.doc_id for hit in retriever.search(query, top_k=4, mmr=1)] == plain
    varied = retriever.search(query, top_k=4, mmr=0.2, fetch_k=200)
    assert varied[0].document.doc_id == 11
    chosen = retriever.vectors([hit.document.doc_id for hit in varied])
    closest = retriever.vectors(plain)
    assert np.triu(chosen @ chosen.T, 1).max() < np.triu(closest @ closest.T, 1).max()
    with pytest.raises(UserError, match="from 0 to 1, not 2"):
        retriever.search(query, mmr=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "annoy"}, "index='annoy' is no kind of index; there are 'auto', 'flat'"),
        ({"max_dead": 0}, r"max_dead=0\): it must be above 0"),
        ({"recall": 1.5}, r"recall=1.5\)"),
        ({"links": 1}, r"links=1\): it must be at least 2"),
    ],
)
def test_specifications_that_cannot_be(options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        IndexSpec(**options)


def test_specifications_survive_json() -> None:
    spec = IndexSpec(kind="hnsw", links=8, probes=3)
    assert IndexSpec.from_dict({**spec.to_dict(), "of_the_future": 1}) == spec
