"""A vector index as a folder of three files, without pickle.

``vectors.faiss`` is FAISS's own format, ``documents.jsonl`` has one document a line in the
order of the vectors, and ``manifest.json`` says what belongs together, with checksums.

Saving is all or nothing, and needs no more than write access to the folder itself, which may
be a mount point: the new files are first written whole under ``*.new`` names. Renaming the
new manifest to ``manifest.json.new`` is the one step that counts. Before it the old index
stands; after it readers take ``*.new`` files where there are any, and what is left of the
renaming is made up for by the next save.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import faiss

from agentkit.errors import IndexFormatError, RetrievalError
from agentkit.retrieval import Document

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "STORE_VERSION",
    "StoredIndex",
    "forget_saved",
    "holds_index",
    "holds_saved",
    "read_index",
    "read_manifest",
    "sync",
    "write_index",
]

FORMAT = "agentkit-index"
"""What the manifest of any index says it is."""
FORMAT_VERSION = 1
"""Version of the layout described here; rises with every change that older code cannot read."""
STORE_VERSION = 2
"""Version of the layout of durable indexes; see :mod:`agentkit_retrievers.store_folder`."""

_VECTORS = "vectors.faiss"
_DOCUMENTS = "documents.jsonl"
_MANIFEST = "manifest.json"
_DATA = (_VECTORS, _DOCUMENTS)
_NEW = ".new"
_UNFINISHED = ".tmp"
_REMEDY = "build the index again and save it"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIndex:
    """What a saved index holds."""

    vectors: Any
    """A ``faiss.IndexIDMap2`` over an index of one of the kinds of agentkit."""
    documents: Sequence[Document]
    """One for each vector, in the order of the vectors."""
    embedding_model: str
    """Name of the model that made the vectors."""


def write_index(folder: Path, index: StoredIndex) -> None:
    """Save an index, in place of the one that the folder holds, if any.

    Args:
        folder: Is made if need be. Files other than the index's own are left alone.
        index: What to save.

    Raises:
        RetrievalError: The folder holds something other than an index, or writing failed;
            the index that it held is unharmed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(folder)
        _finish_renaming(folder)
        try:
            manifest = _write_new(folder, index)
            temporary = folder / (_MANIFEST + _UNFINISHED)
            temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            sync(temporary)
            sync(folder)
        except BaseException:
            for name in _DATA:
                (folder / (name + _NEW)).unlink(missing_ok=True)
            raise
        temporary.replace(folder / (_MANIFEST + _NEW))
        sync(folder)
        _finish_renaming(folder)
    # FAISS reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise RetrievalError(f"the index cannot be saved to {_show(folder)}: {error}") from error


def holds_index(folder: Path) -> bool:
    """Whether a folder is a saved index, be it whole or damaged, rather than one of documents."""
    names = (_VECTORS, _VECTORS + _NEW, _MANIFEST + _NEW)
    if any((folder / name).is_file() for name in names):
        return True
    try:
        manifest = read_manifest(folder)
    except IndexFormatError:
        return False
    return manifest is not None and manifest.get("format") == FORMAT


def holds_saved(folder: Path) -> bool:
    """Whether :func:`read_index` is what reads a folder, be the index in it whole or damaged."""
    manifest = read_manifest(folder)
    if manifest is not None and manifest.get("version") == STORE_VERSION:
        return False
    pending = (folder / (_MANIFEST + _NEW)).is_file()
    return pending or (manifest is not None and manifest.get("format") == FORMAT)


def forget_saved(folder: Path) -> None:
    """Delete the files of a saved index, but for the manifest."""
    for name in (_MANIFEST + _NEW, *_DATA, *(name + _NEW for name in _DATA)):
        (folder / name).unlink(missing_ok=True)


def read_index(folder: Path) -> StoredIndex:
    """Read a saved index and check that it is whole.

    Raises:
        IndexFormatError: There is none, it is damaged, or another version wrote it.
    """
    pending = (folder / (_MANIFEST + _NEW)).is_file()
    manifest = read_manifest(folder, pending)
    if manifest is None:
        raise IndexFormatError(
            f"no saved index in {_show(folder)} ({_MANIFEST} is missing); check the path, or "
            "make one with FaissRetriever.save()"
        )
    _check_version(folder, manifest)
    try:
        paths = {name: _verified(folder, name, manifest, pending) for name in _DATA}
        vectors = faiss.read_index(str(paths[_VECTORS]))
        documents = list(_read_documents(paths[_DOCUMENTS]))
        model, dimension = manifest["embedding_model"], manifest["dimension"]
        count = manifest["count"]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise IndexFormatError(
            f"the index in {_show(folder)} is damaged ({type(error).__name__}: {error}); {_REMEDY}"
        ) from error
    if not isinstance(vectors, faiss.IndexIDMap2) or vectors.d != dimension:
        raise IndexFormatError(
            f"the index in {_show(folder)}: {_VECTORS} is no index over {dimension} dimensions, as "
            f"its manifest says; {_REMEDY}"
        )
    if not vectors.ntotal == len(documents) == count:
        raise IndexFormatError(
            f"the index in {_show(folder)} has {vectors.ntotal} vectors and {len(documents)} "
            f"documents where its manifest counts {count}; {_REMEDY}"
        )
    return StoredIndex(vectors=vectors, documents=documents, embedding_model=str(model))


def _write_new(folder: Path, index: StoredIndex) -> dict[str, Any]:
    """Write the data under ``*.new`` names; the manifest that describes them."""
    paths = {name: folder / (name + _NEW) for name in _DATA}
    faiss.write_index(index.vectors, str(paths[_VECTORS]))
    with paths[_DOCUMENTS].open("wb") as file:
        file.writelines(_to_line(document) for document in index.documents)
    for path in paths.values():
        sync(path)
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "embedding_model": index.embedding_model,
        "dimension": index.vectors.d,
        "count": len(index.documents),
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for name, path in paths.items()
        },
    }


def _finish_renaming(folder: Path) -> None:
    """Bring a save that got as far as its manifest to its end; undo one that did not."""
    committed = (folder / (_MANIFEST + _NEW)).is_file()
    for name in _DATA:
        new = folder / (name + _NEW)
        if not committed:
            new.unlink(missing_ok=True)
        elif new.is_file():
            new.replace(folder / name)
    (folder / (_MANIFEST + _UNFINISHED)).unlink(missing_ok=True)
    if committed:
        # Last, for it is what tells readers to look at the others' new names.
        sync(folder)
        (folder / (_MANIFEST + _NEW)).replace(folder / _MANIFEST)
        sync(folder)


def _refuse_foreign(folder: Path) -> None:
    names = {entry.name for entry in folder.iterdir()}
    leftovers = {name + _NEW for name in _DATA} | {_MANIFEST + _UNFINISHED}
    if names <= leftovers:
        return
    try:
        manifest = read_manifest(folder, _MANIFEST + _NEW in names)
    except IndexFormatError:
        manifest = None
    if manifest is not None and manifest.get("version") == STORE_VERSION:
        raise RetrievalError(
            f"{_show(folder)} holds a durable index, which saves itself: change it through "
            "FaissRetriever.open(), or save to another folder"
        )
    if manifest is None or manifest.get("format") != FORMAT:
        raise RetrievalError(
            f"{_show(folder)} is neither empty nor an agentkit index; save to another folder, or "
            "empty this one first"
        )


def read_manifest(folder: Path, pending: bool = False) -> Mapping[str, Any] | None:
    """The manifest of a folder; ``None`` if there is none.

    Args:
        folder: Where.
        pending: That of a save whose renaming was interrupted.

    Raises:
        IndexFormatError: It cannot be read.
    """
    name = _MANIFEST + (_NEW if pending else "")
    try:
        manifest = json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise IndexFormatError(
            f"the index in {_show(folder)} is damaged ({name}: {error}); {_REMEDY}"
        ) from error
    if not isinstance(manifest, Mapping):
        raise IndexFormatError(
            f"the index in {_show(folder)} is damaged ({name} is no JSON object); {_REMEDY}"
        )
    return manifest


def _check_version(folder: Path, manifest: Mapping[str, Any]) -> None:
    if manifest.get("format") != FORMAT:
        raise IndexFormatError(
            f"{_show(folder)} holds no agentkit index: its {_MANIFEST} is of another program; "
            "check the path"
        )
    if manifest.get("version") != FORMAT_VERSION:
        raise IndexFormatError(
            f"the index in {_show(folder)} has format version {manifest.get('version')!r}, but "
            f"this agentkit reads version {FORMAT_VERSION}; use the agentkit that wrote it, or "
            f"{_REMEDY}"
        )


def _verified(folder: Path, name: str, manifest: Mapping[str, Any], pending: bool) -> Path:
    """The path of a data file, once its checksum is right."""
    path = folder / (name + _NEW)
    if not (pending and path.is_file()):
        path = folder / name
    expected = manifest["files"][name]
    if not path.is_file():
        raise IndexFormatError(f"the index in {_show(folder)} lacks its file {name}; {_REMEDY}")
    if path.stat().st_size != expected["bytes"] or _sha256(path) != expected["sha256"]:
        raise IndexFormatError(
            f"the index in {_show(folder)} is damaged: {name} is not the file that was saved "
            f"(its size or checksum differs); restore it from a copy, or {_REMEDY}"
        )
    return path


def _to_line(document: Document) -> bytes:
    data = document.to_dict()
    try:
        return (json.dumps(data, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        # Lone surrogates, which only JSON's escapes can write down.
        return (json.dumps(data) + "\n").encode("ascii")
    except (TypeError, ValueError) as error:
        raise RetrievalError(
            f"document {document.doc_id!r} cannot be saved: its metadata must be what JSON can "
            f"hold ({error})"
        ) from error


def _read_documents(path: Path) -> Iterator[Document]:
    with path.open("rb") as file:
        for line in file:
            yield Document.from_dict(json.loads(line))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file's or a folder's content reach the disk before what follows does."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders, and orders renames itself.
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _show(folder: Path) -> str:
    return repr(folder.as_posix())
