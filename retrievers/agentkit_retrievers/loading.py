"""Reading documents from files: text, Markdown, HTML, PDF, DOCX, tables, records and code."""

from __future__ import annotations

import os
import warnings
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from agentkit.errors import RetrievalError, UserError
from agentkit_retrievers.readers import CODE_SUFFIXES, READERS, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentkit.retrieval import Document
    from agentkit_retrievers.progress import Progress

__all__ = ["CODE_PATTERNS", "DEFAULT_PATTERNS", "MAX_BYTES", "load", "load_folder", "walk_folder"]

DEFAULT_PATTERNS: tuple[str, ...] = tuple(
    f"*{suffix}" for suffix in READERS if suffix not in CODE_SUFFIXES
)
"""What :func:`load_folder` reads: every format that has a reader, but no source code."""

CODE_PATTERNS: tuple[str, ...] = tuple(f"*{suffix}" for suffix in sorted(CODE_SUFFIXES))
"""Source code, for ``load_folder(patterns=CODE_PATTERNS)``."""

MAX_BYTES = 64 * 1024 * 1024
"""Largest file that is read unless told otherwise, in bytes."""


def load(
    path: str | os.PathLike[str], *, encoding: str = "utf-8", max_bytes: int = MAX_BYTES
) -> list[Document]:
    """Read one file.

    The format goes by the suffix: ``.md``/``.markdown``, ``.html``/``.htm``/``.xhtml``,
    ``.pdf``, ``.docx``, ``.csv``/``.tsv``, ``.jsonl``/``.ndjson`` and those of programming
    languages; everything else is read as plain text.

    Args:
        path: The file.
        encoding: Of text and Markdown, and of HTML that declares none. Byte order marks win.
        max_bytes: Refuse larger files.

    Returns:
        One document, or none if the file holds no text; for JSON lines one for each record,
        with its line in ``doc_id`` and ``metadata["line"]``. Its ``source`` and ``doc_id`` are the
        path as given, with ``/``; its ``title`` is from the front matter, the first heading,
        the HTML title or the PDF's metadata, else the file's name. ``metadata["format"]`` is
        ``"text"``, ``"markdown"``, ``"html"``, ``"pdf"``, ``"docx"``, ``"table"``, ``"record"``
        or ``"code"``; a PDF also has ``"pages"``, the offsets at which its pages begin in the
        text, and a table likewise ``"rows"``.

    Raises:
        RetrievalError: The file is missing, unreadable, too large, or not what it should be.
        MissingExtraError: The format needs a package that is not installed.
        UserError: There is no such encoding.
    """
    file = Path(path)
    return _read(file, file.as_posix(), encoding, max_bytes)


def load_folder(
    folder: str | os.PathLike[str],
    *,
    patterns: str | Sequence[str] = DEFAULT_PATTERNS,
    encoding: str = "utf-8",
    on_error: Literal["warn", "raise", "skip"] = "warn",
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> list[Document]:
    """Read all documents below a folder.

    Hidden files and folders are left out. Symbolic links are followed, also out of the folder;
    each folder is read once, so links in a circle do no harm.

    Args:
        folder: Where to begin.
        patterns: Files to read: shell patterns, of which one must fit the path relative to
            ``folder``, case aside. ``*`` also spans ``/``: ``"*.md"`` is Markdown at any depth.
        encoding: See :func:`load`.
        on_error: A file that cannot be read gives a warning (``"warn"``), ends the work
            (``"raise"``) or is passed over in silence (``"skip"``).
        max_bytes: Larger files count as files that cannot be read.
        progress: Called with stage ``"load"`` after each file.

    Returns:
        Documents sorted by path, each as from :func:`load`, but with ``source`` and
        ``doc_id`` relative to ``folder``.

    Raises:
        RetrievalError: The folder cannot be read or, with ``"raise"``, one of its files.
        MissingExtraError: A format needs a package that is not installed. This is raised
            whatever ``on_error`` says; leave the format out of ``patterns`` to do without.
        UserError: ``on_error`` or ``encoding`` has no known value.
    """
    check_on_error(on_error)
    root = Path(folder)
    problems: list[RetrievalError] = []
    sources = walk_folder(root, patterns, problems)
    documents: list[Document] = []
    for done, source in enumerate(sources, start=1):
        try:
            documents += _read(root / source, source, encoding, max_bytes)
        except RetrievalError as error:
            problems.append(error)
        if progress is not None:
            progress("load", done, len(sources))
        if problems and on_error == "raise":
            break
    report_problems(problems, on_error)
    return documents


def check_on_error(on_error: str) -> None:
    """Refuse unknown words.

    Raises:
        UserError: It is none of the three.
    """
    if on_error not in ("warn", "raise", "skip"):
        raise UserError(f"on_error must be 'warn', 'raise' or 'skip', not {on_error!r}")


def walk_folder(
    root: Path, patterns: str | Sequence[str], problems: list[RetrievalError]
) -> list[str]:
    """Paths, relative to a folder, of the files that :func:`load_folder` reads; sorted.

    Args:
        root: The folder.
        patterns: See :func:`load_folder`.
        problems: Gets an error for each folder below it that cannot be listed.

    Raises:
        RetrievalError: There is no such folder.
    """
    if not root.is_dir():
        what = "is a file; read it with load()" if root.exists() else "does not exist"
        raise RetrievalError(f"folder {root.as_posix()!r} {what}")
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    return sorted(name for name in _walk(root, problems) if _matches(name, wanted))


def report_problems(problems: list[RetrievalError], on_error: str) -> None:
    """Raise the first problem, or warn of all, as ``on_error`` says."""
    if problems and on_error == "raise":
        raise problems[0]
    if on_error == "warn":
        for problem in problems:
            warnings.warn(f"left out: {problem}", stacklevel=3)


def _read(file: Path, source: str, encoding: str, max_bytes: int) -> list[Document]:
    return parse(read_bytes(file, source, max_bytes), source, encoding)


def read_bytes(file: Path, source: str, max_bytes: int) -> bytes:
    """A file's content.

    Raises:
        RetrievalError: It is a folder, too large, or cannot be read.
    """
    if file.is_dir():
        raise RetrievalError(f"{source}: is a folder; read it with load_folder()")
    try:
        size = file.stat().st_size
        if size > max_bytes:
            raise RetrievalError(
                f"{source}: has {size:,} bytes, above max_bytes={max_bytes:,}; raise max_bytes "
                "or cut the file up"
            )
        return file.read_bytes()
    except OSError as error:
        raise RetrievalError(f"{source}: cannot be read: {error.strerror or error}") from error


def parse(data: bytes, source: str, encoding: str) -> list[Document]:
    """Documents of a file's bytes; the format goes by the source's suffix. See :func:`load`."""
    found = READERS.get(PurePosixPath(source).suffix.lower(), read_text)(data, source, encoding)
    if isinstance(found, list):
        return found
    return [found] if found is not None else []


def _matches(source: str, patterns: list[str]) -> bool:
    name = source.lower()
    for pattern in patterns:
        pattern = pattern.lower()
        # "**/" may stand for no folder at all, as in other tools; fnmatch does not know it.
        if fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("**/", "")):
            return True
    return False


def _walk(root: Path, problems: list[RetrievalError]) -> Iterator[str]:
    """Paths of all visible files, relative to ``root``; folders that fail go to ``problems``."""

    def note(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        problems.append(RetrievalError(f"{name}: cannot be listed: {error.strerror}"))

    seen: set[str] = set()
    # Linked folders wait until all real ones are done: a real path is the better source.
    queue = [root]
    for top in queue:
        for name, folders, files in os.walk(top, onerror=note):
            real = os.path.realpath(name)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            here = Path(name)
            visible = sorted(each for each in folders if not each.startswith("."))
            queue += [here / each for each in visible if (here / each).is_symlink()]
            folders[:] = [each for each in visible if not (here / each).is_symlink()]
            for each in files:
                # Neither pipes and devices, which would block, nor links that lead nowhere.
                if not each.startswith(".") and (here / each).is_file():
                    yield (here / each).relative_to(root).as_posix()
