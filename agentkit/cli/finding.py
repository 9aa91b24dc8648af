"""What ``agentkit doctor`` has to say of one thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What it is."""
    status: Literal["ok", "optional", "warning", "missing"]
    """How it is; ``optional`` is not there and need not be."""
    detail: str
    """In words."""
    fix: str = ""
    """The command that mends it, if anything is to be mended."""
    needed: bool = False
    """Whether no agent can run while it is missing."""
    data: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""
