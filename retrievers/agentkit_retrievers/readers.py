"""One reader for each file format: bytes in, a document out.

A reader gets the file's bytes, its source (for messages, identifiers and as a last resort the
title) and the text encoding. It returns ``None`` for a file without any text.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from agentkit.errors import MissingExtraError, RetrievalError, UserError
from agentkit.retrieval import Document
from agentkit_retrievers.markdown import find_headings, split_front_matter

__all__ = ["READERS", "Reader", "read_html", "read_markdown", "read_pdf", "read_text"]

Reader = Callable[[bytes, str, str], Document | None]

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
        "convert it to text, Markdown, HTML or PDF"
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
}
"""Readers by file suffix, in lower case."""
