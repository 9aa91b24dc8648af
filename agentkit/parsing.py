"""Reading tool calls out of a model's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.messages import new_call_id

__all__ = ["ParsedCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCall:
    """What one ``<tool_call>`` block says, whether it can be used or not."""

    raw: str
    """The text between the tags, exactly."""
    name: str | None = None
    """The function's name; ``None`` if the text names none."""
    arguments: Mapping[str, Any] | None = None
    """The arguments object; ``None`` if it could not be read."""
    repairs: tuple[str, ...] = ()
    """What had to be mended to read it, such as ``arguments were JSON inside a string``."""
    error: str | None = None
    """Why it cannot be used, in words for the model; ``None`` if it can."""
    id: str = field(default_factory=new_call_id, compare=False)
    """Identifier of the call."""
