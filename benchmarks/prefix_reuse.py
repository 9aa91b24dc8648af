"""The first token of a second run with the same tools, against the first run's."""

from __future__ import annotations

import asyncio
import statistics
import time

from agentkit import ModelRequest, Sampling, ToolDefinition, TransformersModel, UserMessage
from agentkit.models.base import generate
from benchmarks.report import Figure

TOOLS = [
    ToolDefinition(
        name=f"department_{i}",
        description="Ask a department of the town hall about one of the matters that it is "
        "responsible for; say what you want to know and by when you need the answer.",
        parameters={
            "type": "object",
            "properties": {
                "question": {"type": "string", "description": "What you want to know, in words"},
                "urgency": {"enum": ["low", "normal", "high"], "description": "How urgent it is"},
            },
            "required": ["question"],
        },
    )
    for i in range(14)
]


def run() -> list[Figure]:
    """A tool section of some 2,000 tokens, read once and forked by each run."""
    model = TransformersModel("embedded-base").load()
    try:
        firsts, seconds = [], []
        for number in range(4):
            model.engine.caches.clear()
            first, _ = _first_token(model, f"When does office {number} open?")
            again, reused = _first_token(model, f"Where do I pay fine {number}?")
            if number:
                firsts.append(first)
                seconds.append(again)
        return [
            Figure(
                what=f"first token, {reused} tokens of the prompt known from another run, "
                "against none known",
                ours=statistics.median(seconds),
                baseline=statistics.median(firsts),
                unit="s",
                at_least=10.0,
            )
        ]
    finally:
        model.close()


def _first_token(model: TransformersModel, question: str) -> tuple[float, int]:
    request = ModelRequest(
        messages=[UserMessage(question)], tools=TOOLS, sampling=Sampling(max_tokens=1)
    )
    begin = time.perf_counter()
    response = asyncio.run(generate(model, request))
    return time.perf_counter() - begin, response.usage.reused_tokens
