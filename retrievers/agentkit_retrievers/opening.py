"""Where a retriever's documents and vectors come from when it is opened, and how it is saved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import faiss

from agentkit.errors import IndexFormatError
from agentkit_retrievers.built_files import with_rows, without_rows
from agentkit_retrievers.document_table import DocumentTable, MemoryTable
from agentkit_retrievers.index_kinds import build
from agentkit_retrievers.index_spec import IndexSpec
from agentkit_retrievers.storage import StoredIndex, holds_saved, read_index, write_index
from agentkit_retrievers.store_folder import OpenFolder, check_embedder, is_store, open_folder
from agentkit_retrievers.vector_index import NO_ROWS, VectorIndex

if TYPE_CHECKING:
    from pathlib import Path

    from agentkit_retrievers.embedding import Embedder

__all__ = ["Opened", "load_saved", "open_stored", "save_index"]

Opened: TypeAlias = tuple[OpenFolder | None, DocumentTable, VectorIndex]
"""The folder if it stays open, the documents, and the vectors."""


def open_stored(
    folder: Path,
    embedder: Embedder,
    spec: IndexSpec | None,
    *,
    read_only: bool,
    create: bool,
    lock_timeout: float,
    verify: bool | None,
) -> Opened:
    """See :meth:`agentkit_retrievers.FaissRetriever.open`."""
    saved = None
    if holds_saved(folder):
        saved = load_saved(folder, embedder)
        if read_only:
            return saved
    opened = open_folder(
        folder,
        embedder,
        read_only=read_only,
        create=create,
        lock_timeout=lock_timeout,
        verify=verify,
        saved=None if saved is None else saved[1:],
    )
    try:
        index = opened.table.index(spec or opened.table.spec or IndexSpec())
    except BaseException:
        opened.close()
        raise
    return opened, opened.table, index


def load_saved(folder: Path, embedder: Embedder) -> Opened:
    """See :meth:`agentkit_retrievers.FaissRetriever.load`."""
    if is_store(folder):
        return open_stored(
            folder, embedder, None, read_only=True, create=False, lock_timeout=0, verify=None
        )
    stored = read_index(folder)
    check_embedder(folder, stored.embedding_model, embedder)
    try:
        built = without_rows(stored.vectors)
    except ValueError as error:
        raise IndexFormatError(f"the index in {folder.as_posix()!r}: {error}") from error
    spec = IndexSpec(kind="auto" if built.kind == "flat" else built.kind)
    index = VectorIndex.empty(spec, built.dimension)
    if len(built.rows):
        index = replace(index, built=built)
    documents = dict(zip(built.rows.tolist(), stored.documents, strict=True))
    return None, MemoryTable(documents), index


def save_index(folder: Path, embedder: Embedder, table: DocumentTable, index: VectorIndex) -> None:
    """See :meth:`agentkit_retrievers.FaissRetriever.save`."""
    built = index.merged(fully=True).built
    if built is None:
        built = build("flat", index.spec, NO_ROWS, index.fresh.vectors[:0])
    stored = StoredIndex(
        vectors=with_rows(built, faiss.IndexIDMap2),
        documents=[document for _, document in table.scan()],
        embedding_model=embedder.model_name,
    )
    write_index(folder, stored)
