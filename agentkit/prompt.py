"""A rendered prompt: its text, and which parts of it may act as delimiters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.messages import Generation

__all__ = ["Prompt", "PromptPart"]


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A stretch of prompt text of one kind."""

    text: str
    """The text."""
    trusted: bool = True
    """Whether delimiters in it are delimiters.

    False for everything that users, tools or documents wrote: there the characters of
    ``<|end_of_text|>`` are encoded as ordinary text and cannot close a turn."""
    generation: Generation | None = None
    """Tokens to use for this part as they are, if it repeats a turn that a model wrote."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model will read."""

    parts: tuple[PromptPart, ...]
    """In order; their texts joined are the prompt."""

    @property
    def text(self) -> str:
        """The whole prompt."""
        return "".join(part.text for part in self.parts)

    def __add__(self, parts: Sequence[PromptPart]) -> Prompt:
        return Prompt((*self.parts, *parts))
