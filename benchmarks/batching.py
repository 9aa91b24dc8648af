"""Eight agents at once against one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentkit import (
    Message,
    ModelRequest,
    Sampling,
    SystemMessage,
    TransformersModel,
    UserMessage,
)
from agentkit.models.base import ModelResponse, generate
from benchmarks.baseline import TEXT, interleaved
from benchmarks.report import Figure

AGENTS, TOKENS = 8, 48
TOPICS = ["bridges", "bread", "glass", "tides", "paper", "clocks", "salt", "maps"]


def run() -> list[Figure]:
    """Agents of one program, and requests that share nothing; 48 tokens written by each."""
    model = TransformersModel("embedded-base", lookup=False).load()
    try:
        shared = SystemMessage(f"You write about the history of things. {TEXT * 2}")
        agents = [(shared, UserMessage(f"Write a long story of {topic}.")) for topic in TOPICS]
        strangers = [
            (UserMessage(f"About {topic}. {TEXT * 2} Now a long story of {topic}."),)
            for topic in TOPICS
        ]
        return [
            _compare(
                model, agents, f"{AGENTS} agents of one program at once, against in sequence", 2.0
            ),
            _compare(
                model, strangers, f"{AGENTS} prompts of 150 tokens that share nothing, likewise"
            ),
        ]
    finally:
        model.close()


def _compare(
    model: TransformersModel,
    prompts: Sequence[Sequence[Message]],
    what: str,
    at_least: float | None = None,
) -> Figure:
    sampling = Sampling(max_tokens=TOKENS)
    requests = [ModelRequest(messages=messages, sampling=sampling) for messages in prompts]

    async def together() -> list[ModelResponse]:
        model.engine.caches.clear()
        return list(await asyncio.gather(*(generate(model, r) for r in requests)))

    async def in_turn() -> list[ModelResponse]:
        model.engine.caches.clear()
        return [await generate(model, r) for r in requests]

    first, second = asyncio.run(together()), asyncio.run(in_turn())
    assert [r.text for r in first] == [r.text for r in second], "company changed an answer"
    ways = {"together": lambda: asyncio.run(together()), "in turn": lambda: asyncio.run(in_turn())}
    seconds = interleaved(ways, repeat=3)
    return Figure(
        what=what,
        ours=seconds["together"],
        baseline=seconds["in turn"],
        unit="s",
        at_least=at_least,
    )
