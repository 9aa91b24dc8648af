"""A language model as the judge of a claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit.messages import AssistantMessage, SystemMessage, UserMessage
from agentkit.models.base import ModelRequest, Sampling, generate

if TYPE_CHECKING:
    from agentkit.models.base import Model

__all__ = ["judge_claim"]

_INSTRUCTION = "Does the source say what the claim says? Answer with yes or no."
_EXAMPLES = (
    ("The bridge was opened in 1932 by the premier.", "The bridge opened in 1932.", "yes"),
    ("The bridge was opened in 1932 by the premier.", "The bridge opened in 1945.", "no"),
)


async def judge_claim(judge: Model, claim: str, source: str) -> bool:
    """Ask a model whether a source supports a claim.

    Raises:
        ModelError: The model failed.
    """
    messages = [SystemMessage(_INSTRUCTION)]
    conversation = [
        message
        for text, said, verdict in _EXAMPLES
        for message in (UserMessage(_question(text, said)), AssistantMessage(verdict))
    ]
    request = ModelRequest(
        messages=[*messages, *conversation, UserMessage(_question(source, claim))],
        sampling=Sampling(max_tokens=4),
    )
    response = await generate(judge, request)
    return response.text.strip().lower().startswith("yes")


def _question(source: str, claim: str) -> str:
    return f"Source: {source}\nClaim: {claim}"
