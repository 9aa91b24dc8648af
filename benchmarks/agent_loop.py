"""What the agent loop itself costs per step, with a model and a tool that cost nothing."""

from __future__ import annotations

import time

from agentkit import Agent, Limits, ScriptedModel, ToolCall, tool
from benchmarks.report import Figure

STEPS = 500


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def run() -> list[Figure]:
    """A run of many steps, and a conversation of many turns."""
    calls = [ToolCall(name="add", arguments={"a": i, "b": 1}) for i in range(STEPS - 1)]
    agent = Agent(ScriptedModel([*calls, "done"]), [add], limits=Limits(max_steps=STEPS))
    begin = time.perf_counter()
    result = agent.run_sync("go")
    wall = time.perf_counter() - begin
    assert len(result.steps) == STEPS
    own = sum(step.overhead_seconds for step in result.steps)
    return [
        # All of it: the scripted model's events and the tool's own thread are in this figure.
        Figure(
            what="wall time per step: loop, validation, tool thread, scripted model",
            ours=1000 * wall / STEPS,
            unit="ms",
            at_most=5.0,
        ),
        Figure(
            what="of that outside of model and tools",
            ours=1000 * own / STEPS,
            unit="ms",
            at_most=5.0,
        ),
    ]
