"""Identifiers for documents that come without one."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentkit.retrieval import Document

__all__ = ["document_id"]


def document_id(document: Document) -> str | int:
    """The document's ``doc_id``, or its source, or else an identifier made from its content.

    The last is the same for the same content, so that adding a document twice is harmless.
    """
    if document.doc_id != "":
        return document.doc_id
    if document.source and document.start is None:
        return document.source
    # json escapes lone surrogates, which utf-8 cannot hold.
    content = json.dumps([document.source, document.start, document.title, document.text])
    return "doc-" + hashlib.sha256(content.encode("ascii")).hexdigest()[:16]
