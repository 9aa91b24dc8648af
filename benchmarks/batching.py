"""Eight agents at once against one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentkit import ModelRequest, Sampling, TransformersModel, UserMessage
from agentkit.models.base import ModelResponse, generate
from benchmarks.baseline import TEXT, interleaved
from benchmarks.report import Figure

AGENTS, TOKENS = 8, 48
TOPICS = ["bridges", "bread", "glass", "tides", "paper", "clocks", "salt", "maps"]


def run() -> list[Figure]:
    """Requests of some 150 tokens of their own each, 48 tokens written."""
    model = TransformersModel("embedded", lookup=False).load()
    try:
        requests = [
            ModelRequest(
                messages=[UserMessage(f"About {topic}. {TEXT * 2} Now a long story of {topic}.")],
                sampling=Sampling(max_tokens=TOKENS),
            )
            for topic in TOPICS
        ]

        def fresh(work: Callable[[], object]) -> Callable[[], object]:
            def run_it() -> object:
                model.engine.caches.clear()
                return work()

            return run_it

        async def together() -> list[ModelResponse]:
            return list(await asyncio.gather(*(generate(model, r) for r in requests)))

        async def in_turn() -> list[ModelResponse]:
            return [await generate(model, r) for r in requests]

        seconds = interleaved(
            {
                "together": fresh(lambda: asyncio.run(together())),
                "in turn": fresh(lambda: asyncio.run(in_turn())),
            },
            repeat=3,
        )
        first, second = asyncio.run(together()), asyncio.run(in_turn())
        assert [r.text for r in first] == [r.text for r in second], "company changed an answer"
        decode = {
            name: max(r.timings.decode for r in found)
            if name == "together"
            else sum(r.timings.decode for r in found)
            for name, found in (("together", first), ("in turn", second))
        }
        return [
            Figure(
                what=f"{AGENTS} requests at once, prefill included, against in sequence",
                ours=seconds["together"],
                baseline=seconds["in turn"],
                unit="s",
                at_least=2.0,
            ),
            Figure(
                what="the same, with prompts in the cache",
                ours=decode["together"],
                baseline=decode["in turn"],
                unit="s",
            ),
        ]
    finally:
        model.close()
