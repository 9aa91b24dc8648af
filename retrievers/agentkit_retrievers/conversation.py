"""What a conversation asks for: the last question, and before it what it may refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentkit.errors import UserError
from agentkit.messages import UserMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit.messages import Message

__all__ = ["ConversationQuery", "as_query"]


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
        return [(text, weight) for text, weight in weights if weight > 0]


def as_query(messages: Sequence[Message]) -> ConversationQuery:
    """Read a conversation's user turns; empty ones are passed over.

    Raises:
        UserError: No user turn has any text.
    """
    asked = [m.content for m in messages if isinstance(m, UserMessage) and m.content.strip()]
    if not asked:
        raise UserError("the conversation has no question: no user message has any text")
    return ConversationQuery(question=asked[-1], earlier=tuple(reversed(asked[:-1])))
