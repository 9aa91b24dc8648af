"""The vectors that came last, in a matrix that grows at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss as untyped_faiss
import numpy as np

if TYPE_CHECKING:
    from typing import Self, TypeAlias

    from numpy.typing import NDArray

    from agentkit_retrievers.embedding import Vectors

    Rows: TypeAlias = NDArray[np.int64]

__all__ = ["FreshVectors"]

# What FAISS says of its types is wrong in many places.
faiss: Any = untyped_faiss

_LEAST_CAPACITY = 64


class _Buffer:
    """Room for vectors; what lies before ``used`` never changes."""

    def __init__(self, capacity: int, dimension: int) -> None:
        self.matrix: Vectors = np.empty((capacity, dimension), dtype=np.float32)
        self.rows: Rows = np.empty(capacity, dtype=np.int64)
        self.used = 0

    def append(self, rows: Rows, vectors: Vectors) -> None:
        end = self.used + len(rows)
        self.matrix[self.used : end] = vectors
        self.rows[self.used : end] = rows
        self.used = end


class FreshVectors:
    """Vectors and their rows, ascending. Unchangeable: :meth:`with_more` gives a longer one.

    Appending to the newest one costs what is appended, for both share one buffer.

    Args:
        dimension: Numbers in one vector.
    """

    def __init__(self, dimension: int) -> None:
        self._buffer = _Buffer(_LEAST_CAPACITY, dimension)
        self._size = 0

    @property
    def rows(self) -> Rows:
        """The row of each vector."""
        return self._buffer.rows[: self._size]

    @property
    def vectors(self) -> Vectors:
        """The vectors, shape ``(len(self), dimension)``."""
        return self._buffer.matrix[: self._size]

    def __len__(self) -> int:
        return self._size

    def with_more(self, rows: Rows, vectors: Vectors) -> Self:
        """These vectors and others after them."""
        size = self._size + len(rows)
        buffer = self._buffer
        # Where something else was appended meanwhile, that end is not ours to write to.
        if buffer.used != self._size or size > len(buffer.rows):
            capacity = max(_LEAST_CAPACITY, size if not self._size else 2 * size)
            buffer = _Buffer(capacity, buffer.matrix.shape[1])
            buffer.append(self.rows, self.vectors)
        buffer.append(rows, vectors)
        return self._of(buffer, size)

    def search(self, queries: Vectors, count: int, among: Any = None) -> tuple[Vectors, Rows]:
        """Compare all vectors with each query.

        Args:
            queries: Shape ``(n, dimension)``, contiguous.
            count: How many to find for each.
            among: A FAISS selector of positions; ``None`` for all.

        Returns:
            Inner products and positions, both of shape ``(n, count)``, best first; positions
            are -1 where no more were found.
        """
        scores = np.empty((len(queries), count), dtype=np.float32)
        positions = np.empty((len(queries), count), dtype=np.int64)
        # What IndexFlatIP.search does, but on memory of ours.
        faiss.knn_inner_product(
            faiss.swig_ptr(queries),
            faiss.swig_ptr(self.vectors),
            queries.shape[1],
            len(queries),
            self._size,
            count,
            faiss.swig_ptr(scores),
            faiss.swig_ptr(positions),
            among,
        )
        return scores, positions

    def _of(self, buffer: _Buffer, size: int) -> Self:
        made = type(self).__new__(type(self))
        made._buffer, made._size = buffer, size
        return made
