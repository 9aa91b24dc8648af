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
_ANSWER = re.compile(r"(?:yes|no|sure|you're|you are|i'm|i am|sorry)\b", re.IGNORECASE)


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

    What the model writes is taken only if it can be the question: it comes to an end, is no
    answer, has mostly the conversation's words, and most of the question's. Otherwise, and
    where the model fails, the user's question is kept. The embedded model of 135 million
    parameters is too small to gain anything by it (see ``docs/retrieval.md``). A conversation
    of one turn is not sent to the model.

    Args:
        model: What rewrites. It writes greedily, so that equal conversations give equal queries.
        turns: How many messages before the question it is shown.
        message_chars: Where earlier messages are cut.
        max_tokens: Upper bound on the question.
        max_new_words: Part of its words that may be foreign to the conversation.
        max_lost_words: Part of the user's words that it may leave out.

    Raises:
        UserError: ``turns`` is below 1, or a part is not from 0 to 1.
    """

    def __init__(
        self,
        model: Model,
        *,
        turns: int = 4,
        message_chars: int = 300,
        max_tokens: int = 64,
        max_new_words: float = 0.34,
        max_lost_words: float = 0.5,
    ) -> None:
        if turns < 1:
            raise UserError(f"turns must be at least 1, not {turns}")
        for name, part in (("max_new_words", max_new_words), ("max_lost_words", max_lost_words)):
            if not 0 <= part <= 1:
                raise UserError(f"{name} must be from 0 to 1, not {part}")
        self.model = model
        self.turns = turns
        self.message_chars = message_chars
        self.max_tokens = max_tokens
        self.max_new_words = max_new_words
        self.max_lost_words = max_lost_words

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
        reason = (
            "it does not end"
            if response.finish_reason == "length"
            else self._fault(proposal, query.question, transcript)
        )
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

    def _fault(self, proposal: str, question: str, transcript: str) -> str:
        """Why a proposal cannot be the question; empty if it can."""
        words, asked = _words(proposal), _words(question)
        if not words:
            return "it has no words"
        # Small models often answer or comment instead.
        if _ANSWER.match(proposal) or (question.rstrip().endswith("?") and proposal[-1] != "?"):
            return "it is an answer and no question"
        foreign = words - _words(transcript)
        if len(foreign) > self.max_new_words * len(words):
            return f"its words are not the conversation's: {', '.join(sorted(foreign)[:5])}"
        if len(asked - words) > self.max_lost_words * len(asked):
            lost = ", ".join(sorted(asked - words)[:5])
            return f"it leaves out what was asked: {lost}"
        return ""


def _words(text: str) -> set[str]:
    # The first letters, so that other forms of a word count as known.
    return {word[:5] for word in _WORD.findall(text.lower())}
