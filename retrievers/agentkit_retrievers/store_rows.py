"""What a durable index writes into its database: documents and vectors, with checksums."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

from agentkit.errors import IndexFormatError, RetrievalError
from agentkit.retrieval import Document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agentkit_retrievers.embedding import Vectors

__all__ = [
    "checked_vector",
    "damaged",
    "key_of",
    "pack_document",
    "pack_vector",
    "sha256",
    "show",
    "unpack_document",
]


def key_of(doc_id: str | int) -> str:
    """JSON, so that 7 and "7" are two, and lone surrogates can be written."""
    return json.dumps(doc_id)


def pack_document(document: Document) -> tuple[str, bytes, int]:
    data: Mapping[str, Any] = document.to_dict()
    try:
        head = json.dumps({name: value for name, value in data.items() if name != "text"})
    except (TypeError, ValueError) as error:
        raise RetrievalError(
            f"document {document.doc_id!r} cannot be saved: its metadata must be what JSON can "
            f"hold ({error})"
        ) from error
    text = document.text.encode("utf-8", "surrogatepass")
    return head, text, zlib.crc32(text, zlib.crc32(head.encode("ascii")))


def unpack_document(folder: Path, row: int, head: str, text: bytes, crc: int) -> Document:
    if zlib.crc32(text, zlib.crc32(head.encode("utf-8"))) != crc:
        raise damaged(folder, f"the checksum of the document in row {row} is another")
    return Document.from_dict({**json.loads(head), "text": text.decode("utf-8", "surrogatepass")})


def pack_vector(row: int, vector: Vectors) -> tuple[int, bytes, int]:
    """A vector's row in the database."""
    data = vector.astype("<f4").tobytes()
    return row, data, zlib.crc32(data)


def checked_vector(folder: Path, row: int, data: bytes, crc: int) -> bytes:
    if zlib.crc32(data) != crc:
        raise damaged(folder, f"the checksum of the vector in row {row} is another")
    return data


def damaged(folder: Path, what: str) -> IndexFormatError:
    return IndexFormatError(
        f"the index in {show(folder)} is damaged ({what}); restore it from a copy, or build the "
        "index again"
    )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(folder: Path) -> str:
    return repr(folder.as_posix())
