"""The kinds of FAISS index behind one interface: vectors by their position.

A built index is never changed, so that searches in other threads and processes need no locks:
what adds or removes gives a new one. All compare by inner product.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import faiss as untyped_faiss
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from numpy.typing import NDArray

    from agentkit_retrievers.embedding import Vectors
    from agentkit_retrievers.index_spec import IndexKind, IndexSpec

    Rows: TypeAlias = NDArray[np.int64]
    Mask: TypeAlias = NDArray[np.bool_]

__all__ = [
    "BuiltIndex",
    "build",
    "exact",
    "extend",
    "is_faithful",
    "keep",
    "reconstruct",
    "search",
    "selector",
]

# What FAISS says of its types is wrong in many places.
faiss: Any = untyped_faiss

_IP = faiss.METRIC_INNER_PRODUCT
_QT_8BIT = faiss.ScalarQuantizer.QT_8bit
_STEP = 50_000
"""Vectors added or decoded at a time, for the sake of memory."""
_TRAIN_LIMIT = 200_000
_TUNING_QUERIES = 100
_EFFORTS: dict[IndexKind, tuple[int, ...]] = {
    "hnsw": (32, 48, 64, 96, 128, 192, 256, 384, 512),
    "ivfsq8": (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "ivfpq": (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
}
_FAITHFUL = 0.95
"""Cosine between a vector and its rounded form below which the rounding does not fit it."""
_MAPPING = threading.Lock()
_GPU = threading.Lock()


@dataclass(frozen=True)
class BuiltIndex:
    """A FAISS index and what its positions stand for."""

    kind: IndexKind
    """Its kind."""
    index: Any
    """FAISS's object. Positions are its own ids, 0 to ``len(rows) - 1``."""
    rows: Rows
    """The row of each position, ascending."""
    trained_on: int
    """How many vectors its quantisers were made for."""

    effort: int = 0
    """How far a search goes: lists looked at, or candidates kept in a graph."""
    recall: float | None = None
    """Share of the true 10 nearest found with that effort, where it was measured."""
    copy: Callable[[], Any] | None = None
    """Makes a copy of :attr:`index` that can be changed; ``None`` for FAISS's own way."""

    @property
    def dimension(self) -> int:
        """Numbers in one vector."""
        return int(self.index.d)

    @cached_property
    def on_gpu(self) -> Any:
        """A flat index's copy on all GPUs that FAISS can use; ``None`` if there are none."""
        if self.kind != "flat" or not hasattr(faiss, "StandardGpuResources"):
            return None
        return faiss.index_cpu_to_all_gpus(self.index) if faiss.get_num_gpus() else None


def build(kind: IndexKind, spec: IndexSpec, rows: Rows, vectors: Vectors) -> BuiltIndex:
    """Train an index on vectors and add them.

    Args:
        kind: What to build.
        spec: Its parameters.
        rows: The row of each vector, ascending.
        vectors: L2-normalised, shape ``(len(rows), dimension)``.
    """
    count, dimension = vectors.shape
    index = _untrained(kind, spec, dimension, count)
    if not index.is_trained:
        index.train(_sample(vectors, _TRAIN_LIMIT))
    for begin in range(0, count, _STEP):
        index.add(vectors[begin : begin + _STEP])
    return _tuned(BuiltIndex(kind, index, rows, count), spec, vectors)


def extend(built: BuiltIndex, rows: Rows, vectors: Vectors) -> BuiltIndex:
    """The index with more vectors, whose rows are higher than those in it."""
    index = _copy(built)
    for begin in range(0, len(rows), _STEP):
        index.add(vectors[begin : begin + _STEP])
    return replace(built, index=index, copy=None, rows=np.concatenate([built.rows, rows]))


def keep(built: BuiltIndex, kept: Mask, spec: IndexSpec) -> BuiltIndex:
    """The index with only some of its positions; the vectors of the others are gone from it."""
    rows = built.rows[kept]
    if built.kind == "hnsw":
        # A graph cannot lose nodes. The codes stay as they are, only the links are made anew.
        index = _graph(spec, built.dimension, built.index.storage)
        positions = np.flatnonzero(kept)
        for begin in range(0, len(positions), _STEP):
            # Not normalised: encoded again, these give the very same codes.
            index.add(built.index.reconstruct_batch(positions[begin : begin + _STEP]))
        return replace(built, index=index, copy=None, rows=rows)
    index = _copy(built)
    dropped = faiss.IDSelectorBatch(np.flatnonzero(~kept).astype(np.int64))
    if built.kind == "ivfpq":
        index.refine_index.remove_ids(dropped)
        index.ntotal = len(rows)
    if built.kind in ("ivfsq8", "ivfpq"):
        lists = _lists(index)
        lists.set_direct_map_type(faiss.DirectMap.NoMap)
        lists.remove_ids(dropped)
        _renumber(lists, np.cumsum(kept) - 1)
    else:
        index.remove_ids(dropped)
    return replace(built, index=index, copy=None, rows=rows)


def search(
    built: BuiltIndex,
    spec: IndexSpec,
    queries: Vectors,
    count: int,
    *,
    among: Any = None,
    share: float = 1.0,
) -> tuple[Vectors, Rows]:
    """Search for several queries at once.

    Args:
        built: Where.
        spec: Its parameters.
        queries: Shape ``(n, dimension)``.
        count: How many to find for each.
        among: A FAISS selector of positions; ``None`` for all.
        share: Share of the positions that it selects; the less, the farther the search goes.

    Returns:
        Scores and positions, both of shape ``(n, count)``, best first; positions are -1 where
        no more were found.
    """
    if among is None and spec.gpu and built.on_gpu is not None:
        with _GPU:  # Its memory for a search in progress is one for all threads.
            scores, positions = built.on_gpu.search(queries, count)
        return scores, positions
    scores, positions = built.index.search(
        queries, count, params=_parameters(built, spec, count, among, share)
    )
    return scores, positions


def exact(
    built: BuiltIndex, queries: Vectors, count: int, among: Any = None
) -> tuple[Vectors, Rows]:
    """As :func:`search`, all selected vectors compared, by the most precise numbers kept."""
    index = built.index
    if built.kind == "hnsw":
        index = index.storage
    elif built.kind == "ivfpq":
        index = index.refine_index
    parameters = None if among is None else _of(faiss.SearchParameters, sel=among)
    if built.kind == "ivfsq8":
        parameters = _of(faiss.SearchParametersIVF, nprobe=index.nlist, **_sel(among))
    scores, positions = faiss.downcast_index(index).search(queries, count, params=parameters)
    return scores, positions


def is_faithful(built: BuiltIndex, rows: Rows, vectors: Vectors) -> bool:
    """Whether the last vectors of an index still are what they were before they were rounded.

    They are not when they lie outside of the ranges that it was trained on.
    """
    if built.kind == "flat" or not len(rows):
        return True
    kept = reconstruct(built, np.arange(len(built.rows) - len(rows), len(built.rows)))
    return bool((np.einsum("ij,ij->i", kept, vectors) >= _FAITHFUL).all())


def reconstruct(built: BuiltIndex, positions: Rows) -> Vectors:
    """Vectors as the index keeps them, shape ``(len(positions), dimension)``."""
    if built.kind == "ivfsq8":
        with _MAPPING:
            built.index.make_direct_map()
    vectors: Vectors = built.index.reconstruct_batch(positions.astype(np.int64))
    if built.kind != "flat" and len(vectors):
        faiss.normalize_L2(vectors)
    return vectors


def selector(mask: Mask) -> Any:
    """A FAISS selector of the positions where the mask is true."""
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def _untrained(kind: IndexKind, spec: IndexSpec, dimension: int, count: int) -> Any:
    if kind == "flat":
        return faiss.IndexFlatIP(dimension)
    if kind == "sq8":
        return faiss.IndexScalarQuantizer(dimension, _QT_8BIT, _IP)
    if kind == "hnsw":
        return _graph(spec, dimension)
    lists = spec.lists or max(1, min(int(2 * count**0.5), count // 39))
    parts = next(m for m in range(min(spec.code_bytes, dimension), 0, -1) if dimension % m == 0)
    coarse = faiss.IndexFlatIP(dimension)
    if kind == "ivfsq8":
        inverted = faiss.IndexIVFScalarQuantizer(coarse, dimension, lists, _QT_8BIT, _IP, False)
        return _few_rounds(inverted)
    codes = _few_rounds(faiss.IndexIVFPQ(coarse, dimension, lists, parts, 8, _IP))
    codes.pq.cp.min_points_per_centroid = 1
    codes.pq.cp.niter = 10
    return faiss.IndexRefine(codes, faiss.IndexScalarQuantizer(dimension, _QT_8BIT, _IP))


def _few_rounds(inverted: Any) -> Any:
    """Clustering that stops when more rounds hardly change the recall, and does not warn."""
    inverted.cp.niter = 8
    inverted.cp.max_points_per_centroid = 50
    inverted.cp.min_points_per_centroid = 1
    return inverted


def _graph(spec: IndexSpec, dimension: int, trained: Any = None) -> Any:
    index = faiss.IndexHNSWSQ(dimension, _QT_8BIT, spec.links, _IP)
    index.hnsw.efConstruction = spec.build_effort
    if trained is not None:
        storage = faiss.downcast_index(index.storage)
        storage.sq = faiss.downcast_index(trained).sq
        storage.is_trained = index.is_trained = True
    return index


def _parameters(built: BuiltIndex, spec: IndexSpec, count: int, among: Any, share: float) -> Any:
    """Search parameters. Where few positions count, as many more are looked at."""
    more = 1 / max(share, 1e-9)
    if built.kind == "hnsw":
        effort = min(int(max(built.effort, 2 * count) * more), len(built.rows))
        return _of(faiss.SearchParametersHNSW, efSearch=effort, **_sel(among))
    if built.kind in ("ivfsq8", "ivfpq"):
        probes = min(_lists(built.index).nlist, int(built.effort * more))
        inner = _of(faiss.SearchParametersIVF, nprobe=probes, **_sel(among))
        if built.kind == "ivfsq8":
            return inner
        return _of(faiss.IndexRefineSearchParameters, k_factor=spec.refine, base_index_params=inner)
    return None if among is None else _of(faiss.SearchParameters, sel=among)


def _copy(built: BuiltIndex) -> Any:
    return faiss.clone_index(built.index) if built.copy is None else built.copy()


def _sel(among: Any) -> dict[str, Any]:
    return {} if among is None else {"sel": among}


def _of(parameters: Any, **values: Any) -> Any:
    return parameters(**values)


def _lists(index: Any) -> Any:
    """The inverted lists' index, within what refines it or by itself."""
    return faiss.downcast_index(index.base_index) if hasattr(index, "base_index") else index


def _renumber(lists: Any, positions: Rows) -> None:
    """Give the ids in the lists their new values."""
    inverted = lists.invlists
    for number in range(lists.nlist):
        size = inverted.list_size(number)
        if size:
            ids = faiss.rev_swig_ptr(inverted.get_ids(number), size)
            ids[:] = positions[ids]


def _tuned(built: BuiltIndex, spec: IndexSpec, vectors: Vectors) -> BuiltIndex:
    """The index with the least effort that finds enough of the true neighbours.

    Some of the vectors themselves are the queries; what is looked for is the others.
    """
    if built.kind not in _EFFORTS:
        return built
    asked = spec.search_effort if built.kind == "hnsw" else spec.probes
    if asked is not None:
        return replace(built, effort=asked)
    queries = _sample(vectors, _TUNING_QUERIES)
    wanted = min(11, len(vectors))
    _, true = faiss.knn(queries, vectors, wanted, metric=_IP)
    for effort in _EFFORTS[built.kind]:
        built = replace(built, effort=effort)
        _, found = search(built, spec, queries, wanted)
        shares = [np.isin(t[1:], f).mean() for t, f in zip(true, found, strict=True)]
        built = replace(built, recall=float(np.mean(shares)))
        if np.mean(shares) >= spec.recall:
            break
    return built


def _sample(vectors: Vectors, limit: int) -> Vectors:
    if len(vectors) <= limit:
        return vectors
    # Seeded: the same documents give the same index.
    chosen = np.random.default_rng(0).choice(len(vectors), limit, replace=False)
    return vectors[np.sort(chosen)]
