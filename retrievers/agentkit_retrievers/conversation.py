"""What a conversation asks for: the last question, and before it what it may refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agentkit.errors import UserError
from agentkit.messages import UserMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentkit.messages import Message
    from agentkit_retrievers.embedding import Vectors

__all__ = ["ConversationQuery", "as_query", "embed_conversation"]

# Earlier turns that weigh less than this change no order.
_NEGLIGIBLE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationQuery:
    """A question with the user's turns before it."""

    question: str
    """The last turn."""
    earlier: tuple[str, ...] = ()
    """Turns before it, latest first."""

    def weighted(self, decay: float) -> list[tuple[str, float]]:
        """The question and the turns before it, each with its weight: 1, decay, decay² …

        Args:
            decay: 0 leaves the earlier turns out.
        """
        weights = [(self.question, 1.0)]
        weights += [(text, decay**n) for n, text in enumerate(self.earlier, start=1)]
        return [(text, weight) for text, weight in weights if weight >= _NEGLIGIBLE]


def as_query(messages: Sequence[Message]) -> ConversationQuery:
    """Read a conversation's user turns; empty ones are passed over.

    Raises:
        UserError: No user turn has any text.
    """
    asked = [m.content for m in messages if isinstance(m, UserMessage) and m.content.strip()]
    if not asked:
        raise UserError("the conversation has no question: no user message has any text")
    return ConversationQuery(question=asked[-1], earlier=tuple(reversed(asked[:-1])))


def embed_conversation(
    query: ConversationQuery, embed: Callable[[str], Vectors], *, decay: float
) -> Vectors:
    """One vector for a conversation: the weighted sum of its turns' vectors.

    Turns are embedded one by one, and not as one text, so that each has its weight however
    long it is.

    Args:
        query: The conversation.
        embed: Embeds a query, as :meth:`Embedder.embed_query` does.
        decay: See :meth:`ConversationQuery.weighted`.

    Returns:
        L2-normalised array of shape ``(dimension,)``.
    """
    parts = [np.float32(weight) * embed(text) for text, weight in query.weighted(decay)]
    total: Vectors = np.sum(parts, axis=0, dtype=np.float32)
    normalized: Vectors = total / max(float(np.linalg.norm(total)), 1e-12)
    return normalized
