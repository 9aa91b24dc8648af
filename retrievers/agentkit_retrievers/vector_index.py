"""Vectors by row: a built FAISS index, the vectors that came since, and what was removed.

Adding and removing cost what is added or removed. New vectors wait beside the built index, where
they are compared one by one; removed ones stay in it and are kept out of every search. Both are
merged into the index when there are many of them: that is when its kind is chosen, when it is
trained, and when removed vectors are gone for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from agentkit_retrievers import index_kinds
from agentkit_retrievers.fresh_vectors import FreshVectors
from agentkit_retrievers.index_spec import IndexChoice, choose_index

if TYPE_CHECKING:
    from typing import Self, TypeAlias

    from numpy.typing import NDArray

    from agentkit_retrievers.embedding import Vectors
    from agentkit_retrievers.index_kinds import BuiltIndex, Mask
    from agentkit_retrievers.index_spec import IndexKind, IndexSpec

    Rows: TypeAlias = NDArray[np.int64]

__all__ = ["NO_ROWS", "VectorIndex"]

NO_ROWS: Rows = np.empty(0, dtype=np.int64)
"""No rows at all."""

# An index that has grown to so many times the vectors that it was trained on is trained anew.
_OUTGROWN = 4
# Of an allow-set smaller than this, or than this share of the index, each vector is compared.
_FEW = 1_000
_FEW_SHARE = 0.02
# Not worth clearing out.
_FEW_DEAD = 64


@dataclass(frozen=True, kw_only=True)
class VectorIndex:
    """Vectors by row, unchangeable: what adds or removes gives a new one.

    A search needs no lock, therefore, and sees one state from beginning to end.
    """

    spec: IndexSpec
    """What was asked for."""
    built: BuiltIndex | None = None
    """The index proper; ``None`` while there are few vectors."""
    fresh: FreshVectors
    """What came after; its rows are higher than those of :attr:`built`."""
    dead: Rows
    """Removed rows that still are in one of the two, ascending."""

    @classmethod
    def empty(cls, spec: IndexSpec, dimension: int) -> Self:
        """An index of no vectors."""
        return cls(spec=spec, fresh=FreshVectors(dimension), dead=NO_ROWS)

    def __len__(self) -> int:
        held = 0 if self.built is None else len(self.built.rows)
        return held + len(self.fresh) - len(self.dead)

    @property
    def choice(self) -> IndexChoice:
        """The kind in use, and why."""
        kind = "flat" if self.built is None else self.built.kind
        wanted = choose_index(self.spec, len(self), kind)
        if wanted.kind == kind:
            recall = None if self.built is None else self.built.recall
            measured = "" if recall is None else f"; recall@10 when built {recall:.3f}"
            return IndexChoice(kind, wanted.reason + measured)
        return IndexChoice(kind, f"{wanted.kind} from the next compact() on: {wanted.reason}")

    def changed(self, *, removed: Rows, rows: Rows, vectors: Vectors) -> Self:
        """The index without some rows and with new ones, merged if it is time to.

        Args:
            removed: Rows that are in it, in any order.
            rows: Higher than all before, ascending.
            vectors: L2-normalised, one for each of ``rows``.
        """
        index = replace(
            self,
            fresh=self.fresh.with_more(rows, vectors) if len(rows) else self.fresh,
            dead=np.union1d(self.dead, removed) if len(removed) else self.dead,
        )
        return index.merged() if index._is_due() else index

    def merged(self, *, fully: bool = False) -> Self:
        """The index with all vectors in :attr:`built`.

        Args:
            fully: Clear removed vectors out, however few; else a graph keeps some.
        """
        if not len(self):
            return self.empty(self.spec, self.dimension)
        wanted = choose_index(self.spec, len(self), None if self.built is None else self.built.kind)
        rows, vectors = self.fresh.rows, self.fresh.vectors
        if not self._alive_fresh.all():
            rows, vectors = rows[self._alive_fresh], vectors[self._alive_fresh]
        if self.built is None or wanted.kind != self.built.kind or self._is_outgrown():
            return self._rebuilt(wanted.kind, rows, vectors)
        built, dead = self.built, NO_ROWS
        if not self._alive_built.all():
            share = 1 - float(self._alive_built.mean())
            if fully or built.kind != "hnsw" or share > self.spec.max_dead:
                built = index_kinds.keep(built, self._alive_built, self.spec)
            else:
                dead = built.rows[~self._alive_built]
        if len(rows):
            built = index_kinds.extend(built, rows, vectors)
            if not index_kinds.is_faithful(built, rows, vectors):
                return self._rebuilt(wanted.kind, rows, vectors)
        return self._with(built, dead)

    def _rebuilt(self, kind: IndexKind, rows: Rows, vectors: Vectors) -> Self:
        """Trained anew, on what is in it and more."""
        if self.built is not None:
            old = index_kinds.reconstruct(self.built, np.flatnonzero(self._alive_built))
            rows = np.concatenate([self.built.rows[self._alive_built], rows])
            vectors = np.concatenate([old, vectors])
        return self._with(index_kinds.build(kind, self.spec, rows.copy(), vectors), NO_ROWS)

    @property
    def dimension(self) -> int:
        """Numbers in one vector."""
        return int(self.fresh.vectors.shape[1])

    def search(
        self, queries: Vectors, count: int, *, allowed: Rows | None = None, exact: bool = False
    ) -> tuple[Vectors, Rows]:
        """The rows closest to each query.

        Args:
            queries: L2-normalised, shape ``(n, dimension)``.
            count: How many for each, 1 or more.
            allowed: Search only among these rows, ascending.
            exact: Compare every vector.

        Returns:
            Cosine similarities and rows, both of shape ``(n, count)`` or narrower where there
            are not so many, best first; rows are -1 where an inexact index found no more.
        """
        found = []
        if allowed is not None and len(self.dead):
            allowed = allowed[_positions(self.dead, allowed) < 0]
        if self.built is not None:
            scores, at = self._search_built(self.built, queries, count, allowed, exact)
            found.append((scores, _rows_at(self.built.rows, at)))
        if len(self.fresh):
            scores, at = self._search_fresh(queries, count, allowed)
            found.append((scores, _rows_at(self.fresh.rows, at)))
        if not found:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if len(found) == 1:
            return found[0]
        scores = np.concatenate([part for part, _ in found], axis=1)
        rows = np.concatenate([part for _, part in found], axis=1)
        order = np.argsort(np.where(rows < 0, np.inf, -scores), axis=1, kind="stable")[:, :count]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def vectors(self, rows: Rows) -> Vectors:
        """The vectors of rows, in this order, as they are kept: 8-bit kinds round them."""
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        here = _positions(self.fresh.rows, rows)
        vectors[here >= 0] = self.fresh.vectors[here[here >= 0]]
        if self.built is not None:
            at = _positions(self.built.rows, rows)
            vectors[at >= 0] = index_kinds.reconstruct(self.built, at[at >= 0])
        return vectors

    def _search_built(
        self, built: BuiltIndex, queries: Vectors, count: int, allowed: Rows | None, exact: bool
    ) -> tuple[Vectors, Rows]:
        if allowed is None:
            size, among = int(self._alive_count), self._built_selector
        else:
            positions = _positions(built.rows, allowed)
            positions = positions[positions >= 0]
            size = len(positions)
            if size and size <= max(_FEW, _FEW_SHARE * len(built.rows)):
                return _compare(built, queries, min(count, size), positions)
            among = index_kinds.selector(_mask(len(built.rows), positions)) if size else None
        count = min(count, size)
        if not count:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if exact:
            return index_kinds.exact(built, queries, count, among)
        share = size / len(built.rows)
        scores, at = index_kinds.search(built, self.spec, queries, count, among=among, share=share)
        short = at[:, -1] < 0
        if short.any():  # The way through the index ended before enough were found.
            scores[short], at[short] = index_kinds.exact(built, queries[short], count, among)
        return scores, at

    def _search_fresh(
        self, queries: Vectors, count: int, allowed: Rows | None
    ) -> tuple[Vectors, Rows]:
        mask = self._alive_fresh
        if allowed is not None:
            positions = _positions(self.fresh.rows, allowed)
            mask = _mask(len(mask), positions[positions >= 0])
        size = int(np.count_nonzero(mask))
        if not size:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        among = None if size == len(mask) else index_kinds.selector(mask)
        return self.fresh.search(queries, min(count, size), among)

    def _is_due(self) -> bool:
        kind = "flat" if self.built is None else self.built.kind
        wanted = choose_index(self.spec, len(self), kind).kind
        if len(self.fresh) > self.spec.fresh or wanted not in ("flat", kind):
            return True
        held = len(self.fresh) + (0 if self.built is None else len(self.built.rows))
        return len(self.dead) > max(_FEW_DEAD, self.spec.max_dead * held)

    def _is_outgrown(self) -> bool:
        built = self.built
        return (
            built is not None and built.kind != "flat" and len(self) > _OUTGROWN * built.trained_on
        )

    def _with(self, built: BuiltIndex, dead: Rows) -> Self:
        return replace(self, built=built, fresh=FreshVectors(self.dimension), dead=dead)

    @cached_property
    def _alive_built(self) -> Mask:
        return _alive(NO_ROWS if self.built is None else self.built.rows, self.dead)

    @cached_property
    def _alive_fresh(self) -> Mask:
        return _alive(self.fresh.rows, self.dead)

    @cached_property
    def _alive_count(self) -> int:
        return int(np.count_nonzero(self._alive_built))

    @cached_property
    def _built_selector(self) -> Any:
        return None if self._alive_built.all() else index_kinds.selector(self._alive_built)


def _compare(
    built: BuiltIndex, queries: Vectors, count: int, positions: Rows
) -> tuple[Vectors, Rows]:
    """As :func:`index_kinds.search`, each of a few positions compared."""
    vectors = index_kinds.reconstruct(built, positions)
    scores, found = faiss.knn(queries, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
    return scores, positions[found]


def _positions(held: Rows, rows: Rows) -> Rows:
    """Where rows are among ascending ones; -1 for those that are not."""
    if not len(held):
        return np.full(len(rows), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(held, rows), len(held) - 1)
    return np.where(held[at] == rows, at, -1)


def _rows_at(held: Rows, positions: Rows) -> Rows:
    return np.where(positions < 0, -1, held[positions])


def _alive(held: Rows, dead: Rows) -> Mask:
    mask = np.ones(len(held), dtype=bool)
    if len(dead):
        at = _positions(held, dead)
        mask[at[at >= 0]] = False
    return mask


def _mask(size: int, positions: Rows) -> Mask:
    mask = np.zeros(size, dtype=bool)
    mask[positions] = True
    return mask
