"""Showing the model the few tools that a request may need, where an agent has many."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from agentkit.errors import UserError
from agentkit.messages import AssistantMessage, Message, UserMessage
from agentkit.tools import ToolDefinition

__all__ = ["ToolEmbedder", "ToolSelection", "ToolSelector", "tool_views"]

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_CONTEXT_WEIGHT = 0.9


@runtime_checkable
class ToolEmbedder(Protocol):
    """What a selector needs of an embedder, such as those of ``agentkit_retrievers``."""

    def embed_documents(self, texts: Sequence[str]) -> Any:
        """Vectors of length 1, as rows of an array."""
        ...

    def embed_query(self, text: str) -> Any:
        """One vector of length 1."""
        ...


@runtime_checkable
class ToolSelection(Protocol):
    """Anything that picks tools for a conversation."""

    async def select(
        self, tools: Sequence[ToolDefinition], messages: Sequence[Message]
    ) -> Iterable[str]:
        """Names of the tools that the prompts of a run show.

        Args:
            tools: All there are.
            messages: The conversation, examples included.
        """
        ...


class ToolSelector:
    """Picks the tools whose descriptions are closest to what the user asks for.

    A request is compared with each tool's name, description and parameters. The question before
    it counts as well, for follow-ups that leave out their subject. Tools that were called in the
    conversation stay. The choice is made once a run, so that the prompt's beginning, and with it
    the KV cache, stays the same until the user speaks again.

    Args:
        max_tools: How many tools are picked. An agent with no more than that shows them all.
        embedder: Turns texts into vectors; all-MiniLM-L6-v2 or what ``AGENTKIT_EMBEDDER`` names
            if not given (``pip install agentkit-granite[embedded]``).
        always: Names of tools that are always shown, besides those picked.

    Raises:
        UserError: ``max_tools`` is below 1, or the embedder is none.
    """

    def __init__(
        self,
        max_tools: int = 8,
        *,
        embedder: ToolEmbedder | None = None,
        always: Iterable[str] = (),
    ) -> None:
        if max_tools < 1:
            raise UserError(f"ToolSelector.max_tools is {max_tools!r}; it must be at least 1")
        if embedder is not None and not isinstance(embedder, ToolEmbedder):
            raise UserError(
                f"embedder is {embedder!r:.100}; it needs embed_documents() and embed_query(), as "
                "agentkit_retrievers.SentenceTransformerEmbedder has"
            )
        self.max_tools = max_tools
        self.always = frozenset((always,) if isinstance(always, str) else always)
        self._embedder = embedder
        self._lock = threading.Lock()
        self._vectors: dict[str, Any] = {}  # by the texts that they stand for

    async def select(
        self, tools: Sequence[ToolDefinition], messages: Sequence[Message]
    ) -> list[str]:
        """Pick tools for a conversation. See :meth:`ToolSelection.select`.

        Raises:
            UserError: One of ``always`` is not among the tools.
        """
        names = [tool.name for tool in tools]
        self.check(names)
        if len(tools) <= self.max_tools:
            return names
        kept = self.always | {
            call.name
            for message in messages
            if isinstance(message, AssistantMessage)
            for call in message.tool_calls
        }
        asked = [m.content for m in messages if isinstance(m, UserMessage) and m.content.strip()]
        ranked = await asyncio.to_thread(self.rank, tools, asked[-2:])
        kept |= {name for name, _ in ranked[: self.max_tools]}
        return [name for name in names if name in kept]

    def check(self, names: Sequence[str]) -> None:
        """Refuse tools that lack one of :attr:`always`.

        Raises:
            UserError: They do.
        """
        if missing := sorted(self.always.difference(names)):
            raise UserError(
                f"ToolSelector.always names {missing[0]!r}, but there is no such tool; there are "
                f"{', '.join(names) or 'none'}"
            )

    def rank(
        self, tools: Sequence[ToolDefinition], asked: Sequence[str]
    ) -> list[tuple[str, float]]:
        """All tools with their likeness to a request, the likeliest first.

        Args:
            tools: To choose among.
            asked: What the user said, the request last.
        """
        import numpy as np

        if not asked:
            return [(tool.name, 0.0) for tool in tools]
        with self._lock:  # Embedders may be slow, but need not be safe to use twice at once.
            vectors = self._embed(tools)
            embedder = self._ready_embedder()
            scores = vectors @ np.asarray(embedder.embed_query(asked[-1]))
            if len(asked) > 1:
                context = np.asarray(embedder.embed_query("\n".join(asked)))
                scores = np.maximum(scores, _CONTEXT_WEIGHT * (vectors @ context))
        order = np.argsort(-scores, kind="stable")
        return [(tools[i].name, float(scores[i])) for i in order]

    def _embed(self, tools: Sequence[ToolDefinition]) -> Any:
        import numpy as np

        views = [tool_views(tool) for tool in tools]
        texts = dict.fromkeys(text for view in views for text in view)
        new = [text for text in texts if text not in self._vectors]
        if new:
            rows = np.asarray(self._ready_embedder().embed_documents(new))
            self._vectors.update(zip(new, rows, strict=True))
        means = np.stack([np.mean([self._vectors[text] for text in view], 0) for view in views])
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)

    def _ready_embedder(self) -> ToolEmbedder:
        if self._embedder is None:
            from agentkit_retrievers import SentenceTransformerEmbedder

            self._embedder = SentenceTransformerEmbedder()
        return self._embedder


def tool_views(tool: ToolDefinition) -> list[str]:
    """A tool in plain words, for embedders: its name, what it does, and all with what it takes.

    The mean of the three finds tools better than any of them (``benchmarks/tool_selection.py``):
    descriptions carry the meaning, and names are what all of a service's tools differ in.
    """
    name = " ".join(_WORDS.findall(tool.name)).lower() or tool.name
    properties = tool.parameters.get("properties") or {}
    takes = ", ".join(" ".join(_WORDS.findall(key)).lower() for key in properties)
    whole = f"{name}: {tool.description}" if tool.description else name
    whole += f" ({takes})" if takes else ""
    return [name, tool.description, whole] if tool.description else [name, whole]
