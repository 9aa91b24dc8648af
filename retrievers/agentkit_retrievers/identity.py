"""Identifiers for documents, so that each has one of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from agentkit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentkit.retrieval import Document

__all__ = ["document_id", "with_ids"]


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


def with_ids(documents: Iterable[Document]) -> list[Document]:
    """The documents, each with an identifier and some text, no two different ones under one.

    Raises:
        UserError: A document has no text, or two of them have one ``doc_id``.
    """
    known: dict[str | int, Document] = {}
    added: list[Document] = []
    for position, document in enumerate(documents):
        if not document.text.strip():
            raise UserError(
                f"document {document_id(document)!r} (number {position}) has no text; leave it out"
            )
        if document.doc_id == "":
            document = replace(document, doc_id=document_id(document))
        if known.setdefault(document.doc_id, document) != document:
            raise UserError(
                f"two different documents have the doc_id {document.doc_id!r}; give each its own"
            )
        added.append(document)
    return added
