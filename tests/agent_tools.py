"""Tools and shortcuts that the tests of agents share."""

from __future__ import annotations

import asyncio
from typing import Any

from agentkit import (
    Agent,
    RunResult,
    ScriptedModel,
    ToolCall,
    ToolError,
    tool,
)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def slow(seconds: float, name: str) -> str:
    """Wait, then say so."""
    await asyncio.sleep(seconds)
    return f"{name} waited"


@tool
def broken(how: str) -> str:
    """Fail."""
    if how == "politely":
        raise ToolError("say please")
    raise ValueError(f"no {how}")


ADD = ToolCall(name="add", arguments={"a": 2, "b": 3})


def run(model: ScriptedModel, *tools: Any, prompt: str = "go", **options: Any) -> RunResult:
    return Agent(model, tools, **options).run_sync(prompt)
