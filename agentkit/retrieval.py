"""What the agent needs to know of documents and retrievers: two dataclasses and a protocol.

The retrievers themselves live in ``agentkit_retrievers``; anything with a ``retrieve`` method
of this form works in their place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from agentkit.errors import ToolError
from agentkit.messages import Message, UserMessage
from agentkit.tools import ToolContext, ToolDefinition, ToolOutput

__all__ = [
    "ConversationRetriever",
    "Document",
    "Retriever",
    "RetrieverTool",
    "ScoredDocument",
    "conversation_text",
    "retrieve",
    "retrieve_conversation",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A passage of text that can be put before the model and cited."""

    text: str
    """The text itself."""
    doc_id: str | int = ""
    """Identifier, unique within one index."""
    title: str = ""
    """Heading or file title."""
    source: str = ""
    """Where the text is from: a path or a URL."""
    start: int | None = None
    """Offset of the first character within the source's text, if this is a chunk of it."""
    end: int | None = None
    """Offset one past the last character within the source's text."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that JSON can hold; never shown to the model."""

    def to_prompt(self) -> dict[str, Any]:
        """The object that Granite's documents section shows, keys in the format's order."""
        return {
            "doc_id": self.doc_id,
            "title": self.title,
            "text": self.text,
            "source": self.source,
        }

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values; the reverse of :meth:`from_dict`."""
        return {
            **self.to_prompt(),
            "start": self.start,
            "end": self.end,
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Document:
        """Build a document from :meth:`to_dict`'s output; unknown keys go into ``metadata``."""
        known = {"text", "doc_id", "title", "source", "start", "end"}
        extra = {k: v for k, v in data.items() if k not in known and k != "metadata"}
        return cls(
            **{k: v for k, v in data.items() if k in known},
            metadata={**data.get("metadata", {}), **extra},
        )


@dataclass(frozen=True, slots=True)
class ScoredDocument:
    """A document found by a search, with its score."""

    document: Document
    """What was found."""
    score: float
    """How well it fits; higher is better. The scale is the retriever's own."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the reverse of :meth:`from_dict`."""
        return {"document": self.document.to_dict(), "score": self.score}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScoredDocument:
        """Build from :meth:`to_dict`'s output."""
        return cls(Document.from_dict(data["document"]), float(data["score"]))


@runtime_checkable
class Retriever(Protocol):
    """Anything that finds documents for a query.

    A retriever may also have ``async def aretrieve`` with the same parameters, which is then
    preferred; otherwise ``retrieve`` runs in a worker thread.
    """

    def retrieve(self, query: str, *, top_k: int | None = None) -> Sequence[ScoredDocument]:
        """Return the best documents for ``query``, best first.

        Args:
            query: What to look for, in natural language.
            top_k: At most this many; ``None`` for the retriever's own default.
        """
        ...


@runtime_checkable
class ConversationRetriever(Protocol):
    """A retriever that reads the conversation, and not only the words of one query.

    It may also have ``async def aretrieve_conversation`` with the same parameters, which is
    then preferred; otherwise ``retrieve_conversation`` runs in a worker thread.
    """

    def retrieve_conversation(
        self, messages: Sequence[Message], *, top_k: int | None = None
    ) -> Sequence[ScoredDocument]:
        """Return the best documents for the last user message, best first.

        Args:
            messages: The conversation so far, of all roles.
            top_k: At most this many; ``None`` for the retriever's own default.
        """
        ...


def conversation_text(messages: Sequence[Message]) -> str:
    """A query in words for the last user message: the message, after the one before it.

    A follow-up question often leaves out its subject; the question before it names it. Empty
    if the last user message is, or if there is none.
    """
    asked = [m.content for m in messages if isinstance(m, UserMessage)]
    if not asked or not asked[-1].strip():
        return ""
    return "\n".join(text for text in asked[-2:] if text.strip())


async def retrieve_conversation(
    retriever: Retriever, messages: Sequence[Message], *, top_k: int | None = None
) -> list[ScoredDocument]:
    """Ask any retriever for what fits the last user message; none without such a message."""
    text = conversation_text(messages)
    if not text:
        return []
    native = getattr(retriever, "aretrieve_conversation", None)
    if native is not None:
        return list(await native(messages, top_k=top_k))
    if isinstance(retriever, ConversationRetriever):
        ask = retriever.retrieve_conversation
        return list(await asyncio.to_thread(ask, messages, top_k=top_k))
    return await retrieve(retriever, text, top_k=top_k)


async def retrieve(
    retriever: Retriever, query: str, *, top_k: int | None = None
) -> list[ScoredDocument]:
    """Ask any retriever without blocking the event loop."""
    native = getattr(retriever, "aretrieve", None)
    if native is not None:
        return list(await native(query, top_k=top_k))
    return list(await asyncio.to_thread(retriever.retrieve, query, top_k=top_k))


class RetrieverTool:
    """A retriever that the model calls itself, with its own query.

    Args:
        retriever: Where to look.
        name: The tool's name, as the model sees it.
        description: When to use it; name the subject of the documents here.
        top_k: How many documents one call returns.
        max_chars: Upper bound on the characters of text given back in one call; documents
            past it are left out, the first is cut.
        timeout: Seconds allowed for one search, ``None`` for the agent's default.
    """

    def __init__(
        self,
        retriever: Retriever,
        *,
        name: str = "search_documents",
        description: str = "Search the documents and return the passages that fit the query best.",
        top_k: int = 4,
        max_chars: int = 6000,
        timeout: float | None = None,
    ) -> None:
        self.retriever = retriever
        self.top_k = top_k
        self.max_chars = max_chars
        self.timeout = timeout
        self.definition = ToolDefinition(
            name=name,
            description=description,
            parameters={
                "type": "object",
                "properties": {
                    "query": {"type": "string", "minLength": 1, "description": "What to look for"}
                },
                "required": ["query"],
                "additionalProperties": False,
            },
        )

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Search and give the passages back, numbered, with their sources attached."""
        query = arguments["query"]
        if not query.strip():
            raise ToolError("the query is empty; pass the words to look for")
        hits = await retrieve(self.retriever, query, top_k=self.top_k)
        if not hits:
            raise ToolError("no document fits this query; try other words")
        parts: list[dict[str, Any]] = []
        left = self.max_chars
        for hit in hits:
            if left <= 0:
                break
            text = hit.document.text[:left]
            left -= len(text)
            parts.append({**hit.document.to_prompt(), "text": text})
        return ToolOutput(content=parts, sources=tuple(hits[: len(parts)]))
