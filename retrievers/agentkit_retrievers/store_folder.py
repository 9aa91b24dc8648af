"""The folder of a durable index: made, locked, checked and opened.

- ``manifest.json``: what the folder is, the format's version, the embedding model and the
  dimension. Written last of all when an index is made, and not changed afterwards.
- ``documents.sqlite``: documents, state and recent vectors; see :mod:`.store`.
- ``index-NNNNNNNN.faiss``: the built index, if there is one.
- ``writer.lock``: locked by the process that may write.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from agentkit.errors import IndexFormatError, RetrievalError
from agentkit_retrievers.document_table import Change
from agentkit_retrievers.storage import (
    FORMAT,
    STORE_VERSION,
    forget_saved,
    read_manifest,
    sync,
)
from agentkit_retrievers.store import StoredTable
from agentkit_retrievers.store_database import DATABASE_FILES, create_database

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agentkit_retrievers.document_table import DocumentTable
    from agentkit_retrievers.embedding import Embedder
    from agentkit_retrievers.vector_index import VectorIndex

__all__ = ["OpenFolder", "check_embedder", "is_store", "open_folder"]

_MANIFEST = "manifest.json"
_LOCK = "writer.lock"
_OWN = {*DATABASE_FILES, _LOCK, _MANIFEST + ".tmp"}


class OpenFolder:
    """An open durable index.

    Args:
        table: Its tables.
        lock: The writer's lock; ``None`` for a reader.
    """

    def __init__(self, table: StoredTable, lock: FileLock | None) -> None:
        self.table = table
        self.lock = lock

    def close(self) -> None:
        """Close the database and let others write."""
        self.table.close()
        if self.lock is not None:
            self.lock.release()


def is_store(folder: Path) -> bool:
    """Whether a folder is a durable index, be it whole or damaged."""
    manifest = read_manifest(folder)
    return (
        manifest is not None
        and manifest.get("format") == FORMAT
        and manifest.get("version") == STORE_VERSION
    )


def open_folder(
    folder: Path,
    embedder: Embedder,
    *,
    read_only: bool,
    create: bool,
    lock_timeout: float,
    verify: bool | None,
    saved: tuple[DocumentTable, VectorIndex] | None = None,
) -> OpenFolder:
    """Open a durable index, or make an empty one.

    Args:
        folder: Where it is.
        embedder: The model that made its vectors, or is to make them.
        read_only: Take no lock, and see one state.
        create: Make one if there is none.
        lock_timeout: Seconds to wait for another writer.
        verify: Read all files and compare checksums; ``None`` does so up to 64 MB.
        saved: What the folder holds in the form of :mod:`.storage`, to be brought into this one.

    Raises:
        IndexFormatError: There is none, it is damaged, of a foreign version or made with
            another embedding model.
        RetrievalError: Another process writes to it, or the folder holds something else.
    """
    lock = None if read_only else _lock_folder(folder, lock_timeout, create=create)
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            if read_only or not create:
                raise IndexFormatError(
                    f"no index in {_show(folder)} ({_MANIFEST} is missing); check the path, or "
                    "make one with FaissRetriever.open()"
                )
            manifest = _create(folder, embedder)
        elif saved is not None and manifest.get("version") != STORE_VERSION:
            manifest = _convert(folder, embedder, *saved)
        _check_manifest(folder, manifest, embedder)
        table = StoredTable(folder, int(manifest["dimension"]), read_only=read_only)
        try:
            if verify is not False:
                table.verify(fully=bool(verify))
            if not read_only:
                table.clear_leftovers()
        except BaseException:
            table.close()
            raise
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return OpenFolder(table, lock)


def _lock_folder(folder: Path, timeout: float, *, create: bool = True) -> FileLock:
    """Lock a folder for writing.

    Args:
        folder: What to lock.
        timeout: Seconds to wait for another writer; 0 not to wait.
        create: Make the folder if there is none.

    Raises:
        RetrievalError: Another one is writing, or the folder cannot be written to.
        IndexFormatError: There is no such folder.
    """
    if not create and not folder.is_dir():
        raise IndexFormatError(f"no index in {_show(folder)}: there is no such folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(folder)
        lock = FileLock(folder / _LOCK, thread_local=False)
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise RetrievalError(
            f"the index in {_show(folder)} is being written to by another process (or another "
            "FaissRetriever of this one); close that one, wait for it with lock_timeout=, or open "
            "with read_only=True"
        ) from error
    except OSError as error:
        raise RetrievalError(
            f"the index in {_show(folder)} cannot be written to: {error}; open it with "
            "read_only=True to search only"
        ) from error
    return lock


def _write_manifest(folder: Path, embedder_name: str, dimension: int) -> Mapping[str, Any]:
    """Make the folder an index, in the one moment that the file is renamed."""
    manifest = {
        "format": FORMAT,
        "version": STORE_VERSION,
        "embedding_model": embedder_name,
        "dimension": dimension,
    }
    temporary = folder / (_MANIFEST + ".tmp")
    temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    sync(temporary)
    temporary.replace(folder / _MANIFEST)
    sync(folder)
    return manifest


def check_embedder(folder: Path, made_with: object, embedder: Embedder) -> None:
    """Refuse vectors of another model.

    Raises:
        IndexFormatError: The embedder is not the one that made the index.
    """
    if made_with != embedder.model_name:
        raise IndexFormatError(
            f"the index in {_show(folder)} was made with the embedding model {made_with!r}, but "
            f"the embedder has {embedder.model_name!r}; pass embedder= with the former (or set "
            "AGENTKIT_EMBEDDER to it), or build the index again"
        )


def _create(folder: Path, embedder: Embedder) -> Mapping[str, Any]:
    create_database(folder)
    return _write_manifest(folder, embedder.model_name, embedder.dimension)


def _convert(
    folder: Path, embedder: Embedder, documents: DocumentTable, index: VectorIndex
) -> Mapping[str, Any]:
    """Until the manifest is written, the folder is what it was before."""
    create_database(folder)
    table = StoredTable(folder, index.dimension, read_only=False)
    try:
        table.commit(Change(added=dict(documents.scan())), table.prepare(index))
    finally:
        table.close()
    manifest = _write_manifest(folder, embedder.model_name, index.dimension)
    forget_saved(folder)
    return manifest


def _check_manifest(folder: Path, manifest: Mapping[str, Any], embedder: Embedder) -> None:
    if manifest.get("format") != FORMAT:
        raise IndexFormatError(
            f"{_show(folder)} holds no agentkit index: its {_MANIFEST} is of another program; "
            "check the path"
        )
    if manifest.get("version") != STORE_VERSION:
        raise IndexFormatError(
            f"the index in {_show(folder)} has format version {manifest.get('version')!r}, but "
            f"this agentkit reads version {STORE_VERSION}; use the agentkit that wrote it, or "
            "build the index again"
        )
    if not isinstance(manifest.get("dimension"), int):
        raise IndexFormatError(
            f"the index in {_show(folder)} is damaged ({_MANIFEST} has no dimension); restore it "
            "from a copy, or build the index again"
        )
    check_embedder(folder, manifest.get("embedding_model"), embedder)


def _refuse_foreign(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    manifest = read_manifest(folder)
    if names <= _OWN or (manifest is not None and manifest.get("format") == FORMAT):
        return
    raise RetrievalError(
        f"{_show(folder)} is neither empty nor an agentkit index; choose another folder, or "
        "empty this one first"
    )


def _show(folder: Path) -> str:
    return repr(folder.as_posix())
