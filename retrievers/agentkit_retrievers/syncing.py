"""Bringing an index up to date with a folder: only what changed is read and embedded."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from agentkit.errors import RetrievalError, UserError
from agentkit_retrievers.chunking import Chunker
from agentkit_retrievers.loading import (
    DEFAULT_PATTERNS,
    MAX_BYTES,
    check_on_error,
    parse,
    read_bytes,
    report_problems,
    walk_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentkit.retrieval import Document
    from agentkit_retrievers.progress import Progress

__all__ = ["FolderChanges", "sync_folder"]

_DIGEST = "sha256"
"""Where a chunk's metadata say what its file held, and how it was cut."""


class _Index(Protocol):
    """What a folder can be kept in: FaissRetriever, BM25Retriever, HybridRetriever."""

    @property
    def documents(self) -> Sequence[Document]: ...

    def add(self, documents: Iterable[Document]) -> list[str | int]: ...

    def remove(self, doc_ids: Iterable[str | int]) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderChanges:
    """What an update did. Paths are relative to the folder."""

    added: tuple[str, ...] = ()
    """Files that are new."""
    changed: tuple[str, ...] = ()
    """Files whose content, or way of being cut, is another than before."""
    removed: tuple[str, ...] = ()
    """Files that are gone."""
    unchanged: int = 0
    """Files that were left alone."""
    chunks: int = 0
    """Chunks that were embedded."""


def sync_folder(
    index: _Index,
    folder: str | os.PathLike[str],
    *,
    chunker: Chunker | None = None,
    patterns: str | Sequence[str] = DEFAULT_PATTERNS,
    encoding: str = "utf-8",
    on_error: Literal["warn", "raise", "skip"] = "warn",
    max_bytes: int = MAX_BYTES,
    batch: int = 256,
    progress: Progress | None = None,
) -> FolderChanges:
    """Bring an index up to date with a folder.

    The index itself says what it holds: each chunk's ``metadata["sha256"]`` is a hash of its
    file's content and of the chunker's settings. So an update can be interrupted at any moment
    and go on later, and there is no list that could be at odds with the index. Documents
    without that entry are left alone. Save the index afterwards, if it is not one that saves
    itself. A file that cannot be read keeps the chunks that it has.

    Args:
        index: Keeps one folder.
        folder: See :func:`load_folder`, for ``patterns``, ``encoding``, ``on_error`` and
            ``max_bytes`` too.
        chunker: ``None`` for ``Chunker()``.
        batch: Chunks that are added at once, in whole files.
        progress: Called with stage ``"load"`` after each file.

    Raises:
        RetrievalError: The folder cannot be read or, with ``"raise"``, one of its files.
        MissingExtraError: A format needs a package that is not installed.
        UserError: ``on_error`` or ``encoding`` has no known value, or ``batch`` is below 1.

    Example:
        >>> retriever = HybridRetriever.load("docs.index")
        >>> changes = sync_folder(retriever, "docs")
        >>> retriever.save("docs.index")
    """
    check_on_error(on_error)
    if batch < 1:
        raise UserError(f"batch must be at least 1, not {batch}")
    cutter = Chunker() if chunker is None else chunker
    root = Path(folder)
    known = _known(index)
    problems: list[RetrievalError] = []
    sources = walk_folder(root, patterns, problems)
    # A folder that cannot be listed may hold what seems to be gone.
    gone = [] if problems else sorted(set(known) - set(sources))
    index.remove(key for source in gone for key in known[source].doc_ids)
    added: list[str] = []
    changed: list[str] = []
    waiting: list[Document] = []
    chunks = 0
    for done, source in enumerate(sources, start=1):
        try:
            data = read_bytes(root / source, source, max_bytes)
            digest = _digest(data, cutter, encoding)
            before = known.get(source)
            if before is None or before.digests != {digest}:
                new = [
                    replace(chunk, metadata={**chunk.metadata, _DIGEST: digest})
                    for chunk in cutter.split_all(parse(data, source, encoding))
                ]
                if before is not None:
                    # Chunks with the numbers of new ones are replaced when these are added.
                    index.remove(before.doc_ids - {chunk.doc_id for chunk in new})
                    changed.append(source)
                elif new:
                    added.append(source)
                waiting += new
        except RetrievalError as error:
            problems.append(error)
            if on_error == "raise":
                break
        if len(waiting) >= batch or (done == len(sources) and waiting):
            chunks += len(index.add(waiting))
            waiting = []
        if progress is not None:
            progress("load", done, len(sources))
    if waiting:
        chunks += len(index.add(waiting))
    report_problems(problems, on_error)
    return FolderChanges(
        added=tuple(added),
        changed=tuple(changed),
        removed=tuple(gone),
        unchanged=len(sources) - len(added) - len(changed) - len(problems),
        chunks=chunks,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    doc_ids: set[str | int]
    digests: set[str]


def _known(index: _Index) -> dict[str, _Known]:
    """What the index holds of each file."""
    known: dict[str, _Known] = defaultdict(lambda: _Known(set(), set()))
    for document in index.documents:
        digest = document.metadata.get(_DIGEST)
        if digest is not None:
            known[document.source].doc_ids.add(document.doc_id)
            known[document.source].digests.add(str(digest))
    return dict(known)


def _digest(data: bytes, chunker: Chunker, encoding: str) -> str:
    settings = f"{chunker.max_size} {chunker.overlap} {chunker.length is len} {encoding}"
    return hashlib.sha256(settings.encode() + b"\0" + data).hexdigest()
