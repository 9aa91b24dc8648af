"""How far a run may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from agentkit.errors import UserError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one run, and what happens when one is reached."""

    max_steps: int = 10
    """Turns of the model, each with the tools it calls."""
    max_tokens: int | None = None
    """Tokens read and written by the model in all. Tokens reused from the cache are free."""
    max_seconds: float | None = None
    """Wall time of the whole run, in seconds."""
    max_calls_per_tool: int | Mapping[str, int] | None = None
    """Calls of any one tool, or of the tools named."""
    max_retries: int = 2
    """Consecutive steps in which a call was invalid or a tool failed, after the first such step.
    Each gives the model the error to act on."""
    on_exceeded: Literal["answer", "raise"] = "answer"
    """``answer``: the model is asked for a final answer without tools (or, where time or tokens
    are spent, the text so far is the answer) and the result says which limit was reached.
    ``raise``: :class:`~agentkit.errors.LimitExceededError`, or
    :class:`~agentkit.errors.InvalidToolCallError` for ``max_retries``, with the result so far."""

    def __post_init__(self) -> None:
        if self.on_exceeded not in ("answer", "raise"):
            raise UserError(
                f"Limits.on_exceeded is {self.on_exceeded!r}; it must be 'answer' or 'raise'"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            floor = 0 if field.name in ("max_retries", "max_calls_per_tool") else 1
            if field.name == "max_seconds":
                if value is not None and not value > 0:
                    raise UserError(f"Limits.max_seconds is {value!r}; it must be above 0")
            elif isinstance(value, int | float) and value < floor:
                raise UserError(f"Limits.{field.name} is {value!r}; it must be at least {floor}")

    def calls_allowed(self, tool_name: str) -> int | None:
        """How many calls of a tool one run may make; ``None`` for any number."""
        if isinstance(self.max_calls_per_tool, Mapping):
            return self.max_calls_per_tool.get(tool_name)
        return self.max_calls_per_tool
