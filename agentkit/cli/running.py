"""Running an agent before someone's eyes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from agentkit.errors import ModelError
from agentkit.events import Event, RunFinished

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.approvals import ApprovalAnswer
    from agentkit.cli.display import RunDisplay
    from agentkit.messages import ToolCall
    from agentkit.result import RunResult

__all__ = ["stream_run"]


async def stream_run(
    agent: Agent,
    prompt: str,
    display: RunDisplay,
    *,
    history: RunResult | None = None,
    ask: Callable[[ToolCall], ApprovalAnswer],
) -> RunResult:
    """Run an agent and show each event as it happens.

    Args:
        agent: To run.
        prompt: The user's words.
        display: Shows the events.
        history: The conversation so far.
        ask: Answers for calls that need approval.
    """
    result = await _show(agent.stream(prompt, history=history), display)
    while result.pending:
        # Nothing else is going on: whoever is asked may block the loop.
        answers = {call.id: ask(call) for call in result.pending}
        result = await _show(agent.resume_stream(result, answers), display)
    return result


async def _show(events: AsyncIterator[Event], display: RunDisplay) -> RunResult:
    display.begin()
    try:
        async for event in events:
            display.show(event)
            if isinstance(event, RunFinished):
                return event.result
    finally:
        display.end()
    raise ModelError("the run ended without a result")
