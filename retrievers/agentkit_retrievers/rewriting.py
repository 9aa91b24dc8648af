"""A model turns the last question of a conversation into one that stands alone."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentkit.errors import ModelError, UserError
from agentkit.messages import AssistantMessage, Message, SystemMessage, UserMessage
from agentkit.models.base import Model, ModelRequest, Sampling, generate
from agentkit_retrievers.conversation import as_query

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["QueryRewriter", "Rewrite"]

_INSTRUCTION = (
    "Rewrite the user's last question so that it can be understood without the conversation: "
    "put names in place of words such as it, they and there. Answer with the question alone."
)
# Small models follow a pattern, not an instruction.
_EXAMPLES = (
    (
        "User: Who wrote The Hobbit?\nAssistant: J. R. R. Tolkien.\nUser: When was he born?",
        "When was J. R. R. Tolkien born?",
    ),
    (
        "User: Is the library open on Sundays?\nAssistant: No, it is closed.\n"
        "User: And on Mondays?",
        "Is the library open on Mondays?",
    ),
    (
        "User: How do I create a bucket?\nAssistant: Choose Create in the console.\n"
        "User: What does a router do?",
        "What does a router do?",
    ),
)
_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """What became of a question."""

    text: str
    """The question to search for: the model's, or the user's own where that was of no use."""
    accepted: bool
    """Whether it is the model's."""
    reason: str = ""
    """Why the model's was not taken."""
    proposal: str = ""
    """What the model wrote."""


class QueryRewriter:
    """Rewrites follow-up questions with a language model.

    What the model writes is taken only if it can be a question about the conversation: it is
    short, and its words are mostly the conversation's own. Otherwise, and where the model
    fails, the user's question is kept. A conversation of one turn is not sent to the model.

    Args:
        model: What rewrites. It writes greedily, so that equal conversations give equal queries.
        turns: How many messages before the question it is shown.
        message_chars: Where earlier messages are cut.
        max_tokens: Upper bound on the question.
        max_new_words: Part of the question's words that may be foreign to the conversation.
    """

    def __init__(
        self,
        model: Model,
        *,
        turns: int = 4,
        message_chars: int = 300,
        max_tokens: int = 64,
        max_new_words: float = 0.34,
    ) -> None:
        if turns < 1:
            raise UserError(f"turns must be at least 1, not {turns}")
        if not 0 <= max_new_words <= 1:
            raise UserError(f"max_new_words must be from 0 to 1, not {max_new_words}")
        self.model = model
        self.turns = turns
        self.message_chars = message_chars
        self.max_tokens = max_tokens
        self.max_new_words = max_new_words

    async def arewrite(self, messages: Sequence[Message]) -> Rewrite:
        """Rewrite the last user message.

        Args:
            messages: The conversation.

        Raises:
            UserError: No user message has any text.
        """
        query = as_query(messages)
        if not query.earlier:
            return Rewrite(text=query.question, accepted=False, reason="it is the first question")
        transcript = self._transcript(messages)
        request = ModelRequest(
            messages=(
                SystemMessage(_INSTRUCTION),
                *(
                    message
                    for asked, rewritten in _EXAMPLES
                    for message in (UserMessage(asked), AssistantMessage(rewritten))
                ),
                UserMessage(transcript),
            ),
            sampling=Sampling(max_tokens=self.max_tokens, stop=("\n",)),
        )
        try:
            response = await generate(self.model, request)
        except ModelError as error:
            return Rewrite(text=query.question, accepted=False, reason=f"the model failed: {error}")
        proposal = " ".join(response.text.split()).removeprefix("User:").strip().strip("\"'")
        reason = self._fault(proposal, transcript, response.finish_reason)
        return Rewrite(
            text=query.question if reason else proposal,
            accepted=not reason,
            reason=reason,
            proposal=proposal,
        )

    def rewrite(self, messages: Sequence[Message]) -> Rewrite:
        """:meth:`arewrite`, for threads in which no event loop runs."""
        return asyncio.run(self.arewrite(messages))

    def _transcript(self, messages: Sequence[Message]) -> str:
        """The last turns as one text; as turns of the chat the model would go on answering."""
        lines = []
        for message in messages:
            if message.content.strip() and isinstance(message, UserMessage | AssistantMessage):
                who = "User" if isinstance(message, UserMessage) else "Assistant"
                lines.append((who, " ".join(message.content.split())))
        while lines and lines[-1][0] != "User":
            lines.pop()
        *earlier, (who, question) = lines
        kept = [f"{name}: {text[: self.message_chars]}" for name, text in earlier[-self.turns :]]
        return "\n".join([*kept, f"{who}: {question}"])

    def _fault(self, proposal: str, transcript: str, finish_reason: str) -> str:
        """Why a proposal cannot be the question; empty if it can."""
        if finish_reason == "length":
            return "it does not end"
        words = _words(proposal)
        if not words:
            return "it has no words"
        foreign = [word for word in words if word not in _words(transcript)]
        if len(foreign) > self.max_new_words * len(words):
            return f"its words are not the conversation's: {', '.join(sorted(foreign)[:5])}"
        return ""


def _words(text: str) -> set[str]:
    # The first letters, so that other forms of a word count as known.
    return {word[:5] for word in _WORD.findall(text.lower())}
