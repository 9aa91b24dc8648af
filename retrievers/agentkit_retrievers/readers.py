"""One reader for each file format: bytes in, documents out.

A reader gets the file's bytes, its source (for messages, identifiers and as a last resort the
title) and the text encoding. It returns ``None`` for a file without any text, and several
documents for one that holds records.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from agentkit.errors import MissingExtraError, RetrievalError, UserError
from agentkit.retrieval import Document
from agentkit_retrievers.code_structure import LANGUAGES
from agentkit_retrievers.markdown import find_headings, split_front_matter
from agentkit_retrievers.records import read_json_lines, read_rows, record_text

__all__ = [
    "CODE_SUFFIXES",
    "READERS",
    "Reader",
    "read_code",
    "read_docx",
    "read_html",
    "read_json_records",
    "read_markdown",
    "read_pdf",
    "read_table",
    "read_text",
]

Reader = Callable[[bytes, str, str], Document | list[Document] | None]

CODE_SUFFIXES = frozenset(LANGUAGES)
"""Suffixes of source code; folders are read without it unless patterns ask for it."""

# A record's text is under the first of these keys that it has, if it has one.
_TEXT_KEYS = ("text", "content", "body", "passage")

# Longest first: UTF-32's mark begins with UTF-16's.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(data: bytes, source: str, encoding: str) -> Document | None:
    """Read plain text."""
    return _document(decode(data, source, encoding), source, "", {"format": "text"})


def read_markdown(data: bytes, source: str, encoding: str) -> Document | None:
    """Read Markdown; front matter goes to ``metadata["front_matter"]``."""
    front_matter, text = split_front_matter(decode(data, source, encoding))
    metadata: dict[str, Any] = {"format": "markdown"}
    if front_matter:
        metadata["front_matter"] = front_matter
    title = front_matter.get("title", "")
    if not title:
        title = next((h.title for h in find_headings(text) if h.title), "")
    return _document(text, source, title, metadata)


def read_html(data: bytes, source: str, encoding: str) -> Document | None:
    """Read HTML as light Markdown; a charset that the page declares wins over ``encoding``."""
    try:
        from bs4.dammit import EncodingDetector

        from agentkit_retrievers.html_text import html_to_text
    except ImportError as error:
        raise _missing_extra("HTML", "beautifulsoup4", source) from error
    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    try:
        codecs.lookup(declared or encoding)
    except LookupError:
        declared = None
    title, text = html_to_text(decode(data, source, declared or encoding))
    return _document(text, source, title, {"format": "html"})


def read_pdf(data: bytes, source: str, encoding: str) -> Document | None:
    """Read a PDF's text; ``metadata["pages"]`` has the offset at which each page begins."""
    try:
        import pypdf
    except ImportError as error:
        raise _missing_extra("PDF", "pypdf", source) from error
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise RetrievalError(
                f"{source}: the PDF is protected by a password; save a copy without one"
            )
        texts = [page.extract_text().strip() for page in reader.pages]
        title = str((reader.metadata and reader.metadata.title) or "").strip()
    except RetrievalError:
        raise
    # pypdf meets damage with whatever its parser stumbles over: KeyError, RecursionError ...
    except Exception as error:
        raise RetrievalError(
            f"{source}: cannot be read as PDF ({type(error).__name__}: {error}); open it in a "
            "PDF viewer and save it anew, or leave it out"
        ) from error
    if not any(texts):
        raise RetrievalError(
            f"{source}: the PDF's {len(texts)} pages hold no text, only images perhaps; make a "
            "searchable copy with an OCR program"
        )
    offsets, offset = [], 0
    for text in texts:
        offsets.append(offset)
        offset += len(text) + 2
    return _document("\n\n".join(texts), source, title, {"format": "pdf", "pages": offsets})


def read_docx(data: bytes, source: str, encoding: str) -> Document | None:
    """Read a Word document as light Markdown."""
    try:
        import docx  # noqa: F401  # Whether it is there.
    except ImportError as error:
        raise _missing_extra("DOCX", "python-docx", source) from error
    from agentkit_retrievers.docx_text import docx_to_text

    try:
        title, text = docx_to_text(data)
    # Broken archives and XML fail with whatever the parsers stumble over.
    except Exception as error:
        raise RetrievalError(
            f"{source}: cannot be read as DOCX ({type(error).__name__}: {error}); open it in a "
            "word processor and save it anew, or leave it out"
        ) from error
    # Chunking finds the headings, which are Markdown's.
    return _document(text, source, title, {"format": "docx"})


def read_table(data: bytes, source: str, encoding: str) -> Document | None:
    """Read CSV or TSV: each row becomes a paragraph of ``column: value`` lines.

    ``metadata["rows"]`` has the offset at which each row begins.
    """
    delimiter = "\t" if source.lower().endswith(".tsv") else None
    offsets: list[int] = []
    paragraphs: list[str] = []
    offset = 0
    for record in read_rows(decode(data, source, encoding), source, delimiter=delimiter):
        paragraph = record_text(record)
        offsets.append(offset)
        paragraphs.append(paragraph)
        offset += len(paragraph) + 2
    return _document("\n\n".join(paragraphs), source, "", {"format": "table", "rows": offsets})


def read_json_records(data: bytes, source: str, encoding: str) -> list[Document]:
    """Read JSON lines: a document for each record, with its line in ``metadata["line"]``.

    The text is under ``text``, ``content``, ``body`` or ``passage``; a record with none of
    these becomes lines of ``key: value``. ``title`` is the title; what else there is goes to
    ``metadata["record"]``.
    """
    documents: list[Document] = []
    for line, value in read_json_lines(decode(data, source, encoding), source):
        record: dict[str, Any] = value if isinstance(value, dict) else {"value": value}
        key = next((k for k in _TEXT_KEYS if isinstance(record.get(k), str)), None)
        text = record[key] if key else record_text(record)
        rest = {k: v for k, v in record.items() if k not in (key, "title")} if key else {}
        metadata = {"format": "record", "line": line, **({"record": rest} if rest else {})}
        found = _document(text, source, str(record.get("title") or ""), metadata)
        if found is not None:
            documents.append(replace(found, doc_id=f"{source}:{line}"))
    return documents


def read_code(data: bytes, source: str, encoding: str) -> Document | None:
    """Read source code; chunks keep functions and classes together."""
    language = LANGUAGES.get(PurePosixPath(source).suffix.lower(), "")
    metadata = {"format": "code", "language": language}
    return _document(decode(data, source, encoding), source, source, metadata)


def decode(data: bytes, source: str, encoding: str) -> str:
    """Decode a text file: byte order marks are obeyed, line ends become ``\\n``.

    Raises:
        RetrievalError: The bytes are no text of that encoding.
        UserError: There is no such encoding.
    """
    marked = (name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark))
    encoding = next(marked, encoding)
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise UserError(
            f"unknown text encoding {encoding!r}; use one that Python knows, such as 'utf-8'"
        ) from error
    except UnicodeError as error:
        if b"\0" in data:
            raise _binary(source) from error
        raise RetrievalError(
            f"{source}: not {encoding} text ({error}); pass its encoding, such as "
            "encoding='cp1252', or save it as UTF-8"
        ) from error
    if "\0" in text:
        raise _binary(source)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _document(text: str, source: str, title: str, metadata: dict[str, Any]) -> Document | None:
    if not text.strip():
        return None
    title = " ".join(title.split()) or PurePosixPath(source).stem
    return Document(text=text, doc_id=source, title=title, source=source, metadata=metadata)


def _binary(source: str) -> RetrievalError:
    return RetrievalError(
        f"{source}: holds zero bytes, so it is a binary file and no text; leave it out, or "
        "convert it to text, Markdown, HTML, DOCX or PDF"
    )


def _missing_extra(kind: str, package: str, source: str) -> MissingExtraError:
    return MissingExtraError(
        f"{source}: reading {kind} needs {package}; install it with "
        "`pip install agentkit-granite[documents]`"
    )


READERS: dict[str, Reader] = {
    ".txt": read_text,
    ".text": read_text,
    ".rst": read_text,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".csv": read_table,
    ".tsv": read_table,
    ".jsonl": read_json_records,
    ".ndjson": read_json_records,
    **dict.fromkeys(LANGUAGES, read_code),
}
"""Readers by file suffix, in lower case."""
