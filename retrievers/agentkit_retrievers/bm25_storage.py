"""A keyword index as one file, without pickle: NumPy arrays and JSON in a zip archive."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentkit.errors import IndexFormatError, RetrievalError
from agentkit.retrieval import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FILE_NAME", "StoredTerms", "read_terms", "write_terms"]

FILE_NAME = "bm25.npz"
"""The file within the index's folder."""

_VERSION = 1
_REMEDY = "build the index again and save it"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTerms:
    """What a saved keyword index holds."""

    documents: Sequence[Document]
    """In the order in which they were added."""
    terms: Sequence[NDArray[np.int32]]
    """Of each document, ids into :attr:`vocabulary`."""
    vocabulary: Sequence[str]
    """Terms by id."""
    settings: Mapping[str, Any]
    """The retriever's, as JSON-able values."""


def write_terms(folder: Path, stored: StoredTerms) -> None:
    """Save an index; its file is replaced as a whole or not at all.

    Raises:
        RetrievalError: Writing failed.
    """
    text = {
        "version": _VERSION,
        "settings": dict(stored.settings),
        "vocabulary": list(stored.vocabulary),
        "documents": [document.to_dict() for document in stored.documents],
    }
    ids = [np.zeros(0, dtype=np.int32), *stored.terms]
    try:
        # JSON's escapes also hold lone surrogates, which UTF-8 cannot.
        encoded = np.frombuffer(json.dumps(text).encode("ascii"), dtype=np.uint8)
    except TypeError as error:
        raise RetrievalError(f"a document's metadata cannot be saved as JSON: {error}") from error
    name = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{FILE_NAME}-")
        with os.fdopen(handle, "wb") as file:
            np.savez(
                file,
                json=encoded,
                ids=np.concatenate(ids),
                lengths=np.array([len(each) for each in stored.terms], dtype=np.int64),
            )
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(folder / FILE_NAME)
    except OSError as error:
        raise RetrievalError(
            f"the index cannot be saved to {folder.as_posix()!r}: {error}"
        ) from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def read_terms(folder: Path) -> StoredTerms:
    """Read what :func:`write_terms` wrote.

    Raises:
        IndexFormatError: There is none, it is damaged, or another version wrote it.
    """
    path = folder / FILE_NAME
    where = repr(path.as_posix())
    try:
        with np.load(path, allow_pickle=False) as arrays:
            text = json.loads(arrays["json"].tobytes())
            ids, lengths = arrays["ids"], arrays["lengths"]
        if text["version"] != _VERSION:
            raise IndexFormatError(
                f"the keyword index {where} is of version {text['version']!r}, and this agentkit "
                f"reads version {_VERSION}; {_REMEDY}"
            )
        documents = [Document.from_dict(each) for each in text["documents"]]
        vocabulary = [str(term) for term in text["vocabulary"]]
        settings = dict(text["settings"])
    except FileNotFoundError as error:
        raise IndexFormatError(
            f"no keyword index at {where}; check the path, or make one with BM25Retriever.save()"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise IndexFormatError(
            f"the keyword index {where} is damaged ({error}); {_REMEDY}"
        ) from error
    ends = np.cumsum(lengths)
    fits = len(documents) == len(lengths) and int(ends[-1] if len(ends) else 0) == len(ids)
    if not fits or (len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(vocabulary)):
        raise IndexFormatError(f"the keyword index {where} contradicts itself; {_REMEDY}")
    return StoredTerms(
        documents=documents,
        terms=np.split(ids, ends[:-1]) if len(ends) else [],
        vocabulary=vocabulary,
        settings=settings,
    )
