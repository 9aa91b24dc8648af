"""Listing the sources of an answer for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentkit.retrieval import Document, ScoredDocument

__all__ = ["format_sources"]


def format_sources(hits: Iterable[ScoredDocument]) -> str:
    """A numbered list of the documents found: title, source, and where in it.

    Args:
        hits: In the order in which they are numbered, from 1.

    Returns:
        One line for each, such as ``[1] Guide > Install, guide.md, characters 120-480``; a
        PDF's has its pages. Empty without hits.
    """
    return "\n".join(f"[{n}] {_describe(hit.document)}" for n, hit in enumerate(hits, start=1))


def _describe(document: Document) -> str:
    source = document.source or str(document.doc_id)
    parts = [document.title] if document.title and document.title != source else []
    parts.append(source)
    page = document.metadata.get("page")
    last = document.metadata.get("last_page", page)
    if page is not None:
        parts.append(f"page {page}" if last == page else f"pages {page}-{last}")
    elif document.start is not None and document.end is not None:
        parts.append(f"characters {document.start}-{document.end}")
    return ", ".join(part for part in parts if part)
