"""Which FAISS index to use for how many vectors, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from agentkit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["IndexChoice", "IndexKind", "IndexSpec", "as_index_spec", "choose_index"]

IndexKind: TypeAlias = Literal["flat", "sq8", "hnsw", "ivfsq8", "ivfpq"]
"""A kind of index:

- ``flat``: every vector as it is, all of them compared; exact.
- ``sq8``: the same over 8-bit numbers; a quarter of the memory.
- ``hnsw``: a graph of neighbours over 8-bit numbers; a third of the memory, and the time of a
  search hardly grows with the number of vectors, but building it takes several times as long as
  the lists below, and clearing removed vectors out means building it again.
- ``ivfsq8``: lists around centroids with 8-bit numbers, of which a search looks at the nearest
  lists; little more than a quarter of the memory.
- ``ivfpq``: lists with product-quantised codes, the best candidates compared again by 8-bit
  numbers; a little more memory, for searches that read less of it.
"""

# Fewer vectors than this tell too little about the range of the numbers (8 bits) or about the
# clusters (256 centroids for each part of a product quantiser).
_LEAST_TO_TRAIN: dict[str, int] = {
    "flat": 1,
    "sq8": 256,
    "hnsw": 256,
    "ivfsq8": 2_000,
    "ivfpq": 2_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """Kind and parameters of an index.

    Raises:
        UserError: A parameter is out of its range.
    """

    kind: IndexKind | Literal["auto"] = "auto"
    """``"auto"`` takes a kind by the number of vectors."""
    flat_until: int = 50_000
    """``auto``: up to so many vectors every search is exact."""
    ivfsq8_until: int = 5_000_000
    """``auto``: ``ivfsq8`` up to so many vectors, ``ivfpq`` from there on."""
    fresh: int = 20_000
    """So many new vectors are kept beside the index before they are merged into it."""
    max_dead: float = 0.2
    """Share of removed vectors from which on they are cleared out of the index."""
    recall: float = 0.97
    """Share of the true 10 nearest that searches are to find. When an index is built, it is
    measured with some of its own vectors how far a search must go for that."""
    links: int = 16
    """``hnsw``: neighbours of each vector in the graph; twice as many on its lowest level."""
    build_effort: int = 80
    """``hnsw``: candidates looked at for each vector that is added (efConstruction)."""
    search_effort: int | None = None
    """``hnsw``: candidates kept during a search (efSearch); ``None`` for :attr:`recall`."""
    lists: int | None = None
    """``ivfsq8``, ``ivfpq``: number of lists; ``None`` for twice the square root of the vectors."""
    probes: int | None = None
    """``ivfsq8``, ``ivfpq``: lists that a search looks at (nprobe); ``None`` for :attr:`recall`."""
    code_bytes: int = 48
    """``ivfpq``: bytes a vector in the lists; less if the dimension is no multiple of it."""
    refine: int = 20
    """``ivfpq``: candidates compared again for each document asked for."""
    gpu: bool = True
    """``flat``: keep the merged vectors on GPUs too, where FAISS was built for them and finds any.
    Searches among some of the documents only stay on the CPU."""

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.kind not in ("auto", *get_args(IndexKind)):
            raise UserError(
                f"index={self.kind!r} is no kind of index; there are 'auto', "
                + ", ".join(repr(kind) for kind in get_args(IndexKind))
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"IndexSpec({name}={value}): it must be at least {least}")
        if not 0 < self.max_dead <= 1:
            raise UserError(f"IndexSpec(max_dead={self.max_dead}): it must be above 0, at most 1")
        if not 0 < self.recall <= 1:
            raise UserError(f"IndexSpec(recall={self.recall}): it must be above 0, at most 1")

    def to_dict(self) -> dict[str, Any]:
        """All parameters, JSON-able; the reverse of :meth:`from_dict`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IndexSpec:
        """Build from :meth:`to_dict`'s output; parameters of newer versions are passed over."""
        return cls(**{name: value for name, value in data.items() if name in _FIELDS})


_FIELDS = frozenset(IndexSpec.__dataclass_fields__)
_LEAST: dict[str, int] = {
    "flat_until": 0,
    "ivfsq8_until": 0,
    "fresh": 0,
    "links": 2,
    "build_effort": 1,
    "search_effort": 1,
    "lists": 1,
    "probes": 1,
    "code_bytes": 1,
    "refine": 1,
}


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """A kind of index and why it was taken."""

    kind: IndexKind
    """The kind."""
    reason: str
    """For people to read."""


def as_index_spec(index: str | IndexSpec) -> IndexSpec:
    """A specification, from the name of a kind too.

    Raises:
        UserError: There is no such kind.
    """
    return index if isinstance(index, IndexSpec) else IndexSpec(kind=cast("Any", index))


def choose_index(spec: IndexSpec, count: int, current: IndexKind | None = None) -> IndexChoice:
    """The kind for a number of vectors.

    Args:
        spec: What was asked for.
        count: Number of vectors.
        current: The kind in use. An index that shrinks keeps it down to half of the limit, so
            that one of about that size is not built again and again.
    """
    if spec.kind != "auto":
        least = _LEAST_TO_TRAIN[spec.kind]
        if count < least:
            return IndexChoice(
                "flat", f"{spec.kind} is built from {least:,} vectors on; there are {count:,}"
            )
        return IndexChoice(spec.kind, "asked for")
    flat_until = max(spec.flat_until, _LEAST_TO_TRAIN["ivfsq8"] - 1)
    if count <= (flat_until if current in (None, "flat") else flat_until // 2):
        return IndexChoice("flat", f"exact: {count:,} vectors are not more than {flat_until:,}")
    ivfsq8_until = max(spec.ivfsq8_until, _LEAST_TO_TRAIN["ivfpq"] - 1)
    if count <= (ivfsq8_until // 2 if current == "ivfpq" else ivfsq8_until):
        return IndexChoice(
            "ivfsq8", f"{count:,} vectors are more than the {flat_until:,} of an exact search"
        )
    return IndexChoice("ivfpq", f"{count:,} vectors are more than {ivfsq8_until:,}")
