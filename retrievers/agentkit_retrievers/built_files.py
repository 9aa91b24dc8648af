"""Built indexes as files of FAISS's own format, which carry the rows too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import faiss as untyped_faiss
import numpy as np

from agentkit_retrievers.index_kinds import BuiltIndex
from agentkit_retrievers.index_spec import IndexKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["describe", "read_built", "with_rows", "without_rows", "write_built"]

# What FAISS says of its types is wrong in many places.
faiss: Any = untyped_faiss

_KINDS: dict[type, IndexKind] = {
    faiss.IndexFlatIP: "flat",
    faiss.IndexFlat: "flat",
    faiss.IndexScalarQuantizer: "sq8",
    faiss.IndexHNSWSQ: "hnsw",
    faiss.IndexIVFScalarQuantizer: "ivfsq8",
    faiss.IndexRefine: "ivfpq",
}

_EFFORT = 96
"""Of an index whose file is all that is known of it."""


def write_built(built: BuiltIndex, path: Path) -> dict[str, Any]:
    """Write an index; what :func:`read_built` needs to know beside the file, JSON-able."""
    faiss.write_index(with_rows(built, faiss.IndexIDMap), str(path))
    return describe(built)


def describe(built: BuiltIndex) -> dict[str, Any]:
    """What an index's file does not say of it, JSON-able."""
    return {
        "kind": built.kind,
        "vectors": len(built.rows),
        "trained_on": built.trained_on,
        "effort": built.effort,
        "recall": built.recall,
    }


def read_built(path: Path, about: Mapping[str, Any]) -> BuiltIndex:
    """Map an index's file into memory: its pages are read when a search needs them.

    Raises:
        RuntimeError: The file is no index.
        ValueError: It is not the index that was described.
    """
    mapped = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    # FAISS cannot change an index in mapped memory, nor copy it into memory of its own.
    built = replace(without_rows(mapped, about), copy=lambda: _read_index(path))
    if built.kind != about["kind"] or len(built.rows) != about["vectors"]:
        raise ValueError(f"{path.name} is another index than its description says")
    return built


def _read_index(path: Path) -> Any:
    return without_rows(faiss.read_index(str(path))).index


def with_rows(built: BuiltIndex, wrapper: Any) -> Any:
    """FAISS's object with its rows as ids, in an ``IndexIDMap`` or ``IndexIDMap2``."""
    # Made around an empty index, for it refuses a full one.
    wrapped = wrapper(faiss.IndexFlatIP(built.dimension))
    wrapped.index = built.index
    faiss.copy_array_to_vector(np.ascontiguousarray(built.rows), wrapped.id_map)
    wrapped.ntotal = len(built.rows)
    if wrapper is faiss.IndexIDMap2:
        wrapped.construct_rev_map()
    return wrapped


def without_rows(wrapped: Any, about: Mapping[str, Any] | None = None) -> BuiltIndex:
    """The reverse of :func:`with_rows`.

    Raises:
        ValueError: It is no such index.
    """
    if not isinstance(wrapped, faiss.IndexIDMap):
        raise ValueError(f"a {type(wrapped).__name__} is no index of agentkit")
    index = faiss.downcast_index(wrapped.index)
    if type(index) not in _KINDS:
        raise ValueError(f"an index of the kind {type(index).__name__} is not known here")
    kind = _KINDS[type(index)]
    rows = faiss.vector_to_array(wrapped.id_map)
    # The wrapper owns the index, and lives as long as it. (Owning it ourselves would leak an
    # IndexRefine, for which FAISS's bindings have no destructor here.)
    index.referenced_objects = [wrapped]
    about = about or {"trained_on": len(rows), "effort": _EFFORT}
    return BuiltIndex(
        kind,
        index,
        rows,
        trained_on=int(about["trained_on"]),
        effort=int(about["effort"]),
        recall=about.get("recall"),
    )
