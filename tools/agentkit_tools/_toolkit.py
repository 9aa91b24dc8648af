"""Several tools that belong together, as one thing to hand to an agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from agentkit.tools import Tool

__all__ = ["Toolkit"]


class Toolkit(Sequence[Tool]):
    """A sequence of tools: ``Agent(model, kit)``, or ``[*kit, other_tool]``.

    Args:
        tools: In the order in which the model is told of them.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = tuple(tools)

    @overload
    def __getitem__(self, index: int) -> Tool: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tool]: ...
    def __getitem__(self, index: int | slice) -> Tool | Sequence[Tool]:
        return self._tools[index]

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        names = ", ".join(tool.definition.name for tool in self._tools)
        return f"{type(self).__name__}({names})"
