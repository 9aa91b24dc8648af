"""Running an agent before someone's eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit.errors import ModelError
from agentkit.events import RunFinished

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.cli.display import RunDisplay
    from agentkit.result import RunResult

__all__ = ["stream_run"]


async def stream_run(
    agent: Agent, prompt: str, display: RunDisplay, *, history: RunResult | None = None
) -> RunResult:
    """Run an agent and show each event as it happens.

    Args:
        agent: To run.
        prompt: The user's words.
        display: Shows the events.
        history: The conversation so far.
    """
    display.begin()
    try:
        async for event in agent.stream(prompt, history=history):
            display.show(event)
            if isinstance(event, RunFinished):
                return event.result
    finally:
        display.end()
    raise ModelError("the run ended without a result")
