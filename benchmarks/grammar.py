"""What constraining calls costs and saves, on the embedded model."""

from __future__ import annotations

import asyncio
import time
from unittest.mock import patch

from agentkit import ModelRequest, Sampling, ToolDefinition, TransformersModel, UserMessage
from agentkit.engine.grammar import CallConstraint
from agentkit.models.base import ModelResponse, generate
from benchmarks.report import Figure

TOOLS = [
    ToolDefinition(
        name="book_table",
        description="Book a table at a restaurant",
        parameters={
            "type": "object",
            "properties": {
                "restaurant": {"type": "string", "maxLength": 24},
                "number_of_guests": {"type": "integer", "minimum": 1, "maximum": 12},
                "seating_preference": {"enum": ["indoors", "outdoors", "bar"]},
                "wheelchair_accessible": {"type": "boolean"},
            },
            "required": [
                "restaurant",
                "number_of_guests",
                "seating_preference",
                "wheelchair_accessible",
            ],
        },
    )
]


def run() -> list[Figure]:
    """One call whose keys are forced, beside as many tokens sampled one by one."""
    model = TransformersModel("embedded-base").load()
    try:
        _ask(model, "required", 200)  # what is compiled and prefilled once
        call, call_seconds = _ask(model, "required", 200)
        tokens = call.usage.generated_tokens
        with patch.object(CallConstraint, "forced", lambda self: []):
            _, slow_seconds = _ask(model, "required", 200)
        text, text_seconds = _ask(model, "none", tokens)
        per_token = text_seconds / text.usage.generated_tokens
        return [
            Figure(
                what=f"a call of {tokens} tokens, {call.usage.forced_tokens} of them forced, "
                "against sampling each",
                ours=call_seconds,
                baseline=per_token * tokens,
                unit="s",
                at_least=1.0,
            ),
            Figure(
                what="the same call, against the same grammar without jump-forward",
                ours=call_seconds,
                baseline=slow_seconds,
                unit="s",
                at_least=1.5,
            ),
            Figure(
                what="grammar work per token of the call",
                ours=1000 * call.timings.grammar / tokens,
                unit="ms",
            ),
        ]
    finally:
        model.close()


def _ask(
    model: TransformersModel, tool_choice: str, max_tokens: int
) -> tuple[ModelResponse, float]:
    request = ModelRequest(
        messages=[UserMessage("Write a long story about a dinner for four at Luigi's, outdoors.")],
        tools=TOOLS,
        tool_choice=tool_choice,
        parallel_tool_calls=False,
        sampling=Sampling(max_tokens=max_tokens),
    )
    begin = time.perf_counter()
    response = asyncio.run(generate(model, request))
    return response, time.perf_counter() - begin
