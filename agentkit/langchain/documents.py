"""Documents from LangChain's form to agentkit's and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from langchain_core.documents import Document as LangChainDocument

from agentkit.errors import MessageError
from agentkit.retrieval import Document

__all__ = [
    "DocumentLike",
    "document_from_langchain",
    "document_to_langchain",
    "documents_for_prompt",
]

DocumentLike: TypeAlias = Document | LangChainDocument | Mapping[str, Any]
"""A document of either kind, or a dictionary of its fields."""

_FIELDS = ("title", "source", "start", "end")


def document_from_langchain(document: LangChainDocument) -> Document:
    """A LangChain document as agentkit's.

    The metadata are kept as they are; ``title``, ``source``, ``start`` and ``end`` among them
    fill the fields of those names.
    """
    metadata = document.metadata
    start, end = metadata.get("start"), metadata.get("end")
    return Document(
        text=document.page_content,
        doc_id="" if document.id is None else document.id,
        title=_text(metadata.get("title")),
        source=_text(metadata.get("source")),
        start=start if isinstance(start, int) else None,
        end=end if isinstance(end, int) else None,
        metadata=dict(metadata),
    )


def document_to_langchain(document: Document) -> LangChainDocument:
    """An agentkit document as LangChain's; the reverse of :func:`document_from_langchain`."""
    metadata = dict(document.metadata)
    for name in _FIELDS:
        value = getattr(document, name)
        if value not in ("", None):
            metadata.setdefault(name, value)
    return LangChainDocument(
        page_content=document.text,
        metadata=metadata,
        id=None if document.doc_id == "" else str(document.doc_id),
    )


def documents_for_prompt(documents: Iterable[DocumentLike]) -> tuple[Document, ...]:
    """Documents for the prompt's documents section; those without an id are numbered.

    Args:
        documents: Of either kind. Dictionaries have the text under ``text`` or
            ``page_content``.

    Raises:
        MessageError: One of them has no text.
    """
    converted = [_as_document(document, i) for i, document in enumerate(documents)]
    return tuple(
        document if document.doc_id != "" else replace(document, doc_id=str(number))
        for number, document in enumerate(converted, start=1)
    )


def _as_document(document: Any, index: int) -> Document:
    if isinstance(document, Document):
        return document
    if isinstance(document, LangChainDocument):
        return document_from_langchain(document)
    if isinstance(document, Mapping):
        if isinstance(document.get("page_content"), str):
            fields = {"id": document.get("id"), "metadata": document.get("metadata") or {}}
            text = document["page_content"]
            return document_from_langchain(LangChainDocument(page_content=text, **fields))
        if isinstance(document.get("text"), str):
            return Document.from_dict(document)
    raise MessageError(
        f"documents[{index}] must be a LangChain or agentkit document, or a dictionary with "
        f"'text' or 'page_content', not {document!r:.100}"
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)
